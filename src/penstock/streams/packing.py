"""State as bytes: a small header and the arrays as they lie in memory. Nothing in it can run code.

    magic (4) · CRC-32 of all that follows (4) · length of the head (8) · head, MessagePack · arrays, each at a
    multiple of 8 bytes

The head holds the caller's header and each array's name, type and shape. Numbers are little-endian.
"""

import struct
import zlib
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from penstock.core.errors import CorruptState

__all__ = ["pack", "unpack"]

MAGIC = b"PST1"
DTYPES = frozenset({"<i8", "<i4", "<i2", "|i1", "<u8", "<u4", "<u2", "|u1", "<f8", "<f4", "|b1"})
ALIGNMENT_BYTES = 8
_PREFIX = struct.Struct("<4sIQ")
_CHECKED_FROM = 8


class _Head(msgspec.Struct, array_like=True):
    header: dict[str, object]
    arrays: list[tuple[str, str, list[int]]]


_decoder = msgspec.msgpack.Decoder(_Head)


def pack(header: Mapping[str, object], arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The header (what MessagePack can say) and arrays of integers, floats or booleans."""
    described: list[tuple[str, str, list[int]]] = []
    buffers: list[bytes] = []
    for name, array in arrays.items():
        little = array if array.dtype.str in DTYPES else array.astype(array.dtype.newbyteorder("<"))
        assert little.dtype.str in DTYPES, f"{name} is of {array.dtype}"
        described.append((name, little.dtype.str, list(array.shape)))
        buffers.append(little.tobytes())
    head = msgspec.msgpack.encode(_Head(dict(header), described))
    parts = [_PREFIX.pack(MAGIC, 0, len(head)), head]
    position = _PREFIX.size + len(head)
    for buffer in buffers:
        gap = -position % ALIGNMENT_BYTES
        parts += [bytes(gap), buffer]
        position += gap + len(buffer)
    packed = bytearray().join(parts)
    struct.pack_into("<I", packed, len(MAGIC), zlib.crc32(memoryview(packed)[_CHECKED_FROM:]))
    return bytes(packed)


def unpack(data: bytes) -> tuple[dict[str, object], dict[str, npt.NDArray[Any]]]:
    """What was packed; the arrays are views of `data`, not to be written to. Raises `CorruptState`."""
    head, position = _read_head(data)
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, dtype, shape in head.arrays:
        if dtype not in DTYPES or any(length < 0 for length in shape):
            raise CorruptState(f"the state's array {name!r} is described as {dtype!r} of {shape}")
        position += -position % ALIGNMENT_BYTES
        count = int(np.prod(shape, dtype=object))
        size_bytes = count * np.dtype(dtype).itemsize
        if position + size_bytes > len(data):
            raise CorruptState(f"the state is cut off in its array {name!r}: {len(data)} bytes")
        arrays[name] = np.frombuffer(data, dtype=dtype, count=count, offset=position).reshape(shape)
        position += size_bytes
    if position != len(data):
        raise CorruptState(f"the state has {len(data) - position} bytes too many")
    return head.header, arrays


def _read_head(data: bytes) -> tuple[_Head, int]:
    """The head, and where it ends."""
    if len(data) < _PREFIX.size:
        raise CorruptState(f"the state has only {len(data)} bytes")
    magic, checksum, length = _PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise CorruptState(f"the state starts with {magic!r}, not with {MAGIC!r}")
    if zlib.crc32(memoryview(data)[_CHECKED_FROM:]) != checksum:
        raise CorruptState("the state does not have the checksum it was packed with")
    end = _PREFIX.size + length
    if end > len(data):
        raise CorruptState(f"the state is cut off in its head: {len(data)} bytes")
    try:
        return _decoder.decode(memoryview(data)[_PREFIX.size : end]), end
    except (msgspec.MsgspecError, ValueError) as error:
        raise CorruptState(f"the state's head cannot be read: {error}") from error
