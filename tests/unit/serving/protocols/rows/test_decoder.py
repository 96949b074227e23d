"""Rows to tensors, against frames and arrays that Polars and numpy make of the same rows."""

import contextlib
import json
import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.errors import InvalidInput
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import DataType, Tensors
from penstock.serving.protocols.rows.decoder import RowsDecoder
from penstock.serving.protocols.rows.fields import FIELDS_MAX, InvalidRows

OUTPUTS = Signature.of(inputs={"x": "FP32[-1]"}, outputs={"y": "FP32[-1]"}).outputs
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
ELEMENTS: dict[str, tuple[st.SearchStrategy[Any], Any]] = {
    "BOOL": (st.booleans(), pl.Boolean),
    "INT8": (st.integers(-128, 127), pl.Int8),
    "UINT16": (st.integers(0, 2**16 - 1), pl.UInt16),
    "INT64": (st.integers(-(2**63), 2**63 - 1), pl.Int64),
    "UINT64": (st.integers(0, 2**64 - 1), pl.UInt64),
    "FP32": (st.floats(width=32, allow_nan=False, allow_infinity=False), pl.Float32),
    "FP64": (st.floats(allow_nan=False, allow_infinity=False), pl.Float64),
    "FP32?": (st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False), pl.Float32),
    "STRING": (TEXTS, pl.String),
    "BYTES": (TEXTS, pl.String),
}
MATRIX = Signature.of(inputs={"x": "FP32[-1, 3]"}, outputs={"y": "FP32[-1]"})
MIXED = Signature.of(
    inputs={"delay": "FP32[-1]", "carrier": "STRING[-1]", "stops": "INT16[-1]", "spot": "FP64?[-1, 2]"},
    outputs={"y": "FP32[-1]"},
)


def decode(signature: Signature, body: object) -> Tensors:
    return signature.conform(RowsDecoder(signature).decode(json.dumps(body).encode()).tensors)


def refused(signature: Signature, body: object) -> InvalidInput:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    decoder = RowsDecoder(signature)
    with pytest.raises(InvalidInput) as caught:
        signature.conform(decoder.decode(content).tensors)
    return caught.value


def fields(signature: Signature, body: object) -> list[tuple[int | None, str, str, str]]:
    error = refused(signature, body)
    assert isinstance(error, InvalidRows), error
    return [(each.row, each.column, each.expected, each.got) for each in error.fields]


@st.composite
def frames(draw: st.DrawFn) -> tuple[Signature, list[str], list[list[Any]]]:
    """A signature of columns, their names and rows that fit."""
    kinds = draw(st.lists(st.sampled_from(sorted(ELEMENTS)), min_size=1, max_size=5))
    names = draw(st.lists(TEXTS, min_size=len(kinds), max_size=len(kinds), unique=True))
    specs = tuple(
        TensorSpec.parse("x", f"{kind}[-1]").__class__(
            name=name, datatype=DataType(kind.rstrip("?")), shape=(-1,), nan=kind.endswith("?")
        )
        for name, kind in zip(names, kinds, strict=True)
    )
    row = st.tuples(*(ELEMENTS[kind][0] for kind in kinds)).map(list)
    rows = draw(st.lists(row, min_size=1, max_size=4))
    return Signature(inputs=specs, outputs=OUTPUTS), names, rows


@settings(deadline=None)  # decoders are made anew for each example
@given(frames(), st.randoms(use_true_random=False))
def test_columns_come_out_as_polars_makes_them(
    case: tuple[Signature, list[str], list[list[Any]]], shuffle: Any
) -> None:
    signature, names, rows = case
    expected = {}
    for index, spec in enumerate(signature.inputs):
        kind = spec.datatype.value + ("?" if spec.nan else "")
        column = pl.Series([row[index] for row in rows], dtype=ELEMENTS[kind][1])
        expected[spec.name] = (
            [text.encode() for text in column] if kind == "BYTES" else column.fill_null(math.nan).to_list()
            if spec.nan else column.to_list()
        )  # fmt: skip
    order = list(range(len(names)))
    shuffle.shuffle(order)
    shuffled = [{names[index]: row[index] for index in order} for row in rows]
    bodies = [
        {"dataframe_records": shuffled},
        {"instances": shuffled},
        {"instances": rows},
        {"dataframe_split": {"columns": names, "data": rows}},
        {
            "dataframe_split": {
                "columns": [names[index] for index in order],
                "index": list(range(len(rows))),
                "data": [[row[index] for index in order] for row in rows],
            },
            "params": {},
        },
        {"inputs": {names[index]: [row[index] for row in rows] for index in order}},
    ]
    if len(names) == 1:
        bodies += [{"instances": [row[0] for row in rows]}, {"inputs": [row[0] for row in rows]}]
    for body in bodies:
        tensors = decode(signature, body)
        assert {name: array.dtype for name, array in tensors.items()} == {
            spec.name: spec.dtype for spec in signature.inputs
        }
        assert repr({name: array.tolist() for name, array in tensors.items()}) == repr(expected)


@settings(deadline=None)  # decoders are made anew for each example
@given(
    st.sampled_from(["FP32", "FP64?", "INT8", "BOOL", "STRING"]),
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
    st.integers(1, 4),
    st.data(),
)
def test_a_matrix_comes_out_as_numpy_makes_it(
    kind: str, axes: list[int], rows: int, data: st.DataObject
) -> None:
    signature = Signature.of(
        inputs={"x": f"{kind}[-1, {', '.join(map(str, axes))}]"}, outputs={"y": "FP32[-1]"}
    )
    spec = signature.inputs[0]
    count = rows * math.prod(axes)
    elements, _ = ELEMENTS["FP32?" if kind == "FP64?" else kind]
    flat = data.draw(st.lists(elements, min_size=count, max_size=count))
    wanted = np.array(flat, dtype=spec.dtype).reshape(rows, *axes)
    cells = np.empty(count, dtype=object)
    cells[:] = flat
    nested = cells.reshape(rows, *axes).tolist()
    bodies: list[Any] = [
        {"instances": nested},
        {"inputs": nested},
        {"inputs": {"x": nested}},
        {"instances": [{"x": row} for row in nested]},
        {"dataframe_records": [{"x": row} for row in nested]},
        {"dataframe_split": {"columns": ["x"], "data": [[row] for row in nested]}},
    ]
    if len(axes) == 1:
        names = [f"f{index}" for index in range(axes[0])]
        numbers = list(range(axes[0]))
        bodies += [
            {"dataframe_split": {"columns": names, "data": nested}},
            {"dataframe_split": {"columns": numbers[::-1], "data": [row[::-1] for row in nested]}},
            {"dataframe_records": [dict(zip(names, row, strict=True)) for row in nested]},
            {
                "dataframe_records": [
                    dict(zip(map(str, numbers[::-1]), row[::-1], strict=True)) for row in nested
                ]
            },
        ]
    for body in bodies:
        given_array = decode(signature, body)["x"]
        assert given_array.dtype == spec.dtype
        assert repr(given_array.tolist()) == repr(wanted.tolist()), body


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["x", "delay", "0", "é"]), inner)
    ),
    max_leaves=12,
)
FORMS = ["dataframe_records", "dataframe_split", "instances", "inputs", "params", "other"]


@settings(deadline=None)  # decoders are made anew for each example
@given(
    st.sampled_from([MATRIX, MIXED, Signature.of(inputs={"x": "INT64[-1]"}, outputs={"y": "FP32[-1]"})]),
    st.dictionaries(st.sampled_from(FORMS), JSON, max_size=2)
    | JSON
    | st.fixed_dictionaries(
        {"dataframe_split": st.fixed_dictionaries({"columns": JSON, "data": st.lists(st.lists(JSON))})}
    ),
)
def test_whatever_comes_is_tensors_or_invalid_input(signature: Signature, body: object) -> None:
    decoder = RowsDecoder(signature)
    content = json.dumps(body).encode()
    with contextlib.suppress(InvalidInput):
        signature.conform(decoder.decode(content).tensors)
    with contextlib.suppress(InvalidInput):
        signature.conform(decoder.decode_lines([content, content]))


@settings(deadline=None)  # decoders are made anew for each example
@given(st.binary(max_size=40))
def test_whatever_bytes_come(body: bytes) -> None:
    try:
        RowsDecoder(MATRIX).decode(body)
    except InvalidInput:
        return
    assert json.loads(body)


ROW = {"delay": 1.0, "carrier": "AA", "stops": 2, "spot": [1, None]}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"delay": "x"}, (0, "delay", "a number", "'x'")),
        ({"delay": None}, (0, "delay", "a number (there is no place for missing values)", "null")),
        ({"delay": True}, (0, "delay", "a number", "true")),
        ({"delay": [1]}, (0, "delay", "a number", "a list of 1")),
        ({"delay": 1e39}, (0, "delay", "a number that FP32 can hold", "1e+39")),
        ({"delay": 10**400}, (0, "delay", "a number that FP32 can hold", None)),
        ({"carrier": 5}, (0, "carrier", "a string", "5")),
        ({"carrier": {"a": 1}}, (0, "carrier", "a string", "an object")),
        ({"stops": 1.5}, (0, "stops", "an integer", "1.5")),
        ({"stops": 40_000}, (0, "stops", "an integer from -32768 to 32767", "40000")),
        ({"spot": [1]}, (0, "spot", "a list of 2", "a list of 1")),
        ({"spot": [1, "x"]}, (0, "spot[1]", "a number", "'x'")),
        ({"spot": 3}, (0, "spot", "a list of 2", "3")),
        ({"surplus": 3}, (0, "surplus", "no such column", "3")),
    ],
)
def test_the_field_at_fault_is_named(change: dict[str, Any], expected: tuple[Any, ...]) -> None:
    found = fields(MIXED, {"dataframe_records": [ROW | change, ROW]})
    assert len(found) == 1
    assert all(wanted in (None, got) for wanted, got in zip(expected, found[0], strict=True)), found


def test_an_integer_may_be_written_as_a_float() -> None:
    tensors = decode(MIXED, {"dataframe_records": [ROW | {"stops": 3.0}]})
    assert tensors["stops"].tolist() == [3]


def test_a_missing_column_is_named() -> None:
    row = {name: value for name, value in ROW.items() if name != "stops"}
    assert fields(MIXED, {"dataframe_records": [ROW, row]}) == [(1, "stops", "INT16[-1]", "nothing")]
    split = {"columns": list(row), "data": [list(row.values())]}
    assert fields(MIXED, {"dataframe_split": split}) == [(None, "stops", "INT16[-1]", "nothing")]
    columns = {name: [value] for name, value in row.items()}
    assert fields(MIXED, {"inputs": columns}) == [(None, "stops", "INT16[-1]", "nothing")]


def test_several_fields_are_told_at_once_up_to_a_bound() -> None:
    rows = [ROW | {"delay": "x", "stops": "y"} for _ in range(FIELDS_MAX)]
    found = fields(MIXED, {"dataframe_records": rows})
    assert len(found) == FIELDS_MAX
    assert {column for _, column, _, _ in fields(MIXED, {"dataframe_records": rows[:2]})} == {"delay", "stops"}


def test_the_column_of_a_matrix_is_named() -> None:
    columns = ["a", "b", "c"]
    found = fields(MATRIX, {"dataframe_split": {"columns": columns, "data": [[1, 2, 3], [1, "x", 3]]}})
    assert found == [(1, "b", "a number", "'x'")]
    assert fields(MATRIX, {"instances": [[1, 2, "x"]]}) == [(0, "x[2]", "a number", "'x'")]
    assert fields(MATRIX, {"instances": [[1, 2, 3], [1, 2]]}) == [(1, "x", "a list of 3", "a list of 2")]
    assert fields(MATRIX, {"dataframe_records": [{"a": 1, "b": 2}]}) == [(None, "x", "3 columns", "2")]


def test_an_unknown_category_is_explained() -> None:
    spec = TensorSpec(name="c", datatype=DataType.STRING, shape=(-1,), categories=("AA", "B6"))
    signature = Signature(inputs=(spec,), outputs=OUTPUTS)
    body = json.dumps({"instances": ["AA", "QQ"]}).encode()
    with pytest.raises(InvalidRows) as caught:
        RowsDecoder(signature).explain(body)
    (field,) = caught.value.fields
    assert (field.row, field.column, field.expected, field.got) == (1, "c", "one of 'AA', 'B6'", "'QQ'")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"instances": [[1, NaN, 2]]}', "got nan"),
        (b'{"instances": [NaN', "not JSON"),
        ({"dataframe_records": [{"x": [1, 2, 3]}, {}]}, "row 1"),
        ({"dataframe_records": [{"x": [1, 2, 3]}, {"x": [1, 2, 3], "q": 1}]}, "row 1"),
        ([], "a list of 0, not an object"),
        ({}, "0 forms"),
        ({"instances": [[1, 2, 3]], "inputs": [[1, 2, 3]]}, "2 forms"),
        ({"instances": [[1, 2, 3]], "input": 1}, "'input' is none of the forms"),
        (b'{"instances": [["NaN", "\\ud800", 3]]}', "not JSON"),
        (b'{"dataframe_records": [{"\\udc00": NaN}]}', "not JSON"),
        ({"instances": [[1, 2, 3]], "params": 3}, "params is 3"),
        ({"instances": []}, "zero rows"),
        ({"inputs": []}, "zero rows"),
        ({"dataframe_records": []}, "dataframe_records"),
        ({"dataframe_split": {"columns": ["a", "b", "c"], "data": []}}, "zero rows"),
        ({"dataframe_split": {"columns": ["a", "b", "a"], "data": [[1, 2, 3]]}}, "'a' is given twice"),
        ({"dataframe_split": {"columns": [1.5, "b", "a"], "data": [[1, 2, 3]]}}, "expected names"),
        ({"dataframe_split": {"data": [[1, 2, 3]]}}, "not an object of columns and data"),
        ({"dataframe_split": 3}, "not an object of columns and data"),
        ({"instances": 3}, "expected a list"),
        ({"instances": [[1, 2, 3], {"x": [1, 2, 3]}]}, "row 0: expected an object"),
        ({"inputs": {"x": [[1, 2, 3]], "z": [1]}}, "'z'"),
    ],
)
def test_mistakes_are_told(body: object, said: str) -> None:
    assert said in refused(MATRIX, body).message


def test_records_are_by_name_once_their_columns_have_names() -> None:
    """The first one's order is the model's; those after it may have another."""
    rows = [{"a": 1, "b": 2, "c": 3}, {"c": 3, "a": 1, "b": 2}]
    assert decode(MATRIX, {"dataframe_records": rows})["x"].tolist() == [[1, 2, 3], [1, 2, 3]]


def test_lines_are_rows() -> None:
    decoder = RowsDecoder(MATRIX)
    lines = [b"[1, 2, 3]", b"[4, 5, 6]\r"]
    assert decoder.decode_lines(lines)["x"].tolist() == [[1, 2, 3], [4, 5, 6]]
    records = [b'{"a": 1, "b": 2, "c": 3}', b'{"x": [4, 5, 6]}']
    assert decoder.decode_line(records[1])["x"].tolist() == [[4, 5, 6]]
    assert decoder.decode_lines(records[:1])["x"].tolist() == [[1, 2, 3]]


def test_columns_by_name_do_not_depend_on_what_came_before() -> None:
    """Columns that were seen once are known; others of the same number are not taken for them."""
    decoder = RowsDecoder(MATRIX)
    for columns, expected in (
        (["2", "1", "0"], [3, 2, 1]),
        (["0", "1", "2"], [1, 2, 3]),
        (["a", "b", "c"], [1, 2, 3]),
    ):
        body = json.dumps({"dataframe_split": {"columns": columns, "data": [[1, 2, 3]]}}).encode()
        for _ in range(2):
            assert decoder.decode(body).tensors["x"].tolist() == [expected]


@pytest.mark.parametrize("rows", ["[[1, 2, 3]]", '[[1, 2, 3.0], {"x": 1}]'])
def test_params_are_ignored_and_told_of_once(rows: str, caplog: pytest.LogCaptureFixture) -> None:
    decoder = RowsDecoder(MATRIX)
    for _ in range(3):
        with contextlib.suppress(InvalidRows, InvalidInput):
            decoder.decode(f'{{"instances": {rows}, "params": {{"temperature": 1}}}}'.encode())
    assert caplog.messages == ["params of invocations are ignored, here 'temperature': no model takes any"]


def test_a_large_frame_of_names_takes_no_time_that_grows_with_their_square() -> None:
    """A hundred thousand names compared each with each would take minutes."""
    names = [str(index) for index in range(100_000)]
    wide = Signature.of(inputs={"x": "FP32[-1, -1]"}, outputs={"y": "FP32[-1]"})
    assert (
        "'99999' is given twice"
        in refused(wide, {"dataframe_split": {"columns": [*names, names[-1]], "data": []}}).message
    )
    split = {"columns": names[::-1], "data": [list(range(100_000))]}
    assert decode(wide, {"dataframe_split": split})["x"][0, :2].tolist() == [99_999, 99_998]


@pytest.mark.parametrize(("name", "largest"), [("FP16", 65519.99), ("FP32", 3.4028235677973362e38)])
def test_a_number_that_rounds_to_infinity_is_named_among_many(name: str, largest: float) -> None:
    signature = Signature.of(inputs={"x": f"{name}[-1]", "s": "STRING[-1]"}, outputs={"y": "FP32[-1]"})
    rows = [[largest, "a"]] * 1000
    beyond = math.nextafter(largest, math.inf) if name == "FP32" else 65520.0
    with np.errstate(over="ignore"):
        assert decode(signature, {"instances": [*rows, [1e-300, "b"]]})["x"].shape == (1001,)
    ((row, column, expected, _),) = fields(signature, {"instances": [*rows, [-beyond, "b"]]})
    assert (row, column, expected) == (1000, "x", f"a number that {name} can hold")
