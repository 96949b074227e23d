"""How far a view's stream has come where a key is, and whether somebody still sees to it."""

from collections.abc import Sequence

import numpy as np

from penstock.features.online import NO_TIME_MS, OFFSET_BITS, Progress
from penstock.features.timeline import Ints, Mask

__all__ = ["Standing"]


class Standing:
    """Of all partitions, by number and one more. Before and behind them stands what counts for keys whose
    partition is not known.

    `silent_ms_max` is how long nothing may be heard of one; None: as long as it likes.
    """

    def __init__(self, progress: Sequence[Progress], silent_ms_max: float | None) -> None:
        self._progress = progress
        self._silent_ms_max = silent_ms_max
        as_of_ms = [NO_TIME_MS] * self._size
        for each in progress:
            as_of_ms[each.partition + 1] = max(each.as_of_ms, NO_TIME_MS)
        self._as_of_ms: Ints = np.array(as_of_ms, np.int64)
        timed = [each for each in as_of_ms if each > NO_TIME_MS]
        self._span_ms = (min(timed), max(timed)) if timed else None

    @property
    def _size(self) -> int:
        return max([each.partition for each in self._progress], default=-1) + 3

    def as_of_ms(self, positions: Ints, available_ms: Ints, now_ms: int) -> Ints:
        """As of when a key is read: what its partition's time is.

        Where nothing is known of a key, its partition is not known either: it has come as far as the one that
        is furthest behind. What history filled has come as far as any. A partition without an event says
        nothing of time; where none has had one, it is that of what is known of the key, or now.
        """
        found: Ints = self._as_of_ms.take((positions >> OFFSET_BITS) + 1, mode="clip")
        if not len(found) or found.min() > NO_TIME_MS:
            return found
        untimed = found == NO_TIME_MS
        own_ms = np.where(available_ms > 0, available_ms, now_ms)
        if self._span_ms is None:
            return np.where(untimed, own_ms, found)
        least, most = self._span_ms
        elsewhere = np.where(available_ms > 0, np.maximum(available_ms, most), least)
        return np.where(untimed, np.where(positions < 0, elsewhere, own_ms), found)

    def stale(self, positions: Ints, now_ms: int) -> Mask:
        """A time of day that is still to come was told by a clock that was wrong. A key whose partition is not
        known is stale where any of them is.
        """
        silent_ms_max = self._silent_ms_max
        if silent_ms_max is None:
            return np.zeros(len(positions), np.bool_)
        silent = [abs(now_ms - each.heard_ms) > silent_ms_max for each in self._progress]
        by_number = [any(silent) or not silent] * self._size
        for each, is_silent in zip(self._progress, silent, strict=True):
            by_number[each.partition + 1] = is_silent
        found: Mask = np.array(by_number, np.bool_).take((positions >> OFFSET_BITS) + 1, mode="clip")
        return found
