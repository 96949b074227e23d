"""Looks at an Arrow stream before Polars reads it: nothing in it may point, or count, beyond what was sent.

Polars ends the process on metadata that lies about lengths, and anybody may append to a topic. Sources: the
Arrow columnar format; `format/Message.fbs`.
"""

import numpy as np
import numpy.typing as npt

from penstock.core.arrow.arrow_messages import ArrowMessages, MessageKind
from penstock.core.arrow.arrow_schema import ArrowField, read_schema
from penstock.core.arrow.batch_buffers import LISTS, TEXTS, VIEW, VIEW_INLINE_BYTES, VIEWS, BatchBuffers
from penstock.core.arrow.flatbuffers import Table, broken_stream

__all__ = ["check_stream"]

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
TEXT_BYTES_MAX = 64 * 1024 * 1024
"""Of a column's views together, which may all be of the same bytes."""
FILE_MAGIC = b"ARROW1"


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
    rows = batch.number(0, "<q")
    checker = _Checker(batch, body, known)
    for field in fields:
        checker.column(field, rows)
    checker.finish()


class _Checker:
    """Takes the columns in their order, and of each what its type says."""

    def __init__(self, batch: Table, body: memoryview, known: dict[int, int]) -> None:
        self._buffers = BatchBuffers(batch, body)
        self._bits_max = 8 * len(body)
        self._known = known

    def finish(self) -> None:
        self._buffers.finish()

    def column(self, field: ArrowField, rows: int | None) -> int:
        """How many values the next column has: `rows`, or as many as it says."""
        length, nulls = self._buffers.node()
        if not 0 <= length <= self._bits_max or (rows is not None and length != rows):
            raise broken_stream(f"a column has {length} values for {rows} rows in {self._bits_max // 8} bytes")
        if not 0 <= nulls <= length:
            raise broken_stream(f"{nulls} of {length} values are null")
        if field.type.name == "Null" and field.dictionary is None:
            return length  # it has no buffers
        valid = self._valid(length, nulls)
        if field.dictionary is not None:
            self._indices(field, length, valid)
        elif field.type.dtype is not None:
            self._buffers.array(field.type.dtype, length)
        elif field.type.width:
            self._buffers.sized(length * field.type.width)
        else:
            self._of_any_size(field, length)
        return length

    def _valid(self, length: int, nulls: int) -> npt.NDArray[np.bool_] | None:
        """Which values are none of null; None: all."""
        validity = self._buffers.buffer()
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
            self._buffers.sized((length + 7) // 8)
        elif name in VIEWS:
            self._views(length)
        elif name == "FixedSizeList":
            self._children(field, length * field.type.size, 1)
        elif name == "Struct":
            self._children(field, length, len(field.children) or 1)
        elif name in LISTS:
            self._lists(field, length)
        elif name in TEXTS:
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
        indices = self._buffers.array(field.index_type.dtype, length)
        if valid is not None:
            indices = indices[valid]
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < self._known.get(
            field.dictionary, 0
        ):
            raise broken_stream("a column points outside of its dictionary")

    def _lists(self, field: ArrowField, length: int) -> None:
        offsets = self._buffers.offsets(LISTS[field.type.name], length)
        if len(field.children) != 1:
            raise broken_stream(f"a list is of {len(field.children)} fields")
        if int(offsets[-1]) > self.column(field.children[0], None):
            raise broken_stream("offsets point outside of their values")

    def _texts(self, name: str, length: int) -> None:
        offsets = self._buffers.offsets(TEXTS[name], length)
        if int(offsets[-1]) > len(self._buffers.buffer()):
            raise broken_stream("offsets point outside of their values")

    def _views(self, length: int) -> None:
        views = self._buffers.array(VIEW, length)
        lengths = np.array([len(buffer) for buffer in self._buffers.view_buffers()], dtype=np.int64)
        sizes = views["size"].astype(np.int64)
        far = views[sizes > VIEW_INLINE_BYTES]
        buffers = far["buffer"].astype(np.int64)
        if (
            (sizes < 0).any()
            or (buffers < 0).any()
            or (buffers >= len(lengths)).any()
            or (far["offset"] < 0).any()
        ):
            raise broken_stream("a view points outside of its buffers")
        if (far["offset"].astype(np.int64) + far["size"] > lengths[buffers]).any():
            raise broken_stream("a view points outside of its buffers")
        if int(sizes.sum()) > TEXT_BYTES_MAX:
            raise broken_stream(f"a column's texts have more than {TEXT_BYTES_MAX} bytes together")
