"""V2 inference requests and answers in bytes, as a client has them: tensors in binary after the JSON.

Source: the Open Inference Protocol (V2), REST, and its binary tensor data extension.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from penstock.client.casting import cast
from penstock.core.errors import InvalidInput, shown
from penstock.core.signature import TensorSpec
from penstock.core.tensors import Array, DataType

__all__ = ["Answer", "GarbledAnswer", "ModelMetadata", "decode_answer", "decode_metadata", "encode_request"]

_LENGTH = struct.Struct("<I")
_encode = msgspec.json.Encoder().encode


class GarbledAnswer(ValueError):
    """The bytes are no V2 answer; the text says why. Clients raise `BadAnswer` for it."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a model answered. `rung` is "" for the model itself, else the step of the fallback ladder.

    `outputs` are numpy arrays with the rows first; text is `str`, and a tensor of bytes of which any element is
    not UTF-8 has `bytes` in it throughout.
    """

    outputs: dict[str, Array]
    model: str
    version: str
    rung: str = ""
    id: str | None = None


class ModelMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What a model takes and gives."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class _Tensor(msgspec.Struct, kw_only=True):
    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class _Response(msgspec.Struct, kw_only=True):
    model_name: str
    outputs: list[_Tensor]
    model_version: str | None = None
    id: str | None = None
    parameters: dict[str, Any] = {}


class _Metadata(msgspec.Struct, kw_only=True):
    name: str
    inputs: list[_Tensor]
    outputs: list[_Tensor]
    platform: str = ""
    versions: list[str] = []


_response_decoder = msgspec.json.Decoder(_Response)
_metadata_decoder = msgspec.json.Decoder(_Metadata)


def encode_request(
    specs: Sequence[TensorSpec],
    inputs: Mapping[str, object],
    *,
    outputs: Sequence[str] | None = None,
    id: str | None = None,  # noqa: A002 - V2 calls it so
) -> tuple[bytes, int]:
    """The body, and the length of the JSON in it. Raises `InvalidInput` for inputs that are not the model's."""
    names = {spec.name: spec for spec in specs}
    if set(names) != set(inputs):
        raise _misnamed(specs, inputs)
    heads: list[dict[str, Any]] = []
    chunks: list[bytes] = []
    rows = -1
    for name, spec in names.items():
        array = cast(inputs[name], spec)
        if rows not in (-1, len(array)):
            raise InvalidInput(
                f"input {shown(name)} has {len(array)} rows where the inputs before it have {rows}", where=name
            )
        rows = len(array)
        chunks.append(_to_binary(array, spec.datatype))
        heads.append(
            {
                "name": name,
                "datatype": spec.datatype.wire,
                "shape": array.shape,
                "parameters": {"binary_data_size": len(chunks[-1])},
            }
        )
    message: dict[str, Any] = {"inputs": heads, "parameters": {"binary_data_output": True}}
    if id is not None:
        message["id"] = id
    if outputs is not None:
        message["outputs"] = [{"name": name} for name in outputs]
    head = _encode(message)
    return b"".join((head, *chunks)), len(head)


def decode_answer(body: bytes, headers: Mapping[bytes, bytes]) -> Answer:
    """Raises `GarbledAnswer` for bytes that are no answer to an inference."""
    told = headers.get(b"inference-header-content-length")
    json_bytes = len(body)
    if told is not None:
        if not told.isdigit() or len(told) > 18 or int(told) > len(body):
            raise GarbledAnswer(f"inference-header-content-length is {shown(told)}, of {len(body)} bytes")
        json_bytes = int(told)
    message = _decode(_response_decoder, body[:json_bytes])
    raw = memoryview(body)[json_bytes:]
    outputs: dict[str, Array] = {}
    for tensor in message.outputs:
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            outputs[tensor.name] = _from_json(tensor)
            continue
        if type(size) is not int or not 0 <= size <= len(raw):
            raise GarbledAnswer(f"output {shown(tensor.name)} has {shown(size)} bytes, {len(raw)} are left")
        outputs[tensor.name] = _from_binary(tensor, raw[:size])
        raw = raw[size:]
    if len(raw):
        raise GarbledAnswer(f"{len(raw)} bytes are left over after the outputs")
    rung = message.parameters.get("rung", "")
    return Answer(
        outputs=outputs,
        model=message.model_name,
        version=message.model_version or "",
        rung=headers.get(b"x-penstock-rung", b"").decode("latin-1") or str(rung),
        id=message.id,
    )


def decode_metadata(body: bytes) -> ModelMetadata:
    """Raises `GarbledAnswer` for what is no model's metadata."""
    message = _decode(_metadata_decoder, body)
    try:
        inputs, outputs = (
            tuple(
                TensorSpec(name=each.name, datatype=_datatype(each), shape=tuple(each.shape))
                for each in tensors
            )
            for tensors in (message.inputs, message.outputs)
        )
    except InvalidInput as error:
        raise GarbledAnswer(error.message) from None
    return ModelMetadata(
        name=message.name,
        versions=tuple(message.versions),
        platform=message.platform,
        inputs=inputs,
        outputs=outputs,
    )


def _decode(decoder: msgspec.json.Decoder[Any], text: bytes) -> Any:
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise GarbledAnswer(f"it is not what V2 answers: {error}") from None


def _misnamed(specs: Sequence[TensorSpec], inputs: Mapping[str, object]) -> InvalidInput:
    missing = [spec.name for spec in specs if spec.name not in inputs]
    surplus = [name for name in inputs if name not in {spec.name for spec in specs}]
    said = [f"missing {shown(missing)}"] if missing else []
    said += [f"unknown {shown(surplus)}"] if surplus else []
    return InvalidInput(
        f"inputs do not match the model's: {', '.join(said)}",
        where=str((missing or surplus)[0]),
        hint=f"the model takes {', '.join(f'{spec.name} {spec.describe()}' for spec in specs)}",
    )


def _datatype(tensor: _Tensor) -> DataType:
    try:
        return DataType(tensor.datatype)
    except ValueError:
        raise GarbledAnswer(
            f"tensor {shown(tensor.name)} has the unknown datatype {shown(tensor.datatype)}"
        ) from None


def _to_binary(array: Array, datatype: DataType) -> bytes:
    if datatype.is_object:
        encoded = [each.encode() if isinstance(each, str) else each for each in array.ravel().tolist()]
        return b"".join(piece for each in encoded for piece in (_LENGTH.pack(len(each)), each))
    if datatype is DataType.BF16:
        return _to_bf16(array.astype("<f4")).tobytes()
    return array.tobytes()


def _to_bf16(array: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The upper halves, rounded to the nearest, ties to even; a NaN stays one."""
    bits = array.view(np.uint32)
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)
    return np.where(np.isnan(array), (bits >> np.uint32(16)) | np.uint32(0x40), rounded).astype("<u2")


def _from_binary(tensor: _Tensor, raw: memoryview) -> Array:
    datatype = _datatype(tensor)
    if datatype.is_object:
        return _shaped(_texts(tensor.name, raw), tensor)
    bf16 = datatype is DataType.BF16
    dtype = np.dtype("<u2") if bf16 else datatype.numpy
    if len(raw) % dtype.itemsize:
        raise GarbledAnswer(f"output {shown(tensor.name)}: {len(raw)} bytes of {tensor.datatype}")
    # A copy: aligned, to be written to, and not holding the whole body.
    array = np.frombuffer(raw, dtype).copy()
    if bf16:
        array = (array.astype("<u4") << np.uint32(16)).view("<f4")
    return _shaped(array, tensor)


def _from_json(tensor: _Tensor) -> Array:
    datatype = _datatype(tensor)
    if tensor.data is None:
        raise GarbledAnswer(f"output {shown(tensor.name)} has no data")
    if datatype.is_object:
        return _shaped(_objects(tensor.data), tensor)
    try:
        nan = float("nan")
        return _shaped(
            np.array([nan if each is None else each for each in tensor.data], dtype=datatype.numpy), tensor
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise GarbledAnswer(f"output {shown(tensor.name)}: {error}") from None


def _shaped(array: npt.NDArray[Any], tensor: _Tensor) -> Array:
    shape = tensor.shape
    if not shape or min(shape) < 0 or math.prod(shape) != array.size or len(shape) > 64:
        raise GarbledAnswer(
            f"output {shown(tensor.name)} of shape {shown(shape)} came with {array.size} elements"
        )
    return array.reshape(shape)


def _objects(elements: Sequence[str | bytes]) -> npt.NDArray[Any]:
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array


def _texts(name: str, raw: memoryview) -> npt.NDArray[Any]:
    elements: list[bytes] = []
    offset = 0
    while offset < len(raw):
        if offset + _LENGTH.size > len(raw):
            raise GarbledAnswer(f"output {shown(name)}, element {len(elements)}: its length is cut off")
        (size,) = _LENGTH.unpack_from(raw, offset)
        offset += _LENGTH.size
        if offset + size > len(raw):
            raise GarbledAnswer(f"output {shown(name)}, element {len(elements)}: its length is {size}")
        elements.append(bytes(raw[offset : offset + size]))
        offset += size
    try:
        return _objects([each.decode() for each in elements])
    except UnicodeDecodeError:
        return _objects(elements)
