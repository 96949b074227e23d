"""Keys of what is asked: equal for equal requests, and never for two that differ.

Everything is written with its type and its length before it, so that nothing can be moved across a boundary,
and the whole goes through BLAKE2b (RFC 7693) keyed with a secret of the process. Without the key nobody can
look for two requests that share one, and so have another's answer given; a fast hash would allow it.
"""

import hashlib
import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from penstock.core.errors import InvalidInput, shown
from penstock.core.tensors import Array

__all__ = ["KEY_BYTES", "canonical", "digest", "tensors_parts"]

KEY_BYTES = 16
"""128 bits: with 2^40 entries a chance of 2^-49 that any two share a key."""
DEPTH_MAX = 32
HEADS_MAX = 1024
_KINDS = frozenset("biufcSUmMVO")
"""Of elements whose memory is their value, and objects, which are written one by one."""

_pack_length = struct.Struct("<Q").pack
_pack_double = struct.Struct("<d").pack


def digest(secret: bytes, parts: list[bytes]) -> bytes:
    """The key of what `parts` say together, which has to tell its parts apart by itself."""
    return hashlib.blake2b(b"".join(parts), key=secret, digest_size=KEY_BYTES).digest()


def tensors_parts(tensors: Mapping[str, Array], wanted: tuple[str, ...] | None) -> list[bytes]:
    """Tensors in their order, bit for bit (-0.0 is not 0.0, a NaN is its payload), and the outputs wanted."""
    parts = [_pack_length(len(tensors)), b"*" if wanted is None else _names(wanted)]
    for name, array in tensors.items():
        _write_array(name, array, parts)
    return parts


def canonical(value: object) -> bytes:
    """A value of arrays, mappings, sequences and scalars in bytes that no other value has.

    A mapping's order counts, and so does a type: 1, 1.0 and True differ. Raises `InvalidInput` for what has
    no such form: objects of other types, and what is nested more than 32 deep.
    """
    parts: list[bytes] = []
    _write(value, parts, 0)
    return b"".join(parts)


def _write(value: Any, parts: list[bytes], depth: int) -> None:
    if depth > DEPTH_MAX:
        raise InvalidInput(f"a value nested more than {DEPTH_MAX} deep has no key")
    scalar = _scalar(value)
    if scalar is not None:
        parts.append(scalar)
    elif isinstance(value, np.ndarray) and type(value) is np.ndarray:
        parts.append(b"a")
        _write_array("", value, parts, depth)
    elif type(value) is list or type(value) is tuple:
        parts.append((b"l" if type(value) is list else b"t") + _pack_length(len(value)))
        for each in value:
            _write(each, parts, depth + 1)
    elif type(value) is dict:
        parts.append(b"d" + _pack_length(len(value)))
        for key, each in value.items():
            _write(key, parts, depth + 1)
            _write(each, parts, depth + 1)
    else:
        raise InvalidInput(
            f"a value of type {shown(type(value).__name__)} has no key",
            hint="arrays, numbers, text, bytes, None, and lists, tuples and dicts of them have one",
        )


def _scalar(value: Any) -> bytes | None:
    """A scalar's form; None for what is no scalar, or one of memory that is not its value."""
    if isinstance(value, np.generic):
        dtype = value.dtype
        if dtype.kind not in _KINDS or dtype.names is not None:
            return None
        return b"g" + _sized(dtype.str.encode()) + _sized(value.tobytes())
    write = _SCALARS.get(type(value))
    return None if write is None else write(value)


def _text(value: str) -> bytes:
    return b"s" + _sized(value.encode("utf-8", "surrogatepass"))


def _integer(value: int) -> bytes:
    return b"i" + _sized(value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))


_SCALARS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"N",
    bool: lambda value: b"T" if value else b"F",
    int: _integer,
    float: lambda value: b"f" + _pack_double(value),
    str: _text,
    bytes: lambda value: b"b" + _sized(value),
}


def _write_array(name: str, array: Array, parts: list[bytes], depth: int = 0) -> None:
    dtype = array.dtype
    if dtype.kind not in _KINDS or dtype.names is not None:
        raise InvalidInput(
            f"an array of {shown(str(dtype))} has no key", hint="give records' fields as arrays of their own"
        )
    parts.append(_head(name, dtype.str, array.shape))
    if dtype.kind != "O":
        parts.append(array.tobytes())
        return
    for element in array.ravel().tolist():
        if type(element) is str:
            parts.append(_text(element))  # the usual case, a little faster
        else:
            _write(element, parts, depth + 1)


@lru_cache(HEADS_MAX)
def _head(name: str, dtype: str, shape: tuple[int, ...]) -> bytes:
    """Says how many bytes, or elements, come after it."""
    axes = b"".join(_pack_length(axis) for axis in shape)
    return (
        _sized(name.encode("utf-8", "surrogatepass")) + _sized(dtype.encode()) + _pack_length(len(shape)) + axes
    )


@lru_cache(HEADS_MAX)
def _names(names: tuple[str, ...]) -> bytes:
    return (
        b"+"
        + _pack_length(len(names))
        + b"".join(_sized(name.encode("utf-8", "surrogatepass")) for name in names)
    )


def _sized(content: bytes) -> bytes:
    return _pack_length(len(content)) + content
