"""Rows by key and place in time: sorted once, searched for many ranges at a time.

What is kept grows by a frame at a time, so there are several of these, each at least `TIERS` times as large as
the next: a row is sorted again only O(log n) times (O'Neil et al., "The log-structured merge-tree", 1996).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["NO_CODE", "SortedIndex", "expanded", "merge_from"]

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
NO_CODE = -1
"""The code of a row whose key has a null: it is found by nobody, and finds nothing."""
TIERS = 4
PACKED_MAX = 2**62


class SortedIndex:
    """Of rows with a key's code and a place on an axis of integers (a time, a sequence number).

    `rows` are the rows' numbers in the order of (code, axis), those of equal ones in their own order.
    """

    __slots__ = ("_groups", "_packed", "_span", "axis", "codes", "first", "last", "rows")

    def __init__(self, codes: Ints, axis: Ints) -> None:
        assert len(codes) == len(axis) > 0, "an index has rows"
        self.rows: Ints = np.lexsort((axis, codes))
        self.codes = codes[self.rows]
        self.axis = axis[self.rows]
        starts = np.empty(len(codes), np.bool_)
        starts[0] = True
        np.not_equal(self.codes[1:], self.codes[:-1], out=starts[1:])
        self._groups = self.codes[starts]
        self.first, self.last = int(axis.min()), int(axis.max())
        # One integer for (rank of the code, place), with room for a place before the first and after the last.
        self._span = self.last - self.first + 3
        assert len(self._groups) * self._span < PACKED_MAX, "times of one frame lie within some hundred years"
        self._packed: Ints = (np.cumsum(starts) - 1) * self._span + (self.axis - self.first + 1)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def keys(self) -> int:
        return len(self._groups)

    def ranges(self, codes: Ints, low: Ints, high: Ints) -> tuple[Ints, Ints]:
        """For each code, the positions [start, end) in `rows` of those with low <= place <= high."""
        groups, unknown = self._groups_of(codes)
        starts = np.searchsorted(self._packed, groups + self._relative(low), side="left")
        ends = np.searchsorted(self._packed, groups + self._relative(high), side="right")
        ends[unknown | (ends <= starts)] = 0
        starts[ends == 0] = 0
        return starts, ends

    def ends(self, codes: Ints, high: Ints) -> Ints:
        """For each code, the end in `rows` of those with place <= high; 0 where there are none."""
        groups, unknown = self._groups_of(codes)
        ends = np.searchsorted(self._packed, groups + self._relative(high), side="right")
        unknown |= self.codes[ends - 1] != codes
        ends[unknown] = 0
        return ends

    def _groups_of(self, codes: Ints) -> tuple[Ints, Mask]:
        """What the places of each code are counted from in the one integer; which codes are not in here."""
        ranks = np.searchsorted(self._groups, codes)
        ranks[ranks == len(self._groups)] = 0
        unknown: Mask = (self._groups[ranks] != codes) | (codes == NO_CODE)
        return ranks * self._span, unknown

    @staticmethod
    def can_be_one(indexes: "Sequence[SortedIndex]") -> bool:
        """Not where their times lie too far from each other."""
        span = max(index.last for index in indexes) - min(index.first for index in indexes) + 3
        return sum(index.keys for index in indexes) * span < PACKED_MAX

    def _relative(self, places: Ints) -> Ints:
        before = self.first - 1
        relative: Ints = np.minimum(np.maximum(places, before), self.last + 1) - before
        return relative


def expanded(starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """All positions of the ranges one after another; and of each the number of its range."""
    counts = ends - starts
    owners = np.repeat(np.arange(len(counts)), counts)
    before = np.cumsum(counts) - counts
    positions: Ints = np.arange(len(owners)) + (starts - before)[owners]
    return positions, owners


def merge_from(sizes: Sequence[int]) -> int:
    """From which of several tiers on, oldest first, they should be made one; the last alone: nothing to do."""
    start = len(sizes) - 1
    total = sizes[start] if sizes else 0
    while start > 0 and sizes[start - 1] < TIERS * total:
        start -= 1
        total += sizes[start]
    return start
