"""Records of keys as arrays, so that a batch takes all of its rows at once.

A record has a place, which is one row of each array, of one width for all: its timeline is filled up behind
with rows that never begin. Place 0 is that of all keys of which nothing is known.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from penstock.core.errors import CorruptRecords
from penstock.features.online import NO_POSITION, RECORD_HEAD_BYTES, check_record
from penstock.features.timeline import HEAD_WORDS, Ints

__all__ = ["UNKNOWN", "RecordArrays"]

UNKNOWN: Final = 0
"""The place of keys of which nothing is known."""
NEVER_MS: Final = np.iinfo(np.int64).max
_HEAD: Final = RECORD_HEAD_BYTES // 8


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

    def steps_of(self, records: Sequence[bytes]) -> int:
        """The rows of the longest timeline."""
        longest = max(map(len, records), default=0)
        return max(longest - RECORD_HEAD_BYTES, 0) // (8 * self._row_words)

    def check(self, record: bytes) -> None:
        """Raises `CorruptRecords` for what is no record of such a view."""
        check_record(record)
        timeline_bytes = len(record) - RECORD_HEAD_BYTES
        if not timeline_bytes or timeline_bytes % (8 * self._row_words):
            raise CorruptRecords("what is kept of a key is no timeline of this view")

    def grow(self, room: int) -> None:
        """To so many places; what stands in them stays."""
        more = room - self.room
        self._positions = np.concatenate([self._positions, np.full(more, NO_POSITION, np.int64)])
        self._available_ms = np.concatenate([self._available_ms, np.zeros(more, np.int64)])
        self._from_ms = np.concatenate([self._from_ms, np.full((more, self.steps + 1), NEVER_MS, np.int64)])
        width = self._row_words - 1
        self._words = np.concatenate([self._words, np.zeros((more * self.steps, width), np.int64)])
        self.room = room

    def write(self, places: Ints, records: Sequence[bytes]) -> None:
        """Records that were checked, each into its place. At least one."""
        assert len(places) == len(records), "a place for each record"
        words = np.frombuffer(b"".join(records), "<i8")
        sizes = np.fromiter(map(len, records), np.int64, count=len(records)) // 8
        starts = np.cumsum(sizes) - sizes
        self._positions[places] = words[starts + 1]
        self._available_ms[places] = words[starts + 2]
        last = (sizes - _HEAD) // self._row_words - 1
        steps = np.arange(int(last.max()) + 1)
        begins = starts[:, None] + _HEAD + np.minimum(steps, last[:, None]) * self._row_words
        self._from_ms[places] = NEVER_MS
        self._from_ms[places[:, None], steps] = np.where(steps <= last[:, None], words[begins], NEVER_MS)
        rows = words[begins[:, :, None] + np.arange(1, self._row_words)]
        self._words[places[:, None] * self.steps + steps] = rows

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
        return self._words.take(places * self.steps + (behind - 1), axis=0)
