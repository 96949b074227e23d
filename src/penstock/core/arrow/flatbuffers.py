"""Reads FlatBuffers tables, as far as Arrow's metadata needs, and never past what was sent.

A library's reader for this format was tried and given up: Polars aborts the process on metadata that lies about
lengths, and a server reads what anybody sends. Source: the FlatBuffers binary format ("FlatBuffer internals").
"""

import struct
from collections.abc import Iterator

from penstock.core.errors import InvalidInput

__all__ = ["Table", "broken_stream"]


class Table:
    """A table at a place in a buffer. Fields are told by their numbers in the format's schema.

    All methods raise `InvalidInput` where something points outside of the buffer.
    """

    __slots__ = ("_at", "_buffer", "_slots", "_vtable")

    def __init__(self, buffer: bytes, at: int) -> None:
        self._buffer = buffer
        self._at = at
        self._vtable = at - _unpack("<i", buffer, at)
        self._slots = (_unpack("<H", buffer, self._vtable) - 4) // 2

    @classmethod
    def root(cls, buffer: bytes) -> "Table":
        return cls(buffer, _unpack("<I", buffer, 0))

    def has(self, field: int) -> bool:
        return self._place(field) != 0

    def number(self, field: int, layout: str, default: int = 0) -> int:
        """A scalar; `layout` is that of `struct`, e.g. `<q`."""
        place = self._place(field)
        return _unpack(layout, self._buffer, place) if place else default

    def table(self, field: int) -> "Table | None":
        place = self._place(field)
        return Table(self._buffer, self._follow(place)) if place else None

    def text(self, field: int) -> str:
        """A string; empty where there is none."""
        place = self._place(field)
        if not place:
            return ""
        start, length = self._vector(place)
        content = self._buffer[start : start + length]
        if len(content) != length:
            raise _outside()
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise broken_stream("a name in it is not UTF-8") from None

    def tables(self, field: int) -> "Iterator[Table]":
        """The tables in a vector."""
        place = self._place(field)
        if place:
            start, length = self._vector(place)
            for at in range(start, start + 4 * length, 4):
                yield Table(self._buffer, self._follow(at))

    def structs(self, field: int, layout: str) -> list[tuple[int, ...]]:
        """The structs in a vector, each of which is laid out as `layout`."""
        place = self._place(field)
        if not place:
            return []
        start, length = self._vector(place)
        size = struct.calcsize(layout)
        content = self._buffer[start : start + length * size]
        if len(content) != length * size:
            raise _outside()
        return list(struct.iter_unpack(layout, content))

    def _place(self, field: int) -> int:
        if field >= self._slots:
            return 0
        offset = _unpack("<H", self._buffer, self._vtable + 4 + 2 * field)
        return self._at + offset if offset else 0

    def _follow(self, place: int) -> int:
        return place + _unpack("<I", self._buffer, place)

    def _vector(self, place: int) -> tuple[int, int]:
        start = self._follow(place)
        return start + 4, _unpack("<I", self._buffer, start)


def broken_stream(what: str, hint: str | None = None) -> InvalidInput:
    """The error for what is no Arrow stream that could be read."""
    return InvalidInput(f"this Arrow stream cannot be read: {what}", where="body", hint=hint)


def _unpack(layout: str, buffer: bytes, at: int) -> int:
    if at < 0:
        raise _outside()
    try:
        return int(struct.unpack_from(layout, buffer, at)[0])
    except struct.error:
        raise _outside() from None


def _outside() -> InvalidInput:
    return broken_stream("a message's metadata points outside of itself")
