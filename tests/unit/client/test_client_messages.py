"""Requests and answers in bytes, against the server's codec and against bytes written by hand."""

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.client.messages import GarbledAnswer, decode_answer, decode_metadata, encode_request
from penstock.core.errors import InvalidInput
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import DataType
from penstock.serving.protocols.v2.codec import V2Codec

NUMBERS = [each for each in DataType if not each.is_object and each is not DataType.BF16]


def as_client_sees(signature: Signature) -> tuple[TensorSpec, ...]:
    """Metadata says BYTES for text and bytes alike."""
    return tuple(
        TensorSpec(name=each.name, datatype=DataType(each.datatype.wire), shape=each.shape)
        for each in signature.inputs
    )


def through_server(signature: Signature, inputs: dict[str, Any]) -> dict[str, Any]:
    body, json_bytes = encode_request(as_client_sees(signature), inputs)
    return V2Codec(model="m", version="1", signature=signature).decode(body, json_bytes).tensors


@given(st.sampled_from(NUMBERS), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_the_server_reads_what_was_sent(datatype: DataType, rows: int, seed: int) -> None:
    raw = np.random.default_rng(seed).bytes(rows * 3 * datatype.numpy.itemsize)
    array: Any = np.frombuffer(raw, datatype.numpy).reshape(rows, 3)
    if datatype is DataType.BOOL:
        array = np.frombuffer(raw, np.uint8).reshape(rows, 3) > 127
    signature = Signature.of(inputs={"x": f"{datatype.value}[-1, 3]"}, outputs={"y": "FP32[-1]"})
    assert through_server(signature, {"x": array})["x"].tobytes() == array.tobytes()


@given(st.lists(st.text(), min_size=1), st.lists(st.binary(), min_size=1))
def test_the_server_reads_text_and_bytes(text: list[str], raw: list[bytes]) -> None:
    rows = min(len(text), len(raw))
    signature = Signature.of(inputs={"t": "STRING[-1]", "b": "BYTES[-1]"}, outputs={"y": "FP32[-1]"})
    read = through_server(signature, {"t": text[:rows], "b": raw[:rows]})
    assert read["t"].tolist() == text[:rows]
    assert read["b"].tolist() == raw[:rows]


@given(st.lists(st.floats(width=32), min_size=1))
def test_bf16_is_rounded_as_the_server_rounds(values: list[float]) -> None:
    from penstock.serving.protocols.v2.data import bf16_to_binary

    signature = Signature.of(inputs={"x": "BF16?[-1]"}, outputs={"y": "FP32[-1]"})
    array = np.array(values, np.float32)
    body, json_bytes = encode_request(as_client_sees(signature), {"x": array})
    assert body[json_bytes:] == bf16_to_binary(array)


def test_bf16_rounds_ties_to_even() -> None:
    """By hand: the lower halves are exactly half of the last place that stays."""
    bits = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF], np.uint32)
    body, json_bytes = encode_request([TensorSpec.parse("x", "BF16[-1]")], {"x": bits.view(np.float32)})
    assert np.frombuffer(body[json_bytes:], "<u2").tolist() == [0x3F80, 0x3F82, 0x3F81, 0x3F80]


def test_a_request_by_hand() -> None:
    specs = [TensorSpec.parse("b", "FP32[-1]"), TensorSpec.parse("a", "BYTES[-1]")]
    body, json_bytes = encode_request(specs, {"a": ["x"], "b": [1]}, outputs=["y"], id="7")
    assert json.loads(body[:json_bytes]) == {
        "inputs": [
            {"name": "b", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}},
            {"name": "a", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}},
        ],
        "parameters": {"binary_data_output": True},
        "id": "7",
        "outputs": [{"name": "y"}],
    }
    assert body[json_bytes:] == struct.pack("<fI", 1.0, 1) + b"x"


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"a": [1.0]}, r"missing \['b'\]"),
        ({"a": [1.0], "b": [1.0], "c": [1.0]}, r"unknown \['c'\]"),
        ({"a": [1.0], "b": [1.0, 2.0]}, "has 2 rows where the inputs before it have 1"),
    ],
)
def test_inputs_that_are_not_the_model_s(inputs: dict[str, Any], said: str) -> None:
    specs = [TensorSpec.parse("a", "FP32[-1]"), TensorSpec.parse("b", "FP32[-1]")]
    with pytest.raises(InvalidInput, match=said):
        encode_request(specs, inputs)


def answer(outputs: list[dict[str, Any]], raw: bytes = b"", **further: Any) -> tuple[bytes, dict[bytes, bytes]]:
    head = json.dumps({"model_name": "m", "model_version": "3", "outputs": outputs, **further}).encode()
    return head + raw, {b"inference-header-content-length": str(len(head)).encode()}


def binary(name: str, datatype: str, shape: list[int], size: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}


def test_an_answer_by_hand() -> None:
    outputs = [
        binary("t", "BYTES", [2], 10),
        binary("y", "FP32", [2, 1], 8),
        binary("h", "BF16", [2], 4),
        binary("r", "BYTES", [1], 5),
        {"name": "j", "datatype": "FP64", "shape": [2], "data": [1.5, None]},
    ]
    raw = struct.pack("<I1sI1s", 1, b"a", 1, b"b") + struct.pack("<ff", 1, 2) + bytes.fromhex("803fc03f")
    raw += struct.pack("<I1s", 1, b"\xff")
    body, headers = answer(outputs, raw, id="7", parameters={"rung": "late-lite"})
    found = decode_answer(body, headers)
    assert (found.model, found.version, found.id, found.rung) == ("m", "3", "7", "late-lite")
    assert found.outputs["t"].tolist() == ["a", "b"]
    assert found.outputs["y"].tolist() == [[1.0], [2.0]]
    assert found.outputs["h"].tolist() == [1.0, 1.5]
    assert found.outputs["r"].tolist() == [b"\xff"]
    np.testing.assert_array_equal(found.outputs["j"], [1.5, np.nan])
    found.outputs["y"][0] = 5  # not a view of what was received
    assert decode_answer(body, headers | {b"x-penstock-rung": b"cached"}).rung == "cached"


@pytest.mark.parametrize(
    ("outputs", "raw"),
    [
        ([binary("y", "FP32", [2], 4)], b"\0" * 4),
        ([binary("y", "FP32", [2], 8)], b"\0" * 7),
        ([binary("y", "FP32", [2], 8)], b"\0" * 9),
        ([binary("y", "FP32", [2], 7)], b"\0" * 7),
        ([binary("y", "FP32", [2], -8)], b"\0" * 8),
        ([binary("y", "FP32", [-2], 8)], b"\0" * 8),
        ([binary("y", "FP32", [2], True)], b"\0"),
        ([binary("y", "FP31", [2], 8)], b"\0" * 8),
        ([binary("y", "BYTES", [1], 4)], b"\xff\xff\xff\xff"),
        ([binary("y", "BYTES", [1], 3)], b"\0\0\0"),
        ([{"name": "y", "datatype": "FP32", "shape": [1]}], b""),
        ([{"name": "y", "datatype": "FP32", "shape": [1], "data": ["a"]}], b""),
        ([{"name": "y"}], b""),
    ],
)
def test_garbled_answers(outputs: list[dict[str, Any]], raw: bytes) -> None:
    with pytest.raises(GarbledAnswer):
        decode_answer(*answer(outputs, raw))


@given(st.binary(), st.none() | st.binary(max_size=20) | st.integers(0, 30).map(lambda n: str(n).encode()))
def test_any_bytes_are_an_answer_or_garbled(body: bytes, length: bytes | None) -> None:
    with pytest.raises(GarbledAnswer):
        decode_answer(body, {} if length is None else {b"inference-header-content-length": length})


@given(st.binary())
def test_any_bytes_are_metadata_or_garbled(body: bytes) -> None:
    with pytest.raises(GarbledAnswer):
        decode_metadata(body)


def test_metadata() -> None:
    message = {
        "name": "m",
        "versions": ["1"],
        "platform": "onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "y", "datatype": "BYTES", "shape": [-1]}],
    }
    found = decode_metadata(json.dumps(message).encode())
    assert found.inputs == (TensorSpec.parse("x", "FP32[-1, 3]"),)
    assert found.outputs == (TensorSpec.parse("y", "BYTES[-1]"),)
    message["inputs"][0]["shape"] = [0]  # type: ignore[index]
    with pytest.raises(GarbledAnswer):
        decode_metadata(json.dumps(message).encode())
