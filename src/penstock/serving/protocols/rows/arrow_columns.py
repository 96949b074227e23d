"""The columns of a record batch as numpy arrays. Source: the Arrow columnar format."""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from penstock.core.arrow.arrow_schema import ArrowField
from penstock.core.arrow.batch_buffers import LISTS, TEXTS, VIEW, VIEW_INLINE_BYTES, VIEWS, BatchBuffers
from penstock.core.arrow.flatbuffers import Table, broken_stream
from penstock.core.errors import InvalidInput, TooLarge, shown

__all__ = ["ArrowColumn", "concatenate", "read_columns"]

EXPANDED_MAX = 64 * 1024 * 1024


class ArrowColumn(NamedTuple):
    """Elements in row-major order; `missing` says where there are none, None: nowhere."""

    values: npt.NDArray[Any]
    missing: npt.NDArray[np.bool_] | None
    shape: tuple[int, ...]


def read_columns(
    fields: tuple[ArrowField, ...], batch: Table, body: memoryview, dictionaries: Mapping[int, ArrowColumn]
) -> list[ArrowColumn]:
    """The columns of a `RecordBatch`. Raises `InvalidInput` for one that does not hold what it says."""
    rows = batch.number(0, "<q")
    if not 0 <= rows <= 8 * len(body):
        raise broken_stream(f"a record batch of {len(body)} bytes has {rows} rows")
    reader = _Reader(batch, body, dictionaries)
    return [reader.column(field, rows) for field in fields]


def concatenate(first: ArrowColumn, second: ArrowColumn) -> ArrowColumn:
    """A dictionary and what is added to it."""
    masks = [
        np.zeros(len(each.values), dtype=bool) if each.missing is None else each.missing
        for each in (first, second)
    ]
    values = np.concatenate((first.values, second.values))
    return ArrowColumn(values, np.concatenate(masks), (len(values),))


class _Reader:
    """Takes the columns in their order."""

    def __init__(self, batch: Table, body: memoryview, dictionaries: Mapping[int, ArrowColumn]) -> None:
        self._buffers = BatchBuffers(batch, body)
        self._views_bytes_max = 2 * len(body)
        self._expanded = 0
        self._dictionaries = dictionaries

    def column(self, field: ArrowField, rows: int | None) -> ArrowColumn:
        """The next column; None: it has as many rows as it says."""
        length, nulls = self._buffers.node()
        if length < 0 or (rows is not None and length != rows):
            raise broken_stream(f"column {shown(field.name)} has {length} values for {rows} rows")
        missing = self._missing(length, nulls)
        if field.dictionary is not None:
            return self._from_dictionary(field, length, missing)
        name = field.type.name
        if field.type.dtype is not None:
            return ArrowColumn(self._buffers.array(field.type.dtype, length), missing, (length,))
        if name == "Bool":
            return ArrowColumn(self._buffers.bits(length), missing, (length,))
        if name in TEXTS:
            return self._text(name, length, missing)
        if name in VIEWS:
            return self._views(name, length, missing)
        if name in LISTS or name == "FixedSizeList":
            return self._lists(field, length, missing)
        raise InvalidInput(f"column {shown(field.name)}: {name} is not read here", where=field.name[:80])

    def _missing(self, length: int, nulls: int) -> npt.NDArray[np.bool_] | None:
        if nulls == 0:
            self._buffers.buffer()
            return None
        return ~self._buffers.bits(length)

    def _text(self, name: str, length: int, missing: npt.NDArray[np.bool_] | None) -> ArrowColumn:
        offsets = self._buffers.offsets(TEXTS[name], length).tolist()
        content = bytes(self._buffers.buffer())
        if offsets[-1] > len(content):
            raise broken_stream("offsets point outside of their values")
        pieces = [content[start:stop] for start, stop in itertools.pairwise(offsets)]
        return ArrowColumn(_objects(pieces, text="Utf8" in name), missing, (length,))

    def _views(self, name: str, length: int, missing: npt.NDArray[np.bool_] | None) -> ArrowColumn:
        views = self._buffers.array(VIEW, length)
        buffers = [bytes(buffer) for buffer in self._buffers.view_buffers()]
        raw = views.tobytes()
        pieces = []
        total = 0
        for row, (size, _, buffer, offset) in enumerate(views.tolist()):
            if missing is not None and missing[row]:
                pieces.append(b"")
            elif 0 <= size <= VIEW_INLINE_BYTES:
                pieces.append(raw[16 * row + 4 : 16 * row + 4 + size])
            else:
                if size < 0 or not 0 <= buffer < len(buffers) or not 0 <= offset <= len(buffers[buffer]) - size:
                    raise broken_stream("a view points outside of its buffers")
                total += size
                if total > self._views_bytes_max:
                    raise broken_stream("its views overlap")
                pieces.append(buffers[buffer][offset : offset + size])
        return ArrowColumn(_objects(pieces, text="Utf8" in name), missing, (length,))

    def _lists(self, field: ArrowField, length: int, missing: npt.NDArray[np.bool_] | None) -> ArrowColumn:
        if len(field.children) != 1:
            raise broken_stream(f"a list is of {len(field.children)} fields")
        if missing is not None and missing.any():
            raise InvalidInput(f"column {shown(field.name)}: a list is missing", where=field.name[:80])
        if field.type.name == "FixedSizeList":
            size, start = field.type.size, 0
            child = self.column(field.children[0], length * size)
        else:
            offsets = self._buffers.offsets(LISTS[field.type.name], length)
            child = self.column(field.children[0], None)
            sizes = np.diff(offsets)
            start, size = int(offsets[0]), int(sizes[0]) if length else 0
            if (sizes != size).any():
                raise InvalidInput(
                    f"column {shown(field.name)}: its lists have several lengths", where=field.name[:80]
                )
            if offsets[-1] > child.shape[0]:
                raise broken_stream("offsets point outside of their values")
        inner = child.shape[1:]
        width = int(np.prod(inner, dtype=np.int64))
        part = slice(start * width, (start + length * size) * width)
        holes = None if child.missing is None else child.missing[part]
        return ArrowColumn(child.values[part], holes, (length, size, *inner))

    def _from_dictionary(
        self, field: ArrowField, length: int, missing: npt.NDArray[np.bool_] | None
    ) -> ArrowColumn:
        assert field.index_type is not None
        assert field.index_type.dtype is not None
        indices = self._buffers.array(field.index_type.dtype, length)
        dictionary = self._dictionaries.get(field.dictionary or 0)
        if missing is not None:
            indices = np.where(missing, 0, indices)
        if dictionary is None:
            if length and (missing is None or not missing.all()):
                raise broken_stream(f"column {shown(field.name)} has no dictionary")
            return ArrowColumn(np.full(length, "", dtype=object), missing, (length,))
        known = len(dictionary.values)
        if (
            length
            and (missing is None or not missing.all())
            and not 0 <= indices.min() <= indices.max() < known
        ):
            raise broken_stream(f"column {shown(field.name)} points outside of its dictionary")
        values = dictionary.values[indices] if known else np.full(length, "", dtype=object)
        self._count_expanded(values)
        if dictionary.missing is not None and known:
            holes = dictionary.missing[indices]
            missing = holes if missing is None else holes | missing
        return ArrowColumn(values, missing, (length,))

    def _count_expanded(self, values: npt.NDArray[Any]) -> None:
        """Raises `TooLarge` where rows repeat long texts: an index of a byte stands for as much as it likes."""
        if values.dtype.kind == "O":
            self._expanded += sum(map(len, values))
        if self._expanded > EXPANDED_MAX:
            raise TooLarge(
                f"a record batch has more than {EXPANDED_MAX} characters of text, its dictionaries undone",
                where="body",
                hint="write record batches of fewer rows",
            )


def _objects(pieces: list[bytes], *, text: bool) -> npt.NDArray[Any]:
    array = np.empty(len(pieces), dtype=object)
    try:
        array[:] = [piece.decode() for piece in pieces] if text else pieces
    except UnicodeDecodeError:
        raise broken_stream("text in it is not UTF-8") from None
    return array
