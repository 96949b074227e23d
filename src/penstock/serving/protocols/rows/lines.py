"""Newline-delimited JSON, cut into lines as its bytes come. Source: the NDJSON specification, version 1.0."""

from typing import NamedTuple

__all__ = ["Line", "LineSplitter"]


class Line(NamedTuple):
    """One line without its end. `number` counts from 1; `content` is None where it passed the limit."""

    number: int
    content: bytes | None


class LineSplitter:
    """Fed with bytes, gives lines; holds no more than one line that has begun."""

    __slots__ = ("_begun", "_line_bytes_max", "_lines", "_too_long")

    def __init__(self, *, line_bytes_max: int) -> None:
        self._line_bytes_max = line_bytes_max
        self._begun = bytearray()
        self._too_long = False
        self._lines = 0

    def feed(self, data: bytes) -> list[Line]:
        """The lines that `data` ends."""
        *ended, rest = data.split(b"\n")
        lines = [self._end(piece) for piece in ended]
        self._begin(rest)
        return lines

    def end(self) -> list[Line]:
        """The last line, where there is one without an end."""
        return [self._end(b"")] if self._begun or self._too_long else []

    def _begin(self, piece: bytes) -> None:
        if self._too_long:
            return
        self._begun += piece
        if len(self._begun) > self._line_bytes_max:
            self._too_long = True
            self._begun.clear()

    def _end(self, piece: bytes) -> Line:
        self._lines += 1
        if self._begun or self._too_long:
            self._begin(piece)
            content = None if self._too_long else bytes(self._begun)
            self._begun.clear()
            self._too_long = False
        else:
            content = piece if len(piece) <= self._line_bytes_max else None
        return Line(self._lines, content)
