"""Tensor data on the wire: BF16 against ml_dtypes, and tensors without elements."""

import json
import math
import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from penstock.core.errors import InvalidInput
from penstock.core.signature import Signature, TensorSpec
from penstock.serving.batching.outputs import BatchOutputs, BatchRows
from penstock.serving.protocols.v2.codec import V2Codec
from penstock.serving.protocols.v2.data import bf16_to_binary, from_binary, from_json

BF16 = TensorSpec.parse("x", "BF16?[-1]")
floats = arrays(np.dtype("<f4"), st.integers(1, 20), elements=st.floats(width=32))


def as_bits(array):
    return array.astype(ml_dtypes.bfloat16).view(np.uint16)


@given(floats)
def test_bf16_goes_out_rounded_to_the_nearest_even(array):
    given_bits = np.frombuffer(bf16_to_binary(array), "<u2")
    nan = np.isnan(array)
    assert (given_bits[~nan] == as_bits(array[~nan])).all()
    assert np.isnan(from_binary(given_bits[nan].tobytes(), BF16, (int(nan.sum()),))).all()


@pytest.mark.parametrize(
    ("bits", "rounded"),
    [
        (0x3F808000, 0x3F80),  # half way, to the even one below
        (0x3F818000, 0x3F82),  # half way, to the even one above
        (0x3F808001, 0x3F81),
        (0x7F7FFFFF, 0x7F80),  # the largest float32 is nearer to infinity
        (0xFF800000, 0xFF80),
        (0x7F800001, 0x7FC0),  # a NaN whose upper half alone is infinity
        (0x7FFFFFFF, 0x7FFF),  # a NaN that would be carried into minus zero
        (0xFFFFFFFF, 0xFFFF),
        (0x80000000, 0x8000),
    ],
)
def test_bf16_at_its_edges(bits, rounded):
    assert bf16_to_binary(np.array([bits], "<u4").view("<f4")) == struct.pack("<H", rounded)


@given(st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=20))
def test_every_bf16_comes_in_exactly_and_goes_out_as_it_came(bits):
    raw = struct.pack(f"<{len(bits)}H", *bits)
    array = from_binary(raw, BF16, (len(bits),))
    expected = np.array(bits, np.uint16).view(ml_dtypes.bfloat16).astype("<f4")
    assert array.dtype == np.dtype("<f4")
    assert np.array_equal(array, expected, equal_nan=True)
    numbers = ~np.isnan(array)
    assert np.frombuffer(bf16_to_binary(array), "<u2")[numbers].tolist() == np.array(bits)[numbers].tolist()


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_json_and_binary_give_the_same_bf16(values):
    array = from_json(values, BF16, (len(values),))
    assert array.tolist() == from_binary(bf16_to_binary(np.array(values, "<f4")), BF16, (len(values),)).tolist()


def test_bf16_takes_two_bytes_an_element():
    with pytest.raises(InvalidInput, match="takes 6 bytes, binary_data_size is 12"):
        from_binary(b"\0" * 12, BF16, (3,))


@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
def test_bf16_through_the_codec(binary):
    signature = Signature.of(inputs={"x": "BF16[-1, 2]"}, outputs={"y": "BF16[-1, 2]"})
    codec = V2Codec(model="m", version="1", signature=signature)
    values = np.array([[1.0, 0.1], [-2.5, 3e38]], "<f4")
    x = {"name": "x", "datatype": "BF16", "shape": [2, 2]}
    raw = as_bits(values).tobytes()
    if binary:
        x["parameters"] = {"binary_data_size": len(raw)}
    else:
        x["data"] = values.ravel().tolist()
    head = json.dumps({"inputs": [x], "parameters": {"binary_data_output": binary}}).encode()
    request = codec.decode(head + raw if binary else head, len(head) if binary else None)
    rounded = values.astype(ml_dtypes.bfloat16).astype("<f4")
    assert request.tensors["x"].tolist() == rounded.tolist()

    batch = BatchOutputs({"y": np.concatenate([values * 0, values])})
    body, json_bytes = codec.encode(request, BatchRows(batch, 2, 4))
    (output,) = json.loads(body[:json_bytes])["outputs"]
    assert (output["datatype"], output["shape"]) == ("BF16", [2, 2])
    if binary:
        assert output["parameters"] == {"binary_data_size": 8}
        assert body[json_bytes:] == raw
    else:
        assert output["data"] == rounded.ravel().tolist()


DATATYPES = ["BOOL", "UINT8", "INT64", "FP16", "FP32", "FP64", "BF16", "BYTES", "STRING"]


@pytest.mark.parametrize("shape", [[2, 0], [3, 0, 4], [1, 4, 0]], ids=str)
@pytest.mark.parametrize("form", ["flat", "nested", "binary"])
@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("fixed", [False, True], ids=["open", "fixed"])
def test_tensors_without_elements(datatype, form, shape, fixed):
    axes = shape[1:] if fixed else [-1] * (len(shape) - 1)
    notation = f"{datatype}{[-1, *axes]}"
    signature = Signature.of(inputs={"x": notation}, outputs={"y": notation})
    codec = V2Codec(model="m", version="1", signature=signature)
    wire = "BYTES" if datatype == "STRING" else datatype
    x = {"name": "x", "datatype": wire, "shape": shape}
    if form == "binary":
        x["parameters"] = {"binary_data_size": 0}
    else:
        x["data"] = [] if form == "flat" else np.empty(shape).tolist()
    binary = form == "binary"
    body = json.dumps({"inputs": [x], "parameters": {"binary_data_output": binary}}).encode()
    request = codec.decode(body, len(body) if binary else None)
    tensors = signature.conform(request.tensors)
    assert list(tensors["x"].shape) == shape
    assert tensors["x"].dtype == signature.inputs[0].dtype

    answer, json_bytes = codec.encode(request, BatchRows(BatchOutputs({"y": tensors["x"]}), 0, shape[0]))
    (output,) = json.loads(answer[:json_bytes])["outputs"]
    assert output["shape"] == shape
    assert math.prod(output["shape"]) == 0
    if binary:
        assert output["parameters"] == {"binary_data_size": 0}
        assert len(answer) == json_bytes
    else:
        assert output["data"] == []


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
def test_zero_rows_are_refused(datatype, binary):
    signature = Signature.of(inputs={"x": f"{datatype}[-1, 2]"}, outputs={"y": "FP32[-1]"})
    codec = V2Codec(model="m", version="1", signature=signature)
    x = {"name": "x", "datatype": "BYTES" if datatype == "STRING" else datatype, "shape": [0, 2]}
    x |= {"parameters": {"binary_data_size": 0}} if binary else {"data": []}
    body = json.dumps({"inputs": [x]}).encode()
    request = codec.decode(body, len(body) if binary else None)
    with pytest.raises(InvalidInput, match="zero rows"):
        signature.conform(request.tensors)


def test_a_million_inputs_are_refused_by_their_number():
    codec = V2Codec(
        model="m",
        version="1",
        signature=Signature.of(inputs={"x": "FP32[-1]"}, outputs={"y": "FP32[-1]"}),
    )
    tiny = b'{"name":"a","shape":[1],"datatype":"FP32","data":[0]}'
    body = b'{"inputs":[' + b",".join([tiny] * 100_000) + b"]}"
    with pytest.raises(InvalidInput, match="the request has 100000 inputs, the model takes 1"):
        codec.decode(body, None)
