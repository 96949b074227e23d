"""Timelines: what the features of a key are from which time on, if nothing more happens to it.

A window that is read later has fewer events in it, so a key's features go on changing when none come: each
change is known beforehand, and stands in the key's timeline as a row. Whoever reads as of a time takes the last
row that begins by then. So windows are computed once, where the events are, and reading is a search.

A timeline is little-endian words of 8 bytes, row by row: the time from which it holds (milliseconds since
1970), the bits of the features that have a value, and each feature. Rows ascend strictly in time.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from penstock.core.errors import CorruptRecords
from penstock.core.tensors import DataType
from penstock.features.view import Feature

__all__ = [
    "HEAD_WORDS",
    "TimelineRows",
    "Values",
    "from_words",
    "pick_rows",
    "read_timelines",
    "write_timelines",
]

Ints: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Column: TypeAlias = npt.NDArray[Any]

HEAD_WORDS = 2
"""Of a row, before its features."""


class TimelineRows(NamedTuple):
    """Rows of many timelines, one timeline after the other. `columns` are of float64, int64 or bool, one for
    each feature; `masks` say where a feature has a value, None where it has one everywhere. `lengths` are the
    rows of each timeline.
    """

    from_ms: Ints
    columns: Sequence[Column]
    masks: Sequence[Mask | None]
    lengths: Ints


class Values(NamedTuple):
    """Features of some keys as of a time, in their types. Where `known` is false there is no value, and the
    column has zero.
    """

    columns: list[Column]
    known: list[Mask]


def write_timelines(rows: TimelineRows) -> list[bytes]:
    """Each timeline as bytes."""
    count, width = len(rows.from_ms), HEAD_WORDS + len(rows.columns)
    words = np.empty((count, width), np.int64)
    words[:, 0] = rows.from_ms
    bits = np.zeros(count, np.int64)
    for number, (column, mask) in enumerate(zip(rows.columns, rows.masks, strict=True)):
        present = np.ones(count, np.bool_) if mask is None else mask
        bits |= present.astype(np.int64) << number
        # A value that is none is zero, so that equal timelines are equal bytes.
        words[:, HEAD_WORDS + number] = np.where(present, _as_words(column), 0)
    words[:, 1] = bits
    data = words.tobytes()
    ends = (np.cumsum(rows.lengths) * width * 8).tolist()
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def read_timelines(timelines: Sequence[bytes], features: Sequence[Feature], as_of_ms: int | Ints) -> Values:
    """The features of each timeline as of a time, or of a time for each. What is asked for before its first
    row is that first row: the oldest that is known.

    Raises `CorruptRecords` for bytes that are no timelines of such features.
    """
    width = HEAD_WORDS + len(features)
    data = b"".join(timelines)
    sizes = np.fromiter(map(len, timelines), np.int64, count=len(timelines))
    if len(sizes) and (int(sizes.min()) <= 0 or bool((sizes % (width * 8)).any())):
        raise CorruptRecords(f"a timeline of {len(features)} features has a length that none can have")
    words = np.frombuffer(data, "<i8").reshape(-1, width)
    lengths = sizes // (width * 8)
    chosen = words[pick_rows(words[:, 0], lengths, as_of_ms)]
    return Values(
        [from_words(chosen[:, HEAD_WORDS + number], each.datatype) for number, each in enumerate(features)],
        [(chosen[:, 1] >> number & 1).astype(np.bool_) for number in range(len(features))],
    )


def pick_rows(from_ms: Ints, lengths: Ints, as_of_ms: int | Ints) -> Ints:
    """Of each timeline the last row that begins by its time, or its first. `from_ms` are the rows' times, one
    timeline after the other, with so many rows each, at least one.
    """
    starts = np.cumsum(lengths) - lengths
    if len(from_ms) == len(lengths):
        return starts
    until = np.repeat(as_of_ms, lengths) if isinstance(as_of_ms, np.ndarray) else as_of_ms
    begun = np.add.reduceat((from_ms <= until).astype(np.int64), starts)
    picked: Ints = starts + np.maximum(begun, 1) - 1
    return picked


def _as_words(column: Column) -> Ints:
    if column.dtype == np.float64:
        return column.view(np.int64)
    return column.astype(np.int64)


def from_words(words: Ints, datatype: DataType) -> Column:
    """A feature's words as values of its type."""
    if datatype is DataType.FP64:
        return np.ascontiguousarray(words).view(np.float64)
    return words.astype(datatype.numpy)
