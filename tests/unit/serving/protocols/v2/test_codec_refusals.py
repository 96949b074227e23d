"""Whatever is wrong with a body is the sender's to hear: `InvalidInput`, never another exception."""

import contextlib
import json
import struct
import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.errors import InvalidInput
from penstock.core.signature import Signature
from penstock.serving.protocols.v2.codec import V2Codec

SIGNATURES = {
    "floats": Signature.of(inputs={"x": "FP32[-1, 2]"}, outputs={"y": "FP32[-1]"}),
    "nan": Signature.of(inputs={"x": "FP64?[-1]"}, outputs={"y": "FP32[-1]"}),
    "halves": Signature.of(inputs={"x": "FP16[-1]"}, outputs={"y": "FP32[-1]"}),
    "brain": Signature.of(inputs={"x": "BF16?[-1]"}, outputs={"y": "BF16[-1]"}),
    "small": Signature.of(inputs={"x": "UINT8[-1]"}, outputs={"y": "FP32[-1]"}),
    "text": Signature.of(inputs={"x": "STRING[-1]"}, outputs={"y": "STRING[-1]"}),
    "bytes": Signature.of(inputs={"x": "BYTES[-1]"}, outputs={"y": "BYTES[-1]"}),
    "open": Signature.of(inputs={"x": "INT64[-1, -1]"}, outputs={"y": "FP32[-1]"}),
    "mixed": Signature.of(
        inputs={"x": "FP32[-1, 2]", "s": "STRING[-1]", "b": "BOOL[-1]", "i": "INT32?[-1]".replace("?", "")},
        outputs={"y": "FP32[-1]", "z": "BYTES[-1]"},
    ),
}
CODECS = {name: V2Codec(model="m", version="1", signature=signature) for name, signature in SIGNATURES.items()}


def infer(name: str, body: bytes, json_bytes: int | None = None) -> None:
    """What a server does with a body before it runs anything."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Once a process, on stderr; the request is refused all the same.
        warnings.filterwarnings("ignore", "overflow encountered in cast")
        request = CODECS[name].decode(body, json_bytes)
        SIGNATURES[name].conform(request.tensors)


def x(**changes: Any) -> dict[str, Any]:
    given_input = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]} | changes
    return {key: value for key, value in given_input.items() if value is not ...}


def body(*inputs: Any, **more: Any) -> bytes:
    return json.dumps({"inputs": list(inputs)} | more).encode()


def test_the_bodies_that_the_cases_below_change_are_right() -> None:
    infer("floats", body(x()))
    raw = struct.pack("<2f", 1, 2)
    head = body(x(data=..., parameters={"binary_data_size": 8}))
    infer("floats", head + raw, len(head))


WRONG_JSON = {
    "missing input": (body(), "missing ['x']"),
    "unknown input": (body(x(), x(name="z")), "unknown ['z']"),
    "other input": (body(x(name="z")), "missing ['x'], unknown ['z']"),
    "twice": (body(x(), x()), "input 'x' is given twice"),
    "dtype": (body(x(datatype="FP64")), "expected datatype FP32, got 'FP64'"),
    "unknown dtype": (body(x(datatype="FLOAT")), "got 'FLOAT'"),
    "case of dtype": (body(x(datatype="fp32")), "got 'fp32'"),
    "rank": (body(x(shape=[2])), "expected shape [-1, 2], got [2]"),
    "higher rank": (body(x(shape=[1, 1, 2])), "expected shape [-1, 2]"),
    "row": (body(x(shape=[2, 1])), "expected shape [-1, 2], got [2, 1]"),
    "no axes": (body(x(shape=[], data=[1.0])), "[] is not a shape"),
    "negative axis": (body(x(shape=[-1, 2])), "is not a shape"),
    "negative axes": (body(x(shape=[-1, -2])), "is not a shape"),
    "huge axis": (body(x(shape=[2**63, 2])), "elements"),
    "very huge axis": (body(x(shape=[10**30, 2])), "elements, data has 2"),
    "zero rows": (body(x(shape=[0, 2], data=[])), "zero rows"),
    "zero rows of a huge width": (body(x(shape=[0, 2**62], data=[])), "no array has the shape"),
    "zero rows of a very huge width": (body(x(shape=[0, 2**63], data=[])), "no array has the shape"),
    "zero width of huge rows": (body(x(shape=[2**62, 0], data=[])), "no array has the shape"),
    "too many axes": (body(x(shape=[1] * 80, data=[1.0])), "a shape of 80 axes"),
    "float axis": (body(x(shape=[1.5, 2])), "Expected `int`"),
    "text axis": (body(x(shape=["1", 2])), "Expected `int`"),
    "boolean axis": (body(x(shape=[True, 2])), "Expected `int`"),
    "shape no list": (body(x(shape=2)), "Expected `array`"),
    "few elements": (body(x(data=[1.0])), "takes 2 elements, data has 1"),
    "many elements": (body(x(data=[1.0, 2.0, 3.0])), "takes 2 elements, data has 3"),
    "no elements": (body(x(data=[])), "takes 2 elements, data has 0"),
    "text": (body(x(data=[1.0, "2"])), "element 1: expected a number, got '2'"),
    "boolean": (body(x(data=[True, 2.0])), "element 0: expected a number, got True"),
    "object": (body(x(data=[{}, 2.0])), "element 0: expected a number, got {}"),
    "null": (body(x(data=[None, 2.0])), "element 0: expected a number, got null"),
    "only null": (body(x(data=None)), "input 'x' has no data"),
    "no list": (body(x(data=1.0)), "Expected `array | null`"),
    "data missing": (body(x(data=...)), "input 'x' has no data"),
    "nested unevenly": (body(x(data=[[1.0], 2.0])), "nested unevenly"),
    "nested unevenly after": (body(x(data=[1.0, [2.0]])), "element 1"),
    "nested too deeply for its shape": (body(x(data=[[[1.0, 2.0]]])), "takes 2 elements, data has 1"),
    "nested empty": (body(x(data=[[], []])), "takes 2 elements, data has 0"),
    "no number": (b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[NaN,1]}]}', "not JSON"),
    "too large for its type": (body(x(data=[1e39, 1.0])), "row 0: the model has no place for inf"),
    "huge integer": (body(x(data=[10**400, 1])), "too large"),
    "huge digits": (body(x(data=[1, 2])).replace(b"[1, 2]}", b"[1, " + b"9" * 5000 + b"]}"), "out of range"),
    "name missing": (body(x(name=...)), "missing required field `name`"),
    "name no text": (body(x(name=1)), "Expected `str`"),
    "shape missing": (body(x(shape=...)), "missing required field `shape`"),
    "dtype missing": (body(x(datatype=...)), "missing required field `datatype`"),
    "dtype no text": (body(x(datatype=5)), "Expected `str`"),
    "id no text": (body(x(), id=5), "Expected `str | null`"),
    "inputs missing": (b"{}", "missing required field `inputs`"),
    "inputs null": (b'{"inputs":null}', "Expected `array`"),
    "input no object": (body(5), "Expected `object`"),
    "no object": (b"[]", "Expected `object`"),
    "unknown output": (body(x(), outputs=[{"name": "q"}]), "unknown output 'q'"),
    "output without name": (body(x(), outputs=[{}]), "missing required field `name`"),
    "output twice": (body(x(), outputs=[{"name": "y"}] * 40_000), "output 'y' is asked for twice"),
    "outputs more than there are": (
        body(x(), outputs=[{"name": "y"}, *({"name": f"y{n}"} for n in range(40_000))]),
        "unknown output 'y0'",
    ),
    "long name": (body(x(name="n" * 100_000)), "unknown ['nnn"),
    "long name twice": (body(x(name="n" * 100_000), x(name="n" * 100_000)), "nnn…' is given twice"),
    "long dtype": (body(x(datatype="d" * 100_000)), "got 'ddd"),
    "long output": (body(x(), outputs=[{"name": "q" * 100_000}]), "unknown output 'qqq"),
    "long axes": (body(x(shape=[10**3000] * 60)), "elements"),
    "long timeout": (body(x(), parameters={"timeout": "t" * 100_000}), "parameter 'timeout' is 'ttt"),
    "long size": (body(x(parameters={"binary_data_size": ["s" * 100_000]})), "binary_data_size is ['sss"),
    "outputs no list": (body(x(), outputs={}), "Expected `array | null`"),
    "parameters no object": (body(x(), parameters=[]), "Expected `object | null`"),
    "timeout text": (body(x(), parameters={"timeout": "1"}), "parameter 'timeout' is '1'"),
    "timeout negative": (body(x(), parameters={"timeout": -1}), "parameter 'timeout' is -1"),
    "timeout boolean": (body(x(), parameters={"timeout": True}), "parameter 'timeout' is True"),
    "timeout null": (body(x(), parameters={"timeout": None}), "parameter 'timeout' is None"),
    "binary flag text": (body(x(), parameters={"binary_data_output": "yes"}), "'binary_data_output' is 'yes'"),
    "binary flag of an output": (
        body(x(), outputs=[{"name": "y", "parameters": {"binary_data": 1}}]),
        "'binary_data' is 1",
    ),
    "binary size without binary": (body(x(parameters={"binary_data_size": 8})), "0 bytes left"),
    "binary size text": (body(x(parameters={"binary_data_size": "8"})), "binary_data_size is '8'"),
    "binary size boolean": (body(x(parameters={"binary_data_size": True})), "binary_data_size is True"),
    "binary size negative": (body(x(parameters={"binary_data_size": -8})), "binary_data_size is -8"),
    "binary size float": (body(x(parameters={"binary_data_size": 8.0})), "binary_data_size is 8.0"),
    "binary size huge": (body(x(parameters={"binary_data_size": 10**30})), "0 bytes left"),
    "empty": (b"", "not JSON"),
    "truncated": (body(x())[:-5], "not JSON"),
    "more after it": (body(x()) + b"x", "not JSON"),
    "not UTF-8": (body(x()).replace(b'"x"', b'"\xff"'), "not JSON"),
    "half a surrogate pair": (body(x()).replace(b'"x"', b'"\\ud800"'), "not JSON"),
    "nested deeply": (b'{"inputs":' + b"[" * 100_000, "Expected `object`"),
    "nested deeply in data": (
        body(x(data=["D"])).replace(b'"D"', b"[" * 5000 + b"]" * 5000),
        "nested too deeply",
    ),
    "nested deeply in what is skipped": (
        body(x(), q="D").replace(b'"D"', b"[" * 5000 + b"]" * 5000),
        "nested too deeply",
    ),
}


@pytest.mark.parametrize("case", WRONG_JSON)
def test_wrong_json(case: str) -> None:
    content, said = WRONG_JSON[case]
    with pytest.raises(InvalidInput) as raised:
        infer("floats", content)
    assert said in str(raised.value)
    assert len(str(raised.value)) < 1000
    assert len(raised.value.where or "") < 1000
    assert len(raised.value.hint or "") < 1000


class CountedName(str):
    """A name that counts the comparisons made with it."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        CountedName.compared += 1
        return super().__eq__(other)

    __hash__ = str.__hash__


def test_names_are_compared_a_few_times_each(monkeypatch: pytest.MonkeyPatch) -> None:
    many = 2_000
    codec = CODECS["floats"]
    decode = codec._decode_message

    def counted(content: bytes) -> tuple[Any, bool]:
        message, typed = decode(content)
        for given_input in message.inputs:
            given_input.name = CountedName(given_input.name)
        return message, typed

    monkeypatch.setattr(codec, "_decode_message", counted)
    CountedName.compared = 0
    with pytest.raises(InvalidInput, match="and 1990 more") as raised:
        codec.decode(body(*(x(name=f"n{number}") for number in range(many))), None)
    assert CountedName.compared < 10 * many
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("small", {"data": [1, 256]}, ""),
        ("small", {"data": [1, -1]}, ""),
        ("small", {"data": [1, 1.0]}, "element 1: expected an integer that is not negative, got 1.0"),
        ("small", {"data": [1, True]}, "element 1"),
        ("small", {"data": [1, None]}, "got null"),
        ("small", {"data": [1, 2**70]}, ""),
        ("open", {"data": [1, 2**63], "shape": [1, 2]}, ""),
        ("open", {"data": [1, -(2**63) - 1], "shape": [1, 2]}, ""),
        ("open", {"data": [], "shape": [0, 2]}, "zero rows"),
        ("open", {"data": [], "shape": [0, 2**63]}, ""),
        ("halves", {"data": [1, 70_000]}, "row 1: the model has no place for inf"),
        ("nan", {"data": [1, 10**400]}, ""),
        ("nan", {"data": [None, "NaN"]}, "element 1: expected a number, got 'NaN'"),
        ("text", {"data": ["a", 1]}, "element 1: expected a string, got 1"),
        ("text", {"data": ["a", None]}, "got null"),
        ("bytes", {"data": ["a", None]}, "got null"),
        ("bytes", {"data": ["a", ["b"]]}, "element 1"),
    ],
)
def test_elements_that_do_not_fit_their_type(name: str, changes: dict[str, Any], said: str) -> None:
    (spec,) = SIGNATURES[name].inputs
    given_input = {"name": "x", "datatype": spec.datatype.wire, "shape": [2]} | changes
    with pytest.raises(InvalidInput) as raised:
        infer(name, body(given_input))
    assert said in str(raised.value)
    assert raised.value.where == "x"


def binary(raw: bytes, size: int, datatype: str = "FP32", shape: tuple[int, ...] = (1, 2)) -> tuple[bytes, int]:
    head = body(x(data=..., datatype=datatype, shape=shape, parameters={"binary_data_size": size}))
    return head + raw, len(head)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("floats", binary(b"\0" * 7, 7), "takes 8 bytes, binary_data_size is 7"),
        ("floats", binary(b"\0" * 8, 9), "binary_data_size is 9, but the body has 8 bytes left"),
        ("floats", binary(b"\0" * 9, 8), "1 bytes more than the inputs"),
        ("floats", binary(b"", 0), "takes 8 bytes, binary_data_size is 0"),
        ("floats", binary(b"", 0, shape=(0, 2)), "zero rows"),
        ("floats", binary(b"", 0, shape=(0, 2**63)), ""),
        ("floats", binary(b"\0" * 4, 4, shape=(1,) * 80), ""),
        ("floats", binary(b"", 0, shape=(2**62, 2)), ""),
        ("floats", binary(b"\0" * 8, 8, shape=(-1, -2)), "is not a shape"),
        ("floats", binary(struct.pack("<2f", 1, float("nan")), 8), "row 0: the model has no place for nan"),
        ("floats", (body(x()), -1), "Inference-Header-Content-Length is -1"),
        ("floats", (body(x()), 10**6), "Inference-Header-Content-Length is 1000000"),
        ("floats", (body(x()), 5), "not JSON"),
        ("floats", (body(x()), 0), "not JSON"),
        ("floats", (b"", 0), "not JSON"),
        ("text", binary(b"\1\0\0\0a", 5, "BYTES", (2,)), "expected 2 elements"),
        ("text", binary(b"\1\0\0\0a\0\0\0\0", 9, "BYTES", (1,)), "expected 1 elements"),
        ("text", binary(b"\2\0\0\0a", 5, "BYTES", (1,)), "element 0: its length 2 passes the tensor's end"),
        ("text", binary(b"\xff\xff\xff\xffa", 5, "BYTES", (1,)), "passes the tensor's end"),
        ("text", binary(b"\1\0\0", 3, "BYTES", (1,)), "expected 1 elements"),
        ("text", binary(b"\1\0\0\0\xff", 5, "BYTES", (1,)), "element 0 is not UTF-8"),
        ("bytes", binary(b"", 0, "BYTES", (1,)), "expected 1 elements"),
    ],
)
def test_wrong_binary(name: str, content: tuple[bytes, int], said: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        infer(name, *content)
    assert said in str(raised.value)


# Fuzzing: valid bodies, changed


def valid(name: str) -> tuple[bytes, int | None]:
    samples: dict[str, Any] = {
        "FP32": [1.5, 2.0],
        "FP64": [1.5, None],
        "FP16": [1.5, 2],
        "BF16": [1.5, None],
        "UINT8": [1, 255],
        "STRING": ["a\n", "é"],
        "BYTES": ["a", ""],
        "INT64": [1, -5],
        "BOOL": [True, False],
        "INT32": [1, 2],
    }
    inputs = []
    for spec in SIGNATURES[name].inputs:
        data = samples[spec.datatype.value]
        shape = [2] if len(spec.shape) == 1 else [2, 2]
        data = data if len(shape) == 1 else [data, data]
        inputs.append({"name": spec.name, "datatype": spec.datatype.wire, "shape": shape, "data": data})
    parameters = {"timeout": 5_000_000, "binary_data_output": False}
    return body(*inputs, id="1", parameters=parameters, outputs=[{"name": "y"}]), None


def valid_binary(name: str) -> tuple[bytes, int | None]:
    whole = json.loads(valid(name)[0])
    formats = {
        "FP32": "f",
        "FP64": "d",
        "FP16": "e",
        "BF16": "e",
        "UINT8": "B",
        "INT64": "q",
        "BOOL": "?",
        "INT32": "i",
    }
    raw = b""
    for given_input in whole["inputs"]:
        data = given_input.pop("data")
        flat = [element for row in data for element in row] if isinstance(data[0], list) else data
        if given_input["datatype"] in formats:
            numbers = [0.0 if element is None else element for element in flat]
            packed = struct.pack(f"<{len(flat)}{formats[given_input['datatype']]}", *numbers)
        else:
            packed = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in flat)
        given_input["parameters"] = {"binary_data_size": len(packed)}
        raw += packed
    head = json.dumps(whole).encode()
    return head + raw, len(head)


names = st.sampled_from(list(SIGNATURES))
flips = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4)


def only_invalid_input(name: str, content: bytes, json_bytes: int | None) -> None:
    with contextlib.suppress(InvalidInput):
        infer(name, content, json_bytes)


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_bodies_that_are_fuzzed_are_right(name: str) -> None:
    infer(name, *valid(name))
    infer(name, *valid_binary(name))


@settings(max_examples=400, deadline=None)
@given(names, st.booleans(), flips, st.integers(0, 2000), st.integers(-8, 8))
def test_flipped_and_truncated_bodies(
    name: str, binary_body: bool, changes: list[tuple[int, int]], length: int, shift: int
) -> None:
    content, json_bytes = valid_binary(name) if binary_body else valid(name)
    changed = bytearray(content)
    for place, value in changes:
        changed[place % len(changed)] = value
    if length % 3 == 0:
        del changed[length % len(changed) :]
    if json_bytes is not None and length % 5 == 0:
        json_bytes += shift
    only_invalid_input(name, bytes(changed), json_bytes)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    | st.sampled_from(["x", "y", "FP32", "BYTES", 10**400, 0, -1, 2**63]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "shape", "data", "parameters", "binary_data_size", "timeout"]), inner
        )
    ),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(names, st.data(), anything)
def test_bodies_with_any_json_in_some_place(name: str, data: st.DataObject, put: Any) -> None:
    whole = json.loads(valid(name)[0])
    node: Any = whole
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = data.draw(st.sampled_from(keys))
        if not (isinstance(node[key], dict | list) and node[key]) or data.draw(st.integers(0, 3)) == 0:
            node[key] = put
            break
        node = node[key]
    only_invalid_input(name, json.dumps(whole).encode(), None)


axes = st.integers(-3, 5) | st.sampled_from([2**31, 2**62, 2**63 - 1, 2**63, 2**64, 10**30, -(2**63)])


@settings(max_examples=300, deadline=None)
@given(
    names,
    st.lists(axes, max_size=5) | st.lists(st.just(1), min_size=60, max_size=70),
    st.integers(0, 4),
    st.booleans(),
)
def test_any_shape(name: str, shape: list[int], count: int, binary_body: bool) -> None:
    whole = json.loads(valid(name)[0])
    raw = b""
    given_input = whole["inputs"][0]
    given_input["shape"] = shape
    flat = given_input.pop("data")
    if binary_body:
        raw = b"\0" * 8 * count
        given_input["parameters"] = {"binary_data_size": len(raw)}
    else:
        given_input["data"] = (flat * 4)[:count]
    head = json.dumps(whole).encode()
    only_invalid_input(name, head + raw, len(head) if binary_body else None)


@settings(max_examples=100)
@given(names, st.binary(max_size=200), st.none() | st.integers(-5, 250))
def test_any_bytes(name: str, content: bytes, json_bytes: int | None) -> None:
    only_invalid_input(name, content, json_bytes)


@settings(max_examples=200)
@given(anything)
def test_any_timeout(timeout: Any) -> None:
    content = json.loads(valid("floats")[0])
    content["parameters"]["timeout"] = timeout
    only_invalid_input("floats", json.dumps(content).encode(), None)
