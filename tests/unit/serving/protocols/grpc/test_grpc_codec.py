"""The gRPC codec against messages made by protobuf and bytes made here with struct."""

import contextlib
import math
import struct
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InvalidInput
from penstock.core.signature import Signature
from penstock.core.tensors import DataType
from penstock.serving.batching.outputs import BatchOutputs, BatchRows
from penstock.serving.protocols.grpc.codec import GrpcCodec, GrpcRequest, parse_request
from penstock.serving.protocols.grpc.libraries import load_messages
from penstock.serving.protocols.v2.parameters import NotOffered

MESSAGES = load_messages()
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
CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "STRING": "bytes_contents",
    "BYTES": "bytes_contents",
}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SIGNATURE = Signature.of(
    inputs={"x": "FP32[-1, 2]", "t": "STRING[-1]"}, outputs={"y": "FP32[-1, 2]", "label": "STRING[-1]"}
)


def elements(name: str) -> st.SearchStrategy[Any]:
    if name == "BOOL":
        return st.booleans()
    if name == "STRING":
        return TEXTS
    if name == "BYTES":
        return st.binary(max_size=8)
    if name.startswith("FP"):
        return st.floats(width=int(name[2:]), allow_nan=False, allow_infinity=False)
    bits = int(name.lstrip("UINT"))
    return (
        st.integers(0, 2**bits - 1) if name[0] == "U" else st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    )


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, list[int], list[Any]]:
    """The name of a type, a shape and the elements, row-major."""
    name = draw(st.sampled_from([*FORMATS, "STRING", "BYTES"]))
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    count = math.prod(shape)
    return name, shape, draw(st.lists(elements(name), min_size=count, max_size=count))


def as_raw(name: str, values: list[Any]) -> bytes:
    if name in FORMATS:
        return struct.pack(f"<{len(values)}{FORMATS[name]}", *values)
    pieces = [value.encode() if isinstance(value, str) else value for value in values]
    return b"".join(struct.pack("<I", len(piece)) + piece for piece in pieces)


def codec(signature: Signature = SIGNATURE) -> GrpcCodec:
    return GrpcCodec(MESSAGES, model="late", version="3", signature=signature)


def one_tensor(name: str, shape: list[int]) -> tuple[GrpcCodec, Any]:
    axes = ", ".join(["-1"] * len(shape))
    signature = Signature.of(inputs={"x": f"{name}[{axes}]"}, outputs={"y": f"{name}[{axes}]"})
    message = MESSAGES.ModelInferRequest(model_name="late")
    message.inputs.add(name="x", datatype="BYTES" if name == "STRING" else name, shape=shape)
    return codec(signature), message


def request() -> Any:
    message = MESSAGES.ModelInferRequest(model_name="late", id="a")
    message.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    message.inputs.add(name="t", datatype="BYTES", shape=[1])
    message.raw_input_contents.extend([struct.pack("<2f", 1, 2), b"\x02\0\0\0hi"])
    return message


def decode(message: Any, codec_: GrpcCodec | None = None) -> GrpcRequest:
    return (codec_ or codec()).decode(*parse_request(MESSAGES, message.SerializeToString()))


@given(tensors())
def test_raw_tensors_there_and_back(tensor: tuple[str, list[int], list[Any]]) -> None:
    name, shape, values = tensor
    one, message = one_tensor(name, shape)
    raw = as_raw(name, values)
    message.raw_input_contents.append(raw)
    decoded = decode(message, one)
    array = decoded.tensors["x"]
    assert (list(array.shape), array.ravel().tolist()) == (shape, values)
    batch = BatchOutputs({"y": np.concatenate([array, array])})
    rows = shape[0]
    response = MESSAGES.ModelInferResponse.FromString(one.encode(decoded, BatchRows(batch, rows, 2 * rows)))
    assert list(response.raw_output_contents) == [raw]
    assert list(response.outputs[0].shape) == shape
    assert (response.outputs[0].name, response.outputs[0].datatype) == ("y", message.inputs[0].datatype)
    assert (response.model_name, response.model_version, response.id) == ("late", "3", "")


@given(tensors().filter(lambda tensor: tensor[0] != "FP16"))
def test_typed_tensors(tensor: tuple[str, list[int], list[Any]]) -> None:
    name, shape, values = tensor
    one, message = one_tensor(name, shape)
    sent = [value.encode() if isinstance(value, str) else value for value in values]
    getattr(message.inputs[0].contents, CONTENTS[name]).extend(sent)
    array = decode(message, one).tensors["x"]
    assert array.dtype == DataType(name).numpy
    assert (list(array.shape), array.ravel().tolist()) == (shape, values)


@given(st.binary(max_size=300))
def test_any_bytes_are_input_or_invalid(raw: bytes) -> None:
    with contextlib.suppress(InvalidInput):
        codec().decode(*parse_request(MESSAGES, raw))


@given(st.data())
def test_mutated_requests_are_input_or_invalid(data: st.DataObject) -> None:
    raw = bytearray(request().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    for message in (bytes(raw), bytes(raw[:cut])):
        with contextlib.suppress(InvalidInput):
            codec().decode(*parse_request(MESSAGES, message))


def test_large_messages_are_read_alike() -> None:
    one, message = one_tensor("FP32", [100, 200])
    values = np.arange(20_000, dtype="<f4")
    message.raw_input_contents.append(values.tobytes())
    array = decode(message, one).tensors["x"]
    assert np.array_equal(array, values.reshape(100, 200))
    assert array.flags.aligned


def test_what_is_asked_for() -> None:
    message = request()
    assert decode(message)[2:] == (("y", "label"), None, None)
    message.outputs.add(name="label")
    message.parameters["timeout"].int64_param = 1_500_000
    message.parameters["priority"].uint64_param = 1
    message.parameters["whatever"].string_param = "x"
    decoded = decode(message)
    assert (decoded.id, decoded.wanted, decoded.timeout_s, decoded.priority) == ("a", ("label",), 1.5, 1)
    batch = BatchOutputs({"y": np.zeros((1, 2), "<f4"), "label": np.array(["né"], dtype=object)})
    response = MESSAGES.ModelInferResponse.FromString(codec().encode(decoded, BatchRows(batch, 0, 1)))
    assert ([each.name for each in response.outputs], response.id) == (["label"], "a")
    assert list(response.raw_output_contents) == [b"\x03\0\0\0n\xc3\xa9"]


@pytest.mark.parametrize(("given_", "taken"), [(0, None), (1, 1), (2, 2), (4, 4), (5, 4), (2**63 - 1, 4)])
def test_priorities(given_: int, taken: int | None) -> None:
    message = request()
    message.parameters["priority"].int64_param = given_
    assert decode(message).priority == taken


def test_timeouts_beyond_patience_are_none() -> None:
    message = request()
    message.parameters["timeout"].uint64_param = 2**64 - 1
    assert decode(message).timeout_s is None


def mutate(message: Any, path: str) -> Any:  # noqa: C901, PLR0912, PLR0915 - a table of mistakes
    first = message.inputs[0]
    match path:
        case "shape lies":
            first.shape[:] = [1, 3]
        case "shape overflows":
            first.shape[:] = [2**62, 2**62]
        case "nothing in a shape beyond memory":
            first.shape[:] = [0, 2**62, 2**62]
            message.raw_input_contents[0] = b""
        case "negative shape":
            first.shape[:] = [-1, 2]
        case "no shape":
            first.ClearField("shape")
        case "too many axes":
            first.shape[:] = [1] * 65
        case "datatype":
            first.datatype = "INT8"
        case "twice":
            message.inputs[1].CopyFrom(first)
        case "unknown":
            first.name = "z"
        case "many":
            for _ in range(20):
                message.inputs.add(name="x")
        case "raw missing":
            del message.raw_input_contents[1:]
        case "both":
            first.contents.fp32_contents.extend([1, 2])
        case "typed, some":
            del message.raw_input_contents[:]
            first.contents.fp32_contents.extend([1, 2])
        case "typed, elsewhere":
            del message.raw_input_contents[:]
            first.contents.fp64_contents.extend([1, 2])
        case "typed, not UTF-8":
            del message.raw_input_contents[:]
            first.contents.fp32_contents.extend([1, 2])
            message.inputs[1].contents.bytes_contents.append(b"\xff")
        case "raw, not UTF-8":
            message.raw_input_contents[1] = b"\x01\0\0\0\xff"
        case "length lies":
            message.raw_input_contents[1] = b"\xff\xff\xff\xffhi"
        case "length cut":
            message.raw_input_contents[1] = b"\x02\0\0"
        case "output unknown":
            message.outputs.add(name="z")
        case "output twice":
            message.outputs.add(name="y")
            message.outputs.add(name="y")
        case "timeout":
            message.parameters["timeout"].string_param = "soon"
        case "timeout negative":
            message.parameters["timeout"].int64_param = -1
        case "timeout NaN":
            message.parameters["timeout"].double_param = math.nan
        case "priority true":
            message.parameters["priority"].bool_param = True
        case "priority empty":
            message.parameters["priority"].SetInParent()
    return message


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ("shape lies", r"'x': shape \[1, 3\] of FP32 takes 12 bytes, raw_input_contents has 8"),
        ("shape overflows", r"takes \d+ bytes"),
        ("nothing in a shape beyond memory", "no array has the shape"),
        ("negative shape", "is not a shape"),
        ("no shape", "is not a shape"),
        ("too many axes", "65 axes"),
        ("datatype", "'x': expected datatype FP32, got 'INT8'"),
        ("twice", "'x' is given twice"),
        ("unknown", r"missing \['x'\], unknown \['z'\]"),
        ("many", "'x' is given twice"),
        ("raw missing", "raw_input_contents has 1 tensors for 2 inputs"),
        ("both", "typed contents beside raw_input_contents"),
        ("typed, some", "'t': shape .* bytes_contents has 0"),
        ("typed, elsewhere", "'x': shape .* takes 2 elements, fp32_contents has 0"),
        ("typed, not UTF-8", "'t', element 0 is not UTF-8"),
        ("raw, not UTF-8", "'t', element 0 is not UTF-8"),
        ("length lies", "passes the tensor's end"),
        ("length cut", "expected 1 elements"),
        ("output unknown", "unknown output 'z'"),
        ("output twice", "'y' is asked for twice"),
        ("timeout", "'timeout' is 'soon'"),
        ("timeout negative", "'timeout' is -1"),
        ("timeout NaN", "'timeout' is nan"),
        ("priority true", "'priority' is True"),
        ("priority empty", "'priority' is None"),
    ],
)
def test_mistakes_are_named(mistake: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        decode(mutate(request(), mistake))


def test_integers_that_the_type_cannot_hold() -> None:
    one, message = one_tensor("INT8", [1])
    message.inputs[0].contents.int_contents.append(300)
    with pytest.raises(InvalidInput, match="300"):
        decode(message, one)


@pytest.mark.parametrize("name", ["FP16"])
def test_types_without_contents(name: str) -> None:
    one, message = one_tensor(name, [1])
    message.inputs[0].contents.fp32_contents.append(1)
    with pytest.raises(InvalidInput, match="has no typed contents"):
        decode(message, one)


@pytest.mark.parametrize("where", ["inputs", "outputs"])
def test_shared_memory_is_not_offered(where: str) -> None:
    message = request()
    given_ = message.inputs[0] if where == "inputs" else message.outputs.add(name="y")
    given_.parameters["shared_memory_region"].string_param = "r"
    with pytest.raises(NotOffered, match="shared memory"):
        decode(message)


def test_shared_memory_is_told_before_the_raw_tensor_that_it_stands_for_is_missed() -> None:
    message = request()
    message.inputs[1].parameters["shared_memory_region"].string_param = "r"
    del message.raw_input_contents[1]
    with pytest.raises(NotOffered, match="shared memory"):
        decode(message)


@pytest.mark.parametrize("name", ["sequence_id", "sequence_start", "sequence_end"])
def test_sequences_are_not_offered(name: str) -> None:
    message = request()
    message.parameters[name].bool_param = False
    decode(message)
    message.parameters[name].string_param = "seven"
    with pytest.raises(NotOffered, match=name):
        decode(message)


def test_classification_is_not_offered() -> None:
    message = request()
    message.outputs.add(name="y").parameters["classification"].int64_param = 3
    with pytest.raises(NotOffered, match="classification"):
        decode(message)


@given(st.lists(st.floats(width=32), max_size=20), st.data())
def test_bf16_goes_out_as_another_implementation_rounds_it(values: list[float], data: st.DataObject) -> None:
    one = GrpcCodec(
        MESSAGES,
        model="m",
        version="7",
        signature=Signature.of(inputs={"x": "BF16[-1]"}, outputs={"y": "BF16[-1]"}),
    )
    array = np.array(values, dtype=np.float32)
    start = data.draw(st.integers(0, len(values)))
    request_ = GrpcRequest("", {}, ("y",), None, 2)
    answer = MESSAGES.ModelInferResponse.FromString(
        one.encode(request_, BatchRows(BatchOutputs({"y": array}), start, len(values)))
    )
    (output,) = answer.outputs
    assert (output.datatype, list(output.shape)) == ("BF16", [len(values) - start])
    sent = np.frombuffer(answer.raw_output_contents[0], ml_dtypes.bfloat16).astype(np.float32)
    with np.errstate(over="ignore"):
        expected = array[start:].astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(sent, expected)


@pytest.mark.parametrize(
    ("kind", "value"), [("double_param", 1.5), ("double_param", 1.0), ("string_param", "1")]
)
def test_a_priority_is_a_whole_number_as_over_rest(kind: str, value: Any) -> None:
    message = request()
    setattr(message.parameters["priority"], kind, value)
    with pytest.raises(InvalidInput, match="priority"):
        decode(message)


def test_no_classes_are_no_classification() -> None:
    message = request()
    message.outputs.add(name="y").parameters["classification"].int64_param = 0
    assert decode(message).wanted == ("y",)


@pytest.mark.parametrize("where", ["request", "output"])
def test_parameters_have_a_bound(where: str) -> None:
    message = request()
    owner = message if where == "request" else message.outputs.add(name="y")
    for number in range(257):
        owner.parameters[str(number)].bool_param = True
    with pytest.raises(InvalidInput, match="257 parameters"):
        decode(message)


def test_an_answer_of_another_rung_names_it_and_what_computed_it() -> None:
    codec = GrpcCodec(MESSAGES, model="m", version="3", signature=SIGNATURE)
    request = GrpcRequest("", {}, ("y",), None, None)
    tensors = {"y": np.ones((2, 2), np.float32)}
    for rung, model, version in (("lite", "lite", "7"), ("constant", "m", ""), ("", "", "")):
        answer = BatchRows(BatchOutputs(tensors, rung, model, version), 0, 2)
        response = MESSAGES.ModelInferResponse.FromString(codec.encode(request, answer))
        said = {name: value.string_param for name, value in response.parameters.items()}
        assert said == ({"rung": rung} if rung else {})
        assert (response.model_name, response.model_version) == ((model, version) if rung else ("m", "3"))
        assert [output.name for output in response.outputs] == ["y"]
