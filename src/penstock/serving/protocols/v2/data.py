"""Tensor data on the wire: JSON lists and raw little-endian bytes."""

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.core.errors import InvalidInput, shown
from penstock.core.signature import TensorSpec
from penstock.core.tensors import Array, DataType

__all__ = ["bf16_to_binary", "from_binary", "from_json", "strings_to_binary", "to_json"]

_EXPECTED = {
    "b": (frozenset({bool}), "true or false"),
    "i": (frozenset({int}), "an integer"),
    "u": (frozenset({int}), "an integer that is not negative"),
    "f": (frozenset({int, float}), "a number"),
    "O": (frozenset({str}), "a string"),
}
BF16_BYTES = 2
_LENGTH = struct.Struct("<I")


def from_json(data: list[Any], spec: TensorSpec, shape: tuple[int, ...], *, typed: bool = False) -> Array:
    """An array of `shape` from a JSON list, flat or nested, in row-major order.

    `typed` says that the elements' types are known to fit; null is NaN where the spec has a place for it.
    Raises `InvalidInput` for another number of elements, an element of another type, and one that the
    type cannot hold.
    """
    count = math.prod(shape)
    if len(data) != count or (not typed and data and type(data[0]) is list):
        data = _flatten(data, spec.name, depth=len(shape))
        if len(data) != count:
            raise InvalidInput(
                f"input {shown(spec.name)}: shape {shown(list(shape))} takes {shown(count)} elements, "
                f"data has {len(data)}",
                where=spec.name,
            )
    if not typed:
        _check_types(data, spec)
    dtype = spec.dtype
    if dtype.kind == "O":
        return _objects(data, spec, shape)
    try:
        array = np.array(data, dtype=dtype)
    except (OverflowError, ValueError) as error:
        raise InvalidInput(f"input {shown(spec.name)}: {error}", where=spec.name) from None
    if spec.datatype is DataType.BF16:
        array = _from_bf16(_to_bf16(array))
    return _shaped(array, spec, shape)


def from_binary(raw: bytes, spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    """An array of `shape` over raw bytes. Raises `InvalidInput` where their number does not fit."""
    count = math.prod(shape)
    dtype = spec.dtype
    if dtype.kind == "O":
        return _objects(_split_bytes(memoryview(raw), spec, count), spec, shape)
    bf16 = spec.datatype is DataType.BF16
    itemsize = BF16_BYTES if bf16 else dtype.itemsize
    if len(raw) != count * itemsize:
        raise InvalidInput(
            f"input {shown(spec.name)}: shape {shown(list(shape))} of {spec.datatype.wire} takes "
            f"{shown(count * itemsize)} bytes, binary_data_size is {len(raw)}",
            where=spec.name,
        )
    if bf16:
        return _shaped(_from_bf16(np.frombuffer(raw, dtype="<u2")), spec, shape)
    if dtype.kind == "b":
        return _shaped(np.frombuffer(raw, dtype=np.uint8) != 0, spec, shape)
    return _shaped(np.frombuffer(raw, dtype), spec, shape)


def strings_to_binary(elements: Sequence[str | bytes]) -> bytes:
    """Text or raw bytes as V2 has them in binary: each element after its length, four bytes little-endian."""
    pieces: list[bytes] = []
    for element in elements:
        encoded = element.encode() if isinstance(element, str) else element
        pieces += (_LENGTH.pack(len(encoded)), encoded)
    return b"".join(pieces)


def bf16_to_binary(array: Array) -> bytes:
    """float32 in memory as BF16 on the wire, rounded to the nearest, of two equally near to the even one."""
    return _to_bf16(np.ascontiguousarray(array, dtype="<f4")).tobytes()


def _to_bf16(array: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    bits = array.view(np.uint32)
    upper = bits >> np.uint32(16)
    # Half of the last place that stays, less one where that place is even, carries into it as rounding does.
    # Beyond the largest number the carry makes infinity, which is what rounding means there too.
    rounded = (bits + (np.uint32(0x7FFF) + (upper & np.uint32(1)))) >> np.uint32(16)
    # A NaN's highest bit of fraction stays set: cut off, or rounded, it might turn into infinity or zero.
    return np.where(np.isnan(array), upper | np.uint32(0x40), rounded).astype("<u2")


def _from_bf16(halves: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    return (halves.astype("<u4") << np.uint32(16)).view("<f4")


def to_json(values: list[Any], datatype: DataType) -> list[Any]:
    """The elements of an output as JSON has them. NaN and infinity become null, which is all JSON offers."""
    if datatype is DataType.BYTES:
        return [value.decode("utf-8", "backslashreplace") for value in values]
    if datatype is DataType.BF16:
        rounded: list[Any] = _from_bf16(_to_bf16(np.array(values, dtype="<f4"))).tolist()
        return rounded
    return values


def _flatten(data: list[Any], name: str, depth: int) -> list[Any]:
    """One level of nesting after the other, at most as many as the shape has axes."""
    for _ in range(depth - 1):
        if not data or type(data[0]) is not list:
            return data
        if not all(type(element) is list for element in data):
            raise InvalidInput(f"input {shown(name)}: data is nested unevenly", where=name)
        data = [element for inner in data for element in inner]
    return data


def _check_types(data: Sequence[Any], spec: TensorSpec) -> None:
    allowed, expected = _EXPECTED[spec.datatype.numpy.kind]
    found = set(map(type, data))
    if found <= allowed:
        return
    for index, element in enumerate(data):
        if type(element) in allowed or (element is None and spec.nan):
            continue
        got = "null" if element is None else shown(element)
        hint = "this model has no place for missing values" if element is None else None
        raise InvalidInput(
            f"input {shown(spec.name)}, element {index}: expected {expected}, got {got}",
            where=spec.name,
            hint=hint,
        )


def _objects(elements: Sequence[str | bytes], spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    array = np.empty(len(elements), dtype=object)
    if spec.datatype is DataType.BYTES:
        array[:] = [element.encode() if isinstance(element, str) else element for element in elements]
    else:
        array[:] = elements
    return _shaped(array, spec, shape)


def _shaped(array: npt.NDArray[Any], spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    try:
        return array.reshape(shape)
    except (OverflowError, ValueError):
        # The elements are as many as it takes, so one axis is 0 and another beyond any memory.
        raise InvalidInput(
            f"input {shown(spec.name)}: no array has the shape {shown(list(shape))}", where=spec.name
        ) from None


def _split_bytes(raw: memoryview, spec: TensorSpec, count: int) -> list[str | bytes]:
    elements: list[str | bytes] = []
    offset = 0
    while offset < len(raw):
        if len(elements) == count or offset + _LENGTH.size > len(raw):
            break
        (size,) = _LENGTH.unpack_from(raw, offset)
        offset += _LENGTH.size
        if offset + size > len(raw):
            raise InvalidInput(
                f"input {shown(spec.name)}, element {len(elements)}: its length {size} passes the tensor's end",
                where=spec.name,
            )
        elements.append(_text(raw[offset : offset + size], spec, len(elements)))
        offset += size
    if offset != len(raw) or len(elements) != count:
        raise InvalidInput(
            f"input {shown(spec.name)}: expected {shown(count)} elements, each after its length in four bytes; "
            f"{len(elements)} and {len(raw) - offset} bytes were found",
            where=spec.name,
        )
    return elements


def _text(raw: memoryview, spec: TensorSpec, index: int) -> str | bytes:
    if spec.datatype is DataType.BYTES:
        return bytes(raw)
    try:
        return str(raw, "utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"input {shown(spec.name)}, element {index} is not UTF-8: {error.reason}", where=spec.name
        ) from None
