"""How far a view's stream has come where a key is, and whether somebody still sees to it."""

from collections.abc import Sequence

import numpy as np

from penstock.features.online import NO_TIME_MS, OFFSET_BITS, Progress
from penstock.features.timeline import Ints, Mask

__all__ = ["Standing"]


class Standing:
    """Of all partitions, by number. Behind them stands what counts for keys whose partition is not known.

    `silent_ms_max` is how long nothing may be heard of one; None: as long as it likes.
    """

    def __init__(self, progress: Sequence[Progress], silent_ms_max: float | None) -> None:
        self._silent_ms_max = silent_ms_max
        self._nobody = not progress
        self._partitions = max([each.partition for each in progress], default=-1) + 1
        self._as_of_ms: Ints = np.full(self._partitions + 1, NO_TIME_MS, np.int64)
        self._heard_ms: Ints = np.zeros(self._partitions, np.int64)
        self._is_partition: Mask = np.zeros(self._partitions, np.bool_)
        for each in progress:
            self._as_of_ms[each.partition] = max(each.as_of_ms, NO_TIME_MS)
            self._heard_ms[each.partition] = each.heard_ms
            self._is_partition[each.partition] = True
        timed = [each.as_of_ms for each in progress if each.as_of_ms > NO_TIME_MS]
        self._span_ms = (min(timed), max(timed)) if timed else None

    def as_of_ms(self, positions: Ints, available_ms: Ints, now_ms: int) -> Ints:
        """As of when a key is read: what its partition's time is.

        Where nothing is known of a key, its partition is not known either: it has come as far as the one that
        is furthest behind. What history filled has come as far as any. A partition without an event says
        nothing of time; where none has had one, it is that of what is known of the key, or now.
        """
        found = self._as_of_ms.take(self._numbers(positions))
        untimed = found == NO_TIME_MS
        if not untimed.any():
            return found
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
        if self._silent_ms_max is None or self._nobody:
            return np.full(len(positions), self._silent_ms_max is not None, np.bool_)
        silent = np.abs(now_ms - self._heard_ms) > self._silent_ms_max
        anywhere = bool((silent & self._is_partition).any())
        by_number = np.append(np.where(self._is_partition, silent, anywhere), anywhere)
        found: Mask = by_number.take(self._numbers(positions))
        return found

    def _numbers(self, positions: Ints) -> Ints:
        """The partition of each, or the place behind all of them."""
        numbers = positions >> OFFSET_BITS
        strange = (numbers < 0) | (numbers > self._partitions)
        if strange.any():
            numbers[strange] = self._partitions
        return numbers
