"""Which keys may be forgotten: the file of the online store would only grow else.

A key whose timeline has come to its last row stays as that says for ever, if nothing more happens. Where that
is what the view's defaults say as well, who reads gets the same whether the key is known or not; and after a
while, in which somebody may still read as of a time before, it is dropped. What ends as something else is kept.
"""

import sqlite3
from typing import Final

import numpy as np

from penstock.core.errors import CorruptRecords
from penstock.features.embedded.online_file import table
from penstock.features.online import NO_TIME_MS, OFFSET_BITS, RECORD_HEAD_BYTES, check_record
from penstock.features.timeline import HEAD_WORDS, Ints, Mask
from penstock.features.view import Feature, FeatureView

__all__ = ["ENDED_MS_MIN", "OnlineSweep"]

ENDED_MS_MIN: Final = 86_400_000
"""So long after its timeline's last row begins a key is dropped, in the stream's time."""
EVERY_MS: Final = 1_000
ROWS_AT_ONCE: Final = 250
"""In a millisecond or less, for which a write takes longer: a million keys are come by in about an hour."""
_BEFORE_ALL: Final = -(2**63)
"""No digest is this one, but for one in 2**64: that is never dropped."""


class OnlineSweep:
    """Goes through the records of a view, some at a time, and from the first again after the last."""

    def __init__(self, number: int, view: FeatureView) -> None:
        self._number = number
        self._row_words = HEAD_WORDS + len(view.features)
        self._defaults = np.array([_word(each) for each in view.features], np.int64)
        self._after = _BEFORE_ALL
        self._last_ms: int | None = None
        self._next = (
            f"SELECT digest, position >> {OFFSET_BITS}, substr(record, -{8 * self._row_words})"  # noqa: S608
            f" FROM {table(number)} WHERE digest > ? ORDER BY digest LIMIT {ROWS_AT_ONCE}"
        )
        self._whole = f"SELECT key, record FROM {table(number)} WHERE digest = ?"  # noqa: S608
        self._drop = f"DELETE FROM {table(number)} WHERE digest = ?"  # noqa: S608

    def due(self, now_ms: int) -> bool:
        """By the times of day when partitions were heard of."""
        due = self._last_ms is None or abs(now_ms - self._last_ms) >= EVERY_MS
        if due:
            self._last_ms = now_ms
        return due

    def drop(self, connection: sqlite3.Connection) -> list[bytes]:
        """Drops those of the next records that may be, and gives their keys. In a transaction."""
        rows = connection.execute(self._next, (self._after,)).fetchall()
        self._after = rows[-1][0] if len(rows) == ROWS_AT_ONCE else _BEFORE_ALL
        whole = [row for row in rows if len(row[2]) == 8 * self._row_words]
        if not whole:
            return []
        last = np.frombuffer(b"".join([row[2] for row in whole]), "<i8").reshape(len(whole), -1)
        ended = self._as_of_ms(connection, [row[1] for row in whole]) - ENDED_MS_MIN >= last[:, 0]
        found = np.flatnonzero(ended & self._says_defaults(last)).tolist()
        return [key for row in found for key in self._dropped(connection, whole[row][0])]

    def _as_of_ms(self, connection: sqlite3.Connection, partitions: list[int]) -> Ints:
        """How far each one's stream has come; for what history filled, and is read as of any, the one that is
        furthest behind.
        """
        told = dict(
            connection.execute("SELECT partition, as_of_ms FROM progress WHERE view = ?", (self._number,))
        )
        least = min(told.values(), default=NO_TIME_MS)
        return np.array([told.get(partition, least) for partition in partitions], np.int64)

    def _says_defaults(self, rows: Ints) -> Mask:
        bits, features = rows[:, 1], len(self._defaults)
        known = bits[:, None] >> np.arange(features) & 1
        says = ((known == 0) | (rows[:, HEAD_WORDS:] == self._defaults)).all(axis=1)
        found: Mask = says & (bits >> features == 0)
        return found

    def _dropped(self, connection: sqlite3.Connection, digest: int) -> list[bytes]:
        key, record = connection.execute(self._whole, (digest,)).fetchone()
        try:
            check_record(record)
        except CorruptRecords:
            return []  # what it says may not be what was written
        if (len(record) - RECORD_HEAD_BYTES) % (8 * self._row_words) or len(record) == RECORD_HEAD_BYTES:
            return []  # nor a timeline
        connection.execute(self._drop, (digest,))
        return [key]


def _word(feature: Feature) -> int:
    """The default as it would stand in a timeline."""
    value = np.array([feature.default], feature.datatype.numpy)
    return int(value.view(np.int64)[0] if value.dtype == np.float64 else value.astype(np.int64)[0])
