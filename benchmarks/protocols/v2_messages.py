"""V2's inference messages over gRPC, encoded and read by hand: what goes over the wire is then the same for
every server, and no generated code is needed. Field numbers are those of the Open Inference Protocol.
"""

import struct
from collections.abc import Iterator, Sequence

import numpy as np

__all__ = ["INFER_METHOD", "infer_request", "output_floats"]

INFER_METHOD = "/inference.GRPCInferenceService/ModelInfer"
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Field = tuple[int, int | bytes]


def infer_request(model: str, name: str, rows: np.ndarray, *, raw: bool, version: str = "") -> bytes:
    """A ModelInferRequest with one FP32 tensor: in `raw_input_contents`, or typed in `contents`."""
    values = np.ascontiguousarray(rows, dtype="<f4")
    shape = b"".join(_varint(length) for length in values.shape)
    tensor = _field(1, name.encode()) + _field(2, b"FP32") + _field(3, shape)
    if not raw:
        tensor += _field(5, _field(6, values.tobytes()))
    message = _field(1, model.encode()) + (_field(2, version.encode()) if version else b"") + _field(5, tensor)
    return message + (_field(7, values.tobytes()) if raw else b"")


def output_floats(message: bytes, name: str) -> list[float]:
    """The floats of an output in a ModelInferResponse, wherever they stand. Raises `ValueError`, `KeyError`."""
    outputs = [
        dict(_fields(value)) for number, value in _fields(message) if number == 5 and type(value) is bytes
    ]
    raw = [value for number, value in _fields(message) if number == 6]
    for place, output in enumerate(outputs):
        if output[1] != name.encode():
            continue
        if raw:
            return _floats(raw[place], output[2])
        contents = dict(_fields(_as_bytes(output[5])))
        return _floats(contents[6], b"FP32") if 6 in contents else _floats(contents[7], b"FP64")
    raise KeyError(name)


def _floats(data: int | bytes, datatype: int | bytes) -> list[float]:
    kind = {b"FP32": "<f4", b"FP64": "<f8"}[_as_bytes(datatype)]
    return [float(value) for value in np.frombuffer(_as_bytes(data), kind)]


def _as_bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a field of another wire type")
    return value


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: Sequence[int], at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if not byte & 0x80:
            return value, at


def _fields(message: bytes) -> Iterator[Field]:
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _read_varint(message, at)
            yield number, value
        elif kind == BYTES:
            size, at = _read_varint(message, at)
            yield number, message[at : at + size]
            at += size
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
            yield number, int.from_bytes(struct.pack(f"{size}s", message[at : at + size]), "little")
            at += size
        else:
            raise ValueError(f"wire type {kind}")
