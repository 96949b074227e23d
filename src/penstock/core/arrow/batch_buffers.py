"""The buffers of a record batch, handed out one by one: none of them beyond what was sent, none of them twice.

Sources: the Arrow columnar format; `format/Message.fbs`.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.core.arrow.flatbuffers import Table, broken_stream

__all__ = ["LISTS", "TEXTS", "VIEW", "VIEWS", "VIEW_INLINE_BYTES", "BatchBuffers"]

TEXTS = {"Utf8": "<i4", "LargeUtf8": "<i8", "Binary": "<i4", "LargeBinary": "<i8"}
"""Types of texts, and how wide the offsets of each are."""
LISTS = {"List": "<i4", "LargeList": "<i8"}
VIEWS = ("Utf8View", "BinaryView")
VIEW = np.dtype([("size", "<i4"), ("head", "V4"), ("buffer", "<i4"), ("offset", "<i4")])
VIEW_INLINE_BYTES = 12
"""A view of up to so many bytes has them in itself, from `head` on."""
_COMPRESSION = 3
_NODES, _BUFFERS, _VARIADIC = 1, 2, 4
"""The numbers of `nodes`, `buffers` and `variadicBufferCounts` in `RecordBatch`."""

Int64s = npt.NDArray[np.int64]


class BatchBuffers:
    """Nodes and buffers in the order in which the fields, depth first, have them.

    All methods raise `InvalidInput` where the batch does not hold what it says.
    """

    def __init__(self, batch: Table, body: memoryview) -> None:
        if batch.has(_COMPRESSION):
            raise broken_stream("its buffers are compressed", hint="write it without compression")
        self._nodes = iter(batch.structs(_NODES, "<qq"))
        self._buffers = iter(batch.structs(_BUFFERS, "<qq"))
        self._variadic = iter(batch.structs(_VARIADIC, "<q"))
        self._body = body
        self._left_bytes = len(body)

    def node(self) -> tuple[int, int]:
        """How many values the next column says it has, and how many of them are null: both may be lies."""
        return _next_pair(self._nodes)

    def buffer(self) -> memoryview:
        offset, length = _next_pair(self._buffers)
        if offset < 0 or length < 0 or offset + length > len(self._body):
            raise broken_stream("a buffer is not within its message")
        # A few bytes of metadata each would else copy the same large buffer again and again.
        self._left_bytes -= length
        if self._left_bytes < 0:
            raise broken_stream("its buffers overlap")
        return self._body[offset : offset + length]

    def sized(self, size_bytes: int) -> memoryview:
        """The first so many bytes of the next buffer: writers pad."""
        buffer = self.buffer()
        if len(buffer) < size_bytes:
            raise broken_stream(f"a buffer of {len(buffer)} bytes is to hold {size_bytes}")
        return buffer[:size_bytes]

    def array(self, dtype: "np.dtype[np.generic]", length: int) -> npt.NDArray[Any]:
        return np.frombuffer(self.sized(length * dtype.itemsize), dtype)

    def bits(self, length: int) -> npt.NDArray[np.bool_]:
        packed = np.frombuffer(self.sized((length + 7) // 8), np.uint8)
        return np.unpackbits(packed, count=length, bitorder="little").view(np.bool_)

    def offsets(self, layout: str, length: int) -> Int64s:
        """Where values begin and end, none of them before the one before it."""
        if length == 0:
            self.buffer()  # which may be empty
            return np.zeros(1, dtype=np.int64)
        offsets: Int64s = self.array(np.dtype(layout), length + 1).astype(np.int64)
        if offsets[0] < 0 or bool((offsets[1:] < offsets[:-1]).any()):
            raise broken_stream("offsets point outside of their values")
        return offsets

    def view_buffers(self) -> list[memoryview]:
        """What the next column of views points into."""
        count = next(self._variadic, (0,))[0]
        if not 0 <= count <= len(self._body):
            raise broken_stream(f"a column has {count} buffers")
        return [self.buffer() for _ in range(count)]

    def finish(self) -> None:
        """There are no more columns."""
        if next(self._nodes, None) is not None or next(self._buffers, None) is not None:
            raise broken_stream("a record batch has more buffers than its schema says")


def _next_pair(source: Iterator[tuple[int, ...]]) -> tuple[int, int]:
    found = next(source, None)
    if found is None:
        raise broken_stream("a record batch has fewer buffers than its schema says")
    return found[0], found[1]
