"""Looks at an Arrow stream before Polars reads it: nothing in it may point, or count, beyond what was sent.

Polars ends the process on metadata that lies about lengths, and anybody may append to a topic. Sources: the
Arrow columnar format; `format/Message.fbs`.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from penstock.core.arrow.arrow_messages import ArrowMessages, MessageKind
from penstock.core.arrow.arrow_schema import ArrowField, read_schema
from penstock.core.arrow.flatbuffers import Table, broken_stream

__all__ = ["check_stream"]

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
TEXT_BYTES_MAX = 64 * 1024 * 1024
"""Of a column's views together, which may all be of the same bytes."""
FILE_MAGIC = b"ARROW1"
_OFFSETS = {
    "Utf8": "<i4",
    "Binary": "<i4",
    "List": "<i4",
    "LargeUtf8": "<i8",
    "LargeBinary": "<i8",
    "LargeList": "<i8",
}
_VIEWS = ("Utf8View", "BinaryView")
_VIEW = np.dtype([("size", "<i4"), ("head", "V4"), ("buffer", "<i4"), ("offset", "<i4")])
VIEW_INLINE_BYTES = 12
Int64s = npt.NDArray[np.int64]


def check_stream(stream: bytes) -> None:
    """Raises `InvalidInput` for what is no Arrow stream, or could do harm as one."""
    if stream.startswith(FILE_MAGIC):
        raise broken_stream("it is an Arrow file", hint="write it as a stream")
    messages = ArrowMessages(message_bytes_max=MESSAGE_BYTES_MAX)
    found = messages.feed(stream)
    messages.finish()
    if not found or found[0].kind is not MessageKind.SCHEMA:
        raise broken_stream("it does not begin with a schema")
    fields = read_schema(found[0].header)
    if len({field.name for field in fields}) != len(fields):
        raise broken_stream("a column comes twice in it")
    known: dict[int, int] = {}
    for message in found[1:]:
        if message.kind is MessageKind.SCHEMA:
            raise broken_stream("it has two schemas")
        if message.kind is MessageKind.DICTIONARY:
            _check_dictionary(fields, message.header, message.body, known)
        else:
            _check_batch(fields, message.header, message.body, known)


def _check_dictionary(
    fields: tuple[ArrowField, ...], header: Table, body: memoryview, known: dict[int, int]
) -> None:
    number = header.number(0, "<q")
    batch = header.table(1)
    owner = _owner(fields, number)
    if batch is None or owner is None:
        raise broken_stream("a dictionary belongs to no column")
    if header.number(2, "<?") or number in known:
        raise broken_stream("a dictionary changes on the way", hint="write all of its values at once")
    _check_batch((owner._replace(dictionary=None, index_type=None),), batch, body, known)
    known[number] = batch.number(0, "<q")


def _owner(fields: tuple[ArrowField, ...], dictionary: int) -> ArrowField | None:
    for field in fields:
        found = field if field.dictionary == dictionary else _owner(field.children, dictionary)
        if found is not None:
            return found
    return None


def _check_batch(fields: tuple[ArrowField, ...], batch: Table, body: memoryview, known: dict[int, int]) -> None:
    if batch.has(3):
        raise broken_stream("its buffers are compressed", hint="write it without compression")
    rows = batch.number(0, "<q")
    checker = _Checker(batch, body, known)
    for field in fields:
        checker.column(field, rows)
    checker.finish()


class _Checker:
    """Takes nodes and buffers in the order in which the fields, depth first, have them."""

    def __init__(self, batch: Table, body: memoryview, known: dict[int, int]) -> None:
        self._nodes = iter(batch.structs(1, "<qq"))
        self._buffers = iter(batch.structs(2, "<qq"))
        self._variadic = iter(batch.structs(4, "<q"))
        self._body = body
        self._left_bytes = len(body)
        self._known = known

    def finish(self) -> None:
        if next(self._nodes, None) is not None or next(self._buffers, None) is not None:
            raise broken_stream("a record batch has more buffers than its schema says")

    def column(self, field: ArrowField, rows: int | None) -> int:
        """How many values the next column has: `rows`, or as many as it says."""
        length, nulls = self._next_pair(self._nodes)
        if not 0 <= length <= 8 * len(self._body) or (rows is not None and length != rows):
            raise broken_stream(f"a column has {length} values for {rows} rows in {len(self._body)} bytes")
        if not 0 <= nulls <= length:
            raise broken_stream(f"{nulls} of {length} values are null")
        if field.type.name == "Null" and field.dictionary is None:
            return length  # it has no buffers
        valid = self._valid(length, nulls)
        if field.dictionary is not None:
            self._indices(field, length, valid)
        elif field.type.dtype is not None:
            self._sized(length * field.type.dtype.itemsize)
        elif field.type.width:
            self._sized(length * field.type.width)
        else:
            self._of_any_size(field, length)
        return length

    def _valid(self, length: int, nulls: int) -> npt.NDArray[np.bool_] | None:
        """Which values are none of null; None: all."""
        validity = self._buffer()
        if not nulls and not len(validity):
            return None
        if 8 * len(validity) < length:
            raise broken_stream("a buffer of nulls is too short")
        packed = np.frombuffer(validity, np.uint8)[: (length + 7) // 8]
        valid = np.unpackbits(packed, count=length, bitorder="little").view(np.bool_)
        if length - int(valid.sum()) != nulls:
            raise broken_stream(f"not {nulls} of {length} values are null")
        return valid

    def _of_any_size(self, field: ArrowField, length: int) -> None:
        name = field.type.name
        if name == "Bool":
            self._sized((length + 7) // 8)
        elif name in _VIEWS:
            self._views(length)
        elif name == "FixedSizeList":
            self._children(field, length * field.type.size, 1)
        elif name == "Struct":
            self._children(field, length, len(field.children) or 1)
        elif name in ("List", "LargeList"):
            self._lists(field, length)
        elif name in _OFFSETS:
            self._texts(name, length)
        else:
            raise broken_stream(f"its type {name} is not read here")

    def _children(self, field: ArrowField, length: int, count: int) -> None:
        if len(field.children) != count:
            raise broken_stream(f"a {field.type.name} is of {len(field.children)} fields")
        for child in field.children:
            self.column(child, length)

    def _indices(self, field: ArrowField, length: int, valid: npt.NDArray[np.bool_] | None) -> None:
        assert field.dictionary is not None
        assert field.index_type is not None
        assert field.index_type.dtype is not None
        dtype = field.index_type.dtype
        indices = np.frombuffer(self._sized(length * dtype.itemsize)[: length * dtype.itemsize], dtype)
        if valid is not None:
            indices = indices[valid]
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < self._known.get(
            field.dictionary, 0
        ):
            raise broken_stream("a column points outside of its dictionary")

    def _lists(self, field: ArrowField, length: int) -> None:
        offsets = self._offsets(_OFFSETS[field.type.name], length)
        if len(field.children) != 1:
            raise broken_stream(f"a list is of {len(field.children)} fields")
        if int(offsets[-1]) > self.column(field.children[0], None):
            raise broken_stream("offsets point outside of their values")

    def _texts(self, name: str, length: int) -> None:
        offsets = self._offsets(_OFFSETS[name], length)
        if int(offsets[-1]) > len(self._buffer()):
            raise broken_stream("offsets point outside of their values")

    def _offsets(self, layout: str, length: int) -> Int64s:
        if length == 0:
            self._buffer()  # which may be empty
            return np.zeros(1, dtype=np.int64)
        size = (length + 1) * np.dtype(layout).itemsize
        offsets = np.frombuffer(self._sized(size)[:size], layout).astype(np.int64)
        if offsets[0] < 0 or bool((offsets[1:] < offsets[:-1]).any()):
            raise broken_stream("offsets point outside of their values")
        return offsets

    def _views(self, length: int) -> None:
        views = np.frombuffer(self._sized(length * _VIEW.itemsize)[: length * _VIEW.itemsize], _VIEW)
        count = next(self._variadic, (0,))[0]
        if not 0 <= count <= len(self._body):
            raise broken_stream(f"a column has {count} buffers")
        lengths = np.array([len(self._buffer()) for _ in range(count)], dtype=np.int64)
        sizes = views["size"].astype(np.int64)
        far = views[sizes > VIEW_INLINE_BYTES]
        buffers = far["buffer"].astype(np.int64)
        if (sizes < 0).any() or (buffers < 0).any() or (buffers >= count).any() or (far["offset"] < 0).any():
            raise broken_stream("a view points outside of its buffers")
        if (far["offset"].astype(np.int64) + far["size"] > lengths[buffers]).any():
            raise broken_stream("a view points outside of its buffers")
        if int(sizes.sum()) > TEXT_BYTES_MAX:
            raise broken_stream(f"a column's texts have more than {TEXT_BYTES_MAX} bytes together")

    def _sized(self, size: int) -> memoryview:
        buffer = self._buffer()
        if len(buffer) < size:
            raise broken_stream(f"a buffer of {len(buffer)} bytes is to hold {size}")
        return buffer

    def _buffer(self) -> memoryview:
        offset, length = self._next_pair(self._buffers)
        if offset < 0 or length < 0 or offset + length > len(self._body):
            raise broken_stream("a buffer is not within its message")
        self._left_bytes -= length
        if self._left_bytes < 0:
            raise broken_stream("its buffers overlap")
        return self._body[offset : offset + length]

    def _next_pair(self, source: Iterator[tuple[int, ...]]) -> tuple[int, int]:
        found = next(source, None)
        if found is None:
            raise broken_stream("a record batch has fewer buffers than its schema says")
        return found[0], found[1]
