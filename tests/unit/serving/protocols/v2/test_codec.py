"""The V2 codec against encoders and decoders written here with json and struct."""

import json
import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InvalidInput
from penstock.core.signature import Signature
from penstock.core.tensors import DataType
from penstock.serving.batching.outputs import BatchOutputs, BatchRows
from penstock.serving.protocols.v2.codec import V2Codec

FORMATS = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
NAMES = [*FORMATS, "STRING", "BYTES"]
WIRE = {name: name for name in FORMATS} | {"STRING": "BYTES", "BYTES": "BYTES"}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def elements(name: str, *, json_only: bool = False) -> st.SearchStrategy[Any]:
    if name == "BOOL":
        return st.booleans()
    if name == "STRING":
        return TEXTS
    if name == "BYTES":
        return TEXTS.map(str.encode) if json_only else st.binary(max_size=8)
    if name.startswith("FP"):
        return st.floats(width=int(name[2:]), allow_nan=False, allow_infinity=False)
    bits = int(name.lstrip("UINT"))
    return (
        st.integers(0, 2**bits - 1) if name[0] == "U" else st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    )


@st.composite
def tensors(draw: st.DrawFn, *, json_only: bool = False) -> tuple[str, list[int], list[Any]]:
    """The name of a type, a shape and the elements, row-major."""
    name = draw(st.sampled_from(NAMES))
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    count = math.prod(shape)
    return name, shape, draw(st.lists(elements(name, json_only=json_only), min_size=count, max_size=count))


def codec(*notations: str, outputs: dict[str, str] | None = None) -> V2Codec:
    inputs = {f"x{place}": notation for place, notation in enumerate(notations)}
    signature = Signature.of(inputs=inputs, outputs=outputs or {"y": "FP32[-1]"})
    return V2Codec(model="m", version="3", signature=signature)


def open_shape(name: str, shape: list[int]) -> str:
    return f"{name}{[-1] * len(shape)}"


def pack(name: str, values: list[Any]) -> bytes:
    if name in FORMATS:
        return struct.pack(f"<{len(values)}{FORMATS[name]}", *values)
    encoded = [value.encode() if isinstance(value, str) else value for value in values]
    return b"".join(struct.pack("<I", len(value)) + value for value in encoded)


def unpack(name: str, raw: bytes) -> list[Any]:
    if name in FORMATS:
        return list(struct.unpack(f"<{len(raw) // struct.calcsize(FORMATS[name])}{FORMATS[name]}", raw))
    values: list[Any] = []
    while raw:
        (size,) = struct.unpack("<I", raw[:4])
        values.append(raw[4 : 4 + size].decode() if name == "STRING" else raw[4 : 4 + size])
        raw = raw[4 + size :]
    return values


def nest(values: list[Any], shape: list[int]) -> list[Any]:
    for axis in reversed(shape[1:]):
        values = [values[start : start + axis] for start in range(0, len(values), axis)]
    return values


def plain(values: list[Any]) -> list[Any]:
    return [value.decode() if isinstance(value, bytes) else value for value in values]


def request(*inputs: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"inputs": list(inputs)} | more).encode()


def tensor(name: str, datatype: str, shape: Any, data: Any = None, **more: Any) -> dict[str, Any]:
    return (
        {"name": name, "datatype": datatype, "shape": shape} | ({} if data is None else {"data": data}) | more
    )


def check(array: np.ndarray, name: str, shape: list[int], values: list[Any]) -> None:
    assert array.dtype == (np.dtype(object) if name not in FORMATS else np.dtype("<" + FORMATS[name]))
    assert list(array.shape) == shape
    given_values = array.ravel().tolist()
    assert given_values == values
    assert list(map(type, given_values)) == list(map(type, values))


# Requests


@given(tensors(json_only=True), st.booleans())
def test_json_requests(given_tensor: tuple[str, list[int], list[Any]], nested: bool) -> None:
    name, shape, values = given_tensor
    data = nest(plain(values), shape) if nested else plain(values)
    decoded = codec(open_shape(name, shape)).decode(request(tensor("x0", WIRE[name], shape, data)), None)
    check(decoded.tensors["x0"], name, shape, values)


@given(tensors(json_only=True), st.booleans())
def test_json_requests_with_fixed_rows_shape(
    given_tensor: tuple[str, list[int], list[Any]], nested: bool
) -> None:
    """The decoder's quick way: the shape of a row is known."""
    name, shape, values = given_tensor
    data = nest(plain(values), shape) if nested else plain(values)
    decoded = codec(f"{name}{[-1, *shape[1:]]}").decode(request(tensor("x0", WIRE[name], shape, data)), None)
    check(decoded.tensors["x0"], name, shape, values)


@given(st.lists(tensors(), min_size=1, max_size=4), st.lists(st.booleans(), min_size=4, max_size=4))
def test_binary_requests(given_tensors: list[tuple[str, list[int], list[Any]]], in_json: list[bool]) -> None:
    """Binary tensors and JSON ones side by side."""
    inputs, raw = [], b""
    for place, ((name, shape, values), as_json) in enumerate(zip(given_tensors, in_json, strict=False)):
        if as_json and name != "BYTES":
            inputs.append(tensor(f"x{place}", WIRE[name], shape, values))
            continue
        packed = pack(name, values)
        raw += packed
        inputs.append(tensor(f"x{place}", WIRE[name], shape, parameters={"binary_data_size": len(packed)}))
    head = request(*inputs)
    decoder = codec(*(open_shape(name, shape) for name, shape, _ in given_tensors))
    decoded = decoder.decode(head + raw, len(head))
    for place, (name, shape, values) in enumerate(given_tensors):
        check(decoded.tensors[f"x{place}"], name, shape, values)


def test_numbers_that_json_writes_otherwise() -> None:
    decoded = codec("FP32[-1]").decode(request(tensor("x0", "FP32", [3], [1, 2.5, -0.0])), None)
    assert decoded.tensors["x0"].tolist() == [1.0, 2.5, 0.0]


def test_null_is_nan_where_nan_has_a_place() -> None:
    body = request(tensor("x0", "FP32", [3], [1.5, None, 2]))
    array = codec("FP32?[-1]").decode(body, None).tensors["x0"]
    assert np.array_equal(array, [1.5, math.nan, 2], equal_nan=True)
    both = request(tensor("x0", "FP64", [1, 2], [[None, 1]]), tensor("x1", "INT64", [1], [4]))
    array = codec("FP64?[-1, 2]", "INT64[-1]").decode(both, None).tensors["x0"]
    assert np.array_equal(array, [[math.nan, 1]], equal_nan=True)
    with pytest.raises(InvalidInput, match="element 1: expected a number, got null"):
        codec("FP32[-1]").decode(body, None)


def test_id_timeout_and_outputs() -> None:
    outputs = {"y": "FP32[-1]", "z": "STRING[-1]"}
    x = tensor("x0", "FP32", [1], [1])

    def decode(**more: Any) -> Any:
        decoded = codec("FP32[-1]", outputs=outputs).decode(request(x, **more), None)
        return decoded.id, decoded.timeout_s, [(wanted.name, binary) for wanted, binary in decoded.wanted]

    assert decode() == (None, None, [("y", False), ("z", False)])
    assert decode(id="a") == ("a", None, [("y", False), ("z", False)])
    assert decode(parameters={"timeout": 250_000}) == (None, 0.25, [("y", False), ("z", False)])
    assert [decode(parameters={"timeout": none})[1] for none in (0, 1e300, 10**400)] == [None] * 3
    assert decode(parameters={"binary_data_output": True})[2] == [("y", True), ("z", True)]
    assert decode(outputs=[{"name": "z"}])[2] == [("z", False)]
    named = [{"name": "z", "parameters": {"binary_data": False}}, {"name": "y"}]
    assert decode(outputs=named, parameters={"binary_data_output": True})[2] == [("z", False), ("y", True)]
    assert decode(unknown="is ignored", parameters={"also": 1})[2] == [("y", False), ("z", False)]


# Answers


@given(tensors(json_only=True), st.data())
def test_answers(given_tensor: tuple[str, list[int], list[Any]], data: st.DataObject) -> None:
    """A caller's share of a batch, in JSON and in binary."""
    name, shape, values = given_tensor
    width = math.prod(shape[1:])
    start = data.draw(st.integers(0, shape[0] - 1))
    stop = data.draw(st.integers(start + 1, shape[0]))
    wanted = values[start * width : stop * width]
    array = np.empty(len(values), DataType(name).numpy)
    array[:] = values
    answer = BatchRows(BatchOutputs({"y": array.reshape(shape)}), start, stop)
    coder = codec("FP32[-1]", outputs={"y": open_shape(name, shape)})
    x = tensor("x0", "FP32", [1], [1])

    body, json_bytes = coder.encode(coder.decode(request(x, id="i"), None), answer)
    assert json_bytes is None
    output = {"name": "y", "datatype": WIRE[name], "shape": [stop - start, *shape[1:]], "data": plain(wanted)}
    assert json.loads(body) == {"model_name": "m", "model_version": "3", "id": "i", "outputs": [output]}

    asked = coder.decode(request(x, parameters={"binary_data_output": True}), None)
    body, json_bytes = coder.encode(asked, answer)
    head = json.loads(body[:json_bytes])["outputs"][0]
    raw = body[json_bytes:]
    assert head["parameters"] == {"binary_data_size": len(raw)}
    assert "data" not in head
    assert unpack(name, raw) == wanted


def test_answers_in_part_binary() -> None:
    coder = codec("FP32[-1]", outputs={"y": "INT16[-1]", "z": "STRING[-1, 2]", "w": "FP64[-1]"})
    asked = [
        {"name": "z", "parameters": {"binary_data": True}},
        {"name": "w"},
        {"name": "y", "parameters": {"binary_data": True}},
    ]
    z = np.empty((3, 2), object)
    z[:] = [["a", "é"], ["", "b"], ["c", "d"]]
    batch = BatchOutputs({"y": np.array([1, 2, 3], "<i2"), "z": z, "w": np.array([math.nan, math.inf, 2.5])})
    decoded = coder.decode(request(tensor("x0", "FP32", [1], [1]), outputs=asked), None)
    body, json_bytes = coder.encode(decoded, BatchRows(batch, 0, 2))
    head = json.loads(body[:json_bytes])["outputs"]
    assert [output["name"] for output in head] == ["z", "w", "y"]
    assert head[1]["data"] == [None, None]  # JSON has no NaN and no infinity
    z_bytes = head[0]["parameters"]["binary_data_size"]
    raw = body[json_bytes:]
    assert unpack("STRING", raw[:z_bytes]) == ["a", "é", "", "b"]
    assert unpack("INT16", raw[z_bytes:]) == [1, 2]


@pytest.mark.parametrize("binary", [False, True])
def test_an_answer_of_another_rung_names_it_and_what_computed_it(binary: bool) -> None:
    signature = Signature.of(inputs={"x": "FP32[-1]"}, outputs={"y": "FP32[-1]"})
    codec = V2Codec(model="m", version="3", signature=signature)
    message = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1.0, 2.0]}]}
    if binary:
        message["parameters"] = {"binary_data_output": True}  # type: ignore[assignment]
    request = codec.decode(json.dumps(message).encode(), None)
    for rung, model, version in (("", "", ""), ("lite", "lite", "7"), ("constant", "m", ""), ("", "", "")):
        outputs = BatchOutputs({"y": np.ones(2, np.float32)}, rung, model, version)
        content, json_bytes = codec.encode(request, BatchRows(outputs, 0, 2))
        head = json.loads(content[:json_bytes])
        assert head.get("parameters") == ({"rung": rung} if rung else None)
        assert (head["model_name"], head["model_version"]) == ((model, version) if rung else ("m", "3"))
