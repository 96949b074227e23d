"""Records of keys as arrays, so that a batch takes all of its rows at once.

A record has a place, which is one row of each array, of one width for all: its timeline is filled up behind
with rows that never begin. Place 0 is that of all keys of which nothing is known.
"""

import zlib
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

import numpy as np

from penstock.core.errors import CorruptRecords
from penstock.features.online import CHECK_BYTES, NO_POSITION, RECORD_HEAD_BYTES, Answer, check_record
from penstock.features.timeline import HEAD_WORDS, Ints

__all__ = ["UNKNOWN", "RecordArrays", "Sound", "sound"]

UNKNOWN: Final = 0
"""The place of keys of which nothing is known."""
NEVER_MS: Final = np.iinfo(np.int64).max
_HEAD: Final = RECORD_HEAD_BYTES // 8


class Sound(NamedTuple):
    """Of an answer what can be used: in which of its rows there are such records, and the words of each, as
    many as the longest has. `lengths` are the rows of their timelines, None where all are as long. `damaged`
    says by row what is wrong with others.
    """

    rows: Sequence[int]
    words: Ints
    lengths: Ints | None
    damaged: Mapping[int, CorruptRecords]

    def cut(self, count: int) -> "Sound":
        """The first of them."""
        lengths = None if self.lengths is None else self.lengths[:count]
        return Sound(self.rows[:count], self.words[:count], lengths, self.damaged)


class RecordArrays:
    """With `room` for so many places, that of what is unknown among them, each of a timeline of `steps` rows
    at most, of so many `features`.
    """

    def __init__(self, *, features: int, room: int, steps: int) -> None:
        self.room = room
        self.steps = steps
        self._row_words = HEAD_WORDS + features
        self._positions = np.full(room, NO_POSITION, np.int64)
        self._available_ms = np.zeros(room, np.int64)
        self._from_ms = np.full((room, steps + 1), NEVER_MS, np.int64)
        self._words = np.zeros((room * steps, self._row_words - 1), np.int64)

    @property
    def place_bytes(self) -> int:
        return 8 * (3 + self.steps * self._row_words)

    def grow(self, room: int) -> None:
        """To so many places; what stands in them stays."""
        more = room - self.room
        self._positions = np.concatenate([self._positions, np.full(more, NO_POSITION, np.int64)])
        self._available_ms = np.concatenate([self._available_ms, np.zeros(more, np.int64)])
        self._from_ms = np.concatenate([self._from_ms, np.full((more, self.steps + 1), NEVER_MS, np.int64)])
        width = self._row_words - 1
        self._words = np.concatenate([self._words, np.zeros((more * self.steps, width), np.int64)])
        self.room = room

    def steps_of(self, records: Sound) -> int:
        """The rows of the longest timeline."""
        return int(records.words.shape[1] - _HEAD) // self._row_words

    def write(self, places: Ints, records: Sound) -> None:
        """Each into its place. At least one, with no more steps than there are here."""
        words, steps = records.words, self.steps_of(records)
        rows = words[:, _HEAD:].reshape(len(words), steps, self._row_words)
        from_ms = rows[:, :, 0]
        if records.lengths is not None:
            from_ms = np.where(np.arange(steps) < records.lengths[:, None], from_ms, NEVER_MS)
        self._positions[places] = words[:, 1]
        self._available_ms[places] = words[:, 2]
        self._from_ms[places, :steps] = from_ms
        if steps < self.steps:
            self._from_ms[places, steps:] = NEVER_MS
        self._words.reshape(self.room, self.steps, -1)[places, :steps] = rows[:, :, 1:]

    def positions(self, places: Ints) -> Ints:
        return self._positions.take(places)

    def available_ms(self, places: Ints) -> Ints:
        return self._available_ms.take(places)

    def rows(self, places: Ints, as_of_ms: Ints) -> Ints:
        """Of each place the row that holds then: the bits of the features that have a value, and each feature.
        A time before a timeline's first row gives that.
        """
        begun = self._from_ms.take(places, axis=0) <= as_of_ms[:, None]
        # The first that has not begun, of which there always is one, stands behind the one that holds.
        behind = np.maximum(begun.argmin(axis=1), 1)
        found: Ints = self._words.take(places * self.steps + (behind - 1), axis=0)
        return found


def sound(answer: Answer, features: int) -> Sound:
    """What is of a view with so many features, and has the checksum that it was kept with."""
    rows = [row for row, size in enumerate(answer.sizes) if size is not None]
    sizes = [size for size in answer.sizes if size is not None]
    row_bytes = 8 * (HEAD_WORDS + features)
    if all(size > RECORD_HEAD_BYTES and not (size - RECORD_HEAD_BYTES) % row_bytes for size in set(sizes)):
        ends = list(accumulate(sizes, initial=0))
        data, crc32 = memoryview(answer.joined), zlib.crc32
        checks = [
            crc32(data[start + CHECK_BYTES : start + size]) for start, size in zip(ends, sizes, strict=False)
        ]
        words, lengths = _matrix(answer.joined, sizes, row_bytes)
        if words[:, 0].tolist() == checks:
            return Sound(rows, words, lengths, {})
    return _sifted(answer, row_bytes)


def _matrix(joined: bytes, sizes: Sequence[int], row_bytes: int) -> tuple[Ints, Ints | None]:
    """Records one after the other as rows of a matrix. Behind those that are shorter stands anything."""
    if not sizes:
        return np.zeros((0, _HEAD), np.int64), None
    words = np.frombuffer(joined, "<i8")
    if min(sizes) == max(sizes):
        return words.reshape(len(sizes), -1), None
    counts = np.array(sizes) // 8
    starts = np.cumsum(counts) - counts
    places = starts[:, None] + np.arange(int(counts.max()))
    return words.take(places, mode="clip"), (counts - _HEAD) // (row_bytes // 8)


def _sifted(answer: Answer, row_bytes: int) -> Sound:
    """One by one."""
    good: dict[int, bytes] = {}
    damaged: dict[int, CorruptRecords] = {}
    for row, record in enumerate(answer.records):
        if record is None:
            continue
        try:
            check_record(record)
            timeline_bytes = len(record) - RECORD_HEAD_BYTES
            if not timeline_bytes or timeline_bytes % row_bytes:
                raise CorruptRecords("what is kept of a key is no timeline of this view")
        except CorruptRecords as error:
            damaged[row] = error
        else:
            good[row] = record
    words, lengths = _matrix(b"".join(good.values()), [len(each) for each in good.values()], row_bytes)
    return Sound(list(good), words, lengths, damaged)
