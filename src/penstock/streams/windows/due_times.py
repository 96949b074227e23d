"""When to look at a key again, for any number of keys: those that are due are found without a look at each.

Keys stand in blocks, and of each block the earliest time is kept. What is due is looked for in the blocks that
have something due: so a search costs what it finds, and a word for every 64 keys.
"""

import numpy as np

from penstock.streams.windows.tiles import Ints

__all__ = ["DueTimes"]

BLOCK_BITS = 6
BLOCK = 1 << BLOCK_BITS
NEVER_MS = int(np.iinfo(np.int64).max)


class DueTimes:
    """Of each slot the time at which it is due; none are at first."""

    def __init__(self) -> None:
        self._times_ms = np.zeros((0, BLOCK), np.int64)
        self._earliest_ms = np.zeros(0, np.int64)

    def reserve(self, slots_end: int) -> None:
        """Makes room for slots below `slots_end`."""
        count = len(self._times_ms)
        if slots_end > count * BLOCK:
            blocks = max(-(-slots_end // BLOCK), 2 * count)
            times_ms = np.full((blocks, BLOCK), NEVER_MS)
            times_ms[:count] = self._times_ms
            earliest_ms = np.full(blocks, NEVER_MS)
            earliest_ms[:count] = self._earliest_ms
            self._times_ms, self._earliest_ms = times_ms, earliest_ms

    def expect(self, slots: Ints, times_ms: Ints) -> None:
        """The slots, each of them maybe more than once, are due at these times, if not before."""
        np.minimum.at(self._times_ms.reshape(-1), slots, times_ms)
        np.minimum.at(self._earliest_ms, slots >> BLOCK_BITS, times_ms)

    def take(self, until_ms: int) -> Ints:
        """The slots that are due by then, ascending. They are not due any more."""
        blocks = np.flatnonzero(self._earliest_ms <= until_ms)
        times_ms = self._times_ms[blocks]
        due = times_ms <= until_ms
        rows, places = due.nonzero()
        times_ms[due] = NEVER_MS
        self._times_ms[blocks] = times_ms
        self._earliest_ms[blocks] = times_ms.min(axis=1)
        return blocks[rows] * BLOCK + places
