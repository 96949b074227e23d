"""Record batches to tensors and back, against Polars on the whole frame."""

import contextlib
import io
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.arrow.arrow_messages import ArrowMessages
from penstock.core.arrow.arrow_schema import ArrowField, ArrowType, read_schema
from penstock.core.errors import InvalidInput, TooLarge
from penstock.core.signature import Signature
from penstock.core.tensors import Tensors
from penstock.serving.batching.outputs import BatchOutputs, BatchRows
from penstock.serving.protocols.rows.arrow import ArrowDecoder
from penstock.serving.protocols.rows.arrow_answers import ArrowEncoder
from penstock.serving.protocols.rows.arrow_columns import ArrowColumn, read_columns

SIGNATURE = Signature.of(
    inputs={"x": "FP32?[-1]", "n": "INT16[-1]", "s": "STRING[-1]", "on": "BOOL[-1]", "v": "FP64[-1, 2]"},
    outputs={"f": "FP32[-1]", "t": "STRING[-1]", "raw": "BYTES[-1]", "m": "INT64[-1, 2, 2]", "h": "FP16[-1]"},
)
FRAME = pl.DataFrame(
    {
        "x": [1.5, None, -2.0],
        "n": [1, -2, 32767],
        "s": ["a", "é", ""],
        "on": [True, False, True],
        "v": pl.Series([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=pl.Array(pl.Float64, 2)),
    }
)


def stream(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer)
    return buffer.getvalue()


def decode(signature: Signature, content: bytes) -> list[Tensors]:
    decoder = ArrowDecoder(signature)
    messages = ArrowMessages(message_bytes_max=1 << 26).feed(content)
    return [tensors for each in messages if (tensors := decoder.decode(each)) is not None]


def conformed(signature: Signature, frame: pl.DataFrame) -> dict[str, Any]:
    (tensors,) = decode(signature, stream(frame))
    return {name: array.tolist() for name, array in signature.conform(tensors).items()}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"x": pl.Float32, "n": pl.Int8},
        {"x": pl.Float64, "n": pl.Int64},
        {"s": pl.Categorical},
        {"s": pl.Enum(["", "a", "é"])},
        {"v": pl.List(pl.Float32)},
        {"v": pl.Array(pl.Int64, 2)},
    ],
)
def test_columns(change: dict[str, Any]) -> None:
    frame = FRAME.with_columns(pl.col("n").clip(-2, 127)).cast(change).select("v", "on", "s", "n", "x")
    assert repr(conformed(SIGNATURE, frame)) == repr(
        {
            "x": [1.5, float("nan"), -2.0],
            "n": [1, -2, 127],
            "s": ["a", "é", ""],
            "on": [True, False, True],
            "v": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
        }
    )


def test_a_matrix_in_columns() -> None:
    signature = Signature.of(inputs={"x": "FP32[-1, 2]"}, outputs={"y": "FP32[-1]"})
    assert conformed(signature, pl.DataFrame({"b": [1, 2], "a": [3.5, 4.5]})) == {"x": [[1, 3.5], [2, 4.5]]}
    assert conformed(signature, pl.DataFrame({"1": [1, 2], "0": [3.5, 4.5]})) == {"x": [[3.5, 1], [4.5, 2]]}
    assert conformed(signature, pl.DataFrame({"x": [[1.0, 2.0]]})) == {"x": [[1, 2]]}
    one = Signature.of(inputs={"x": "FP32[-1, 1]"}, outputs={"y": "FP32[-1]"})
    assert conformed(one, pl.DataFrame({"x": [1.0, 2.0]})) == {"x": [[1], [2]]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"x": pl.lit("far")}, "column 'x': expected FP32, got Utf8"),
        ({"n": pl.lit(1.5)}, "column 'n': expected INT16, got float64"),
        ({"s": pl.lit(1)}, "column 's': expected STRING"),
        ({"v": pl.lit(1.0)}, "'v'"),
        ({"v": pl.lit([1.0, 2.0, 3.0])}, r"expected shape \[-1, 2\], got \[3, 3\]"),
        ({"n": pl.lit(40_000)}, "outside -32768 to 32767"),
        ({"n": pl.lit(None, dtype=pl.Int16)}, "no place for missing values"),
        ({"more": pl.lit(1)}, "column 'more': expected no such column"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, pl.Expr], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        conformed(SIGNATURE, FRAME.with_columns(**change))


def test_a_missing_column_is_refused_before_any_row() -> None:
    with pytest.raises(InvalidInput, match="column 'on': expected BOOL"):
        decode(SIGNATURE, stream(FRAME.drop("on").clear()))


def test_records_need_a_schema_and_one_only() -> None:
    messages = ArrowMessages(message_bytes_max=1 << 26).feed(stream(FRAME))
    with pytest.raises(InvalidInput, match="begin with a schema"):
        ArrowDecoder(SIGNATURE).decode(messages[1])
    decoder = ArrowDecoder(SIGNATURE)
    decoder.decode(messages[0])
    with pytest.raises(InvalidInput, match="two schemas"):
        decoder.decode(messages[0])


def test_dictionaries_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.serving.protocols.rows.arrow.MESSAGE_BYTES_MAX", 10)
    with pytest.raises(TooLarge, match="dictionaries"):
        decode(SIGNATURE, stream(FRAME.cast({"s": pl.Categorical})))


def test_answers_are_read_back_by_polars() -> None:
    outputs: Tensors = {
        "f": np.array([1.5, np.nan, 3], dtype=np.float32),
        "t": np.array(["a", "é", ""], dtype=object),
        "raw": np.array([b"\xff", b"", b"a"], dtype=object),
        "m": np.arange(12).reshape(3, 2, 2),
        "h": np.array([1, 2, 3], dtype=np.float16),
    }
    batch = BatchOutputs(outputs)
    encoder = ArrowEncoder(SIGNATURE)
    content = encoder.encode(BatchRows(batch, 0, 2)) + encoder.encode(BatchRows(batch, 2, 3)) + encoder.end()
    frame = pl.read_ipc_stream(content)
    assert frame["f"].dtype == pl.Float32
    assert frame["t"].to_list() == ["a", "é", ""]
    assert frame["raw"].to_list() == [b"\xff", b"", b"a"]
    assert frame["m"].to_list() == outputs["m"].tolist()
    assert frame["h"].to_list() == [1, 2, 3]
    assert repr(frame["f"].to_list()) == repr([1.5, float("nan"), 3.0])


def test_no_rows_are_a_schema() -> None:
    frame = pl.read_ipc_stream(ArrowEncoder(SIGNATURE).end())
    assert frame.height == 0
    assert frame.columns == ["f", "t", "raw", "m", "h"]


BASE = stream(FRAME.cast({"s": pl.Categorical}))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(BASE) - 1), st.integers(1, 255)), min_size=1, max_size=4))
def test_flipped_bytes_give_tensors_or_invalid_input(flips: list[tuple[int, int]]) -> None:
    broken = bytearray(BASE)
    for place, flip in flips:
        broken[place] ^= flip
    with contextlib.suppress(InvalidInput):
        for tensors in decode(SIGNATURE, bytes(broken)):
            SIGNATURE.conform(tensors)


class LyingBatch:
    """What `RecordBatch` tells of itself: nodes, buffers and how many buffers each column of views has."""

    def __init__(self, rows: int, *vectors: list[tuple[int, ...]]) -> None:
        self._rows = rows
        self._vectors = {1: vectors[0], 2: vectors[1], 4: vectors[2] if len(vectors) > 2 else []}

    def has(self, field: int) -> bool:
        return field != 3

    def number(self, _field: int, _layout: str, _default: int = 0) -> int:
        return self._rows

    def structs(self, field: int, _layout: str) -> list[tuple[int, ...]]:
        return self._vectors[field]


def column(kind: str, *, dictionary: int | None = None) -> ArrowField:
    return ArrowField("s", ArrowType(kind), (), dictionary, ArrowType("Int", np.dtype("u1")))


def test_buffers_that_overlap_are_not_copied_once_each() -> None:
    """4 MiB of metadata have room for 262,144 buffers, each of which could be the whole body."""
    body = memoryview(bytes(1 << 20))
    buffers = [(0, 0), (0, 16), *[(0, len(body))] * 100_000]
    batch: Any = LyingBatch(1, [(1, 0)], buffers, [(100_000,)])
    with pytest.raises(InvalidInput, match="overlap"):
        read_columns((column("Utf8View"),), batch, body, {})


def test_rows_that_repeat_a_long_text_of_a_dictionary() -> None:
    text = np.array(["x" * (1 << 20)], dtype=object)
    batch: Any = LyingBatch(100, [(100, 0)], [(0, 0), (0, 100)])
    with pytest.raises(TooLarge, match="dictionaries undone"):
        read_columns(
            (column("Utf8", dictionary=0),), batch, memoryview(bytes(100)), {0: ArrowColumn(text, None, (1,))}
        )


def test_fields_that_share_one_long_name() -> None:
    class Field:
        def text(self, _field: int) -> str:
            return "n" * (1 << 20)

        def table(self, field: int) -> "Field | None":
            return self if field == 3 else None

        def tables(self, field: int) -> "list[Field]":
            return [self] * 10_000 if field == 1 else []

        def number(self, field: int, _layout: str) -> int:
            return 5 if field == 2 else 0

    schema: Any = Field()
    with pytest.raises(InvalidInput, match="names in its schema"):
        read_schema(schema)


def test_what_is_added_to_a_large_dictionary_counts_as_the_copy_that_it_takes() -> None:
    signature = Signature.of(inputs={"s": "STRING[-1]"}, outputs={"y": "FP32[-1]"})
    frame = pl.DataFrame({"s": ["a"]}, schema={"s": pl.Categorical})
    schema, dictionary, _ = ArrowMessages(message_bytes_max=1 << 26).feed(stream(frame))
    decoder = ArrowDecoder(signature)
    decoder.decode(schema)
    decoder.decode(dictionary)
    (number,) = decoder._dictionaries
    decoder._dictionaries[number] = ArrowColumn(np.full(1 << 20, "a", dtype=object), None, (1 << 20,))

    class Delta:
        content = dictionary.content
        body = dictionary.body

        class header:  # noqa: N801 - stands for the message's own
            table = staticmethod(dictionary.header.table)

            @staticmethod
            def number(field: int, layout: str) -> int:
                return 1 if field == 2 else dictionary.header.number(field, layout)

    delta: Any = Delta()
    delta.kind = dictionary.kind
    for _ in range(7):
        decoder.decode(delta)
    with pytest.raises(TooLarge, match="dictionaries"):
        decoder.decode(delta)
