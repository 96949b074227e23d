"""Sums and extremes over runs of rows and over spans of tiles, each in an order that framing cannot change.

A run is the consecutive rows of one key and one step. A running fold gives for each row what its tile had come
to with it: the tile's carried value first, then the rows one by one, as they arrived. Floats are added one
after the other, never pairwise and never by differences of running sums: both would give other last bits when
the same events come in other frames.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from penstock.streams.windows.tiles import Column, Ints, ranges

__all__ = ["Places", "Rows", "Spans"]

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Places: TypeAlias = Ints | slice
"""Indexes of tiles."""

GRID_SHARE_MAX = 4
GRID_MIN = 1 << 12
"""A grid of runs has so many times more places than there are rows, at most, or this many."""
PAIRS_MAX = 1 << 21
"""Tiles of spans that are laid out at once: some tens of megabytes."""


class Rows:
    """Rows of a frame in the order of key, step and arrival, none before another of its key that is older by
    step. `starts` are the first rows of the runs, `run_of` is each row's run.

    Of each column that is aggregated: its values, and which of them are there, None for all.
    """

    __slots__ = ("_columns", "_grid", "count", "lasts", "run_of", "sizes", "starts", "times_ms")

    def __init__(self, starts: Ints, times_ms: Ints, columns: dict[str, tuple[Column, Mask | None]]) -> None:
        self.count = len(times_ms)
        self.starts = starts
        self.times_ms = times_ms
        self._columns = columns
        ends = np.empty_like(starts)
        ends[:-1] = starts[1:]
        ends[-1:] = self.count
        self.sizes: Ints = ends - starts
        self.lasts: Ints = ends - 1
        """The last row of each run."""
        self.run_of: Ints = np.arange(len(starts)).repeat(self.sizes)
        self._grid: tuple[int, Ints] | None = None

    def column(self, name: str) -> tuple[Column, Mask | None]:
        return self._columns[name]

    def running_total(self, values: Ints, carried: Ints) -> Ints:
        """Of integers, for which differences are exact (modulo 2^64)."""
        totals: Ints = values.cumsum()
        before: Ints = carried - (totals[self.starts] - values[self.starts])
        return totals + before[self.run_of]

    def running_sum(self, values: Floats, carried: Floats) -> Floats:
        """Of floats, in the order of arrival."""
        return self._accumulated(np.add, values, carried)

    def running_highest(self, values: Column, carried: Column) -> Column:
        """The greatest so far."""
        return self._accumulated(np.maximum, values, carried)

    def _accumulated(self, ufunc: np.ufunc, values: Column, carried: Column) -> Column:
        """The carried value and then the rows, one after the other: a line of a grid for each run. Where the
        longest run would leave most of the grid empty, it goes in parts, from the runs of a few rows on.
        """
        if len(self.starts) == self.count:
            one_by_one: Column = ufunc(carried, values)
            return one_by_one
        width, places = self._laid_out
        if width * len(self.starts) > GRID_SHARE_MAX * (self.count + len(self.starts)) + GRID_MIN:
            return self._by_size(ufunc, values, carried)
        grid = np.zeros((len(self.starts), width), values.dtype)
        grid[:, 0] = carried
        grid.ravel()[places] = values
        found: Column = ufunc.accumulate(grid, axis=1).ravel()[places]
        return found

    def _by_size(self, ufunc: np.ufunc, values: Column, carried: Column) -> Column:
        """Runs of about the same size together: of fewer rows than some power of two."""
        found = np.empty_like(values)
        magnitudes = np.frexp(self.sizes)[1]
        for magnitude in np.flatnonzero(np.bincount(magnitudes)):
            runs = np.flatnonzero(magnitudes == magnitude)
            sizes = self.sizes[runs]
            at = ranges(self.starts[runs], sizes)
            some = Rows(sizes.cumsum() - sizes, self.times_ms[at], {})
            found[at] = some._accumulated(ufunc, values[at], carried[runs])
        return found

    @property
    def _laid_out(self) -> tuple[int, Ints]:
        """How wide the grid is, and where the rows lie in it."""
        if self._grid is None:
            width = int(self.sizes.max()) + 1
            shifts = np.arange(1, len(self.starts) * width, width) - self.starts
            self._grid = width, np.arange(self.count) + shifts.repeat(self.sizes)
        return self._grid


class Spans:
    """Spans of tiles, from `lows` up to before `highs`: tiles of one key in the order of time. If `laid_out`,
    each span starts where the one before it ends, and they are all the tiles there are.
    """

    def __init__(self, lows: Ints, highs: Ints, *, laid_out: bool = False) -> None:
        self.lows = lows
        self.highs = highs
        self._in_a_row = laid_out
        self._places: list[tuple[Ints, Places, int, int]] | None = None

    @property
    def empty(self) -> Mask:
        empty: Mask = self.highs == self.lows
        return empty

    def total(self, tiles: Ints) -> Ints:
        """Of integers: the order does not matter."""
        totals = np.zeros(len(tiles) + 1, np.int64)
        np.cumsum(tiles, out=totals[1:])
        return totals[self.highs] - totals[self.lows]

    def sum(self, tiles: Floats) -> Floats:
        """Of floats, from the oldest tile to the youngest."""
        return self.sum_of(lambda at, _: tiles[at])

    def sum_of(self, term: Callable[[Places, Ints], Floats]) -> Floats:
        """Of what `term` gives for tiles and the spans that they are summed for, in the same order."""
        parts: list[Floats] = [
            _binned(bins, term(at, bins + first), count) for bins, at, first, count in self._parts()
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def highest(self, tiles: Column, identity: float) -> Column:
        """The greatest; the identity of an empty span."""
        if not len(self.lows):
            return tiles[:0]
        padded = np.empty(len(tiles) + 1, tiles.dtype)
        padded[:-1] = tiles
        padded[-1] = identity
        bounds = np.empty(2 * len(self.lows), np.int64)
        bounds[::2] = self.lows
        bounds[1::2] = self.highs
        highest = np.maximum.reduceat(padded, bounds)[::2]
        empty = self.empty
        if empty.any():
            highest[empty] = identity
        return highest

    def _parts(self) -> list[tuple[Ints, Places, int, int]]:
        if self._places is None:
            self._places = self._laid_out()
        return self._places

    def _laid_out(self) -> list[tuple[Ints, Places, int, int]]:
        """The spans' tiles one after the other, in parts of bounded size: which span of the part, which tile,
        the part's first span and how many it has.
        """
        lengths = self.highs - self.lows
        if self._in_a_row:
            return [(np.arange(len(lengths)).repeat(lengths), slice(None), 0, len(lengths))]
        ends = lengths.cumsum()
        total = int(ends[-1]) if len(ends) else 0
        if total <= PAIRS_MAX:
            shifts = self.highs - ends
            bins = np.arange(len(lengths)).repeat(lengths)
            return [(bins, np.arange(total) + shifts.repeat(lengths), 0, len(lengths))]
        cuts = np.unique(np.searchsorted(ends, np.arange(PAIRS_MAX, total, PAIRS_MAX)) + 1)
        firsts = [0, *cuts.tolist()]
        parts: list[tuple[Ints, Places, int, int]] = []
        for first, last in zip(firsts, [*firsts[1:], len(ends)], strict=True):
            mine = lengths[first:last]
            bins = np.repeat(np.arange(len(mine)), mine)
            parts.append((bins, ranges(self.lows[first:last], mine), first, len(mine)))
        return parts


def _binned(bins: Ints, weights: Floats, count: int) -> Floats:
    """Sums by bin: one addition after the other, as the weights come."""
    if not count:
        return np.zeros(0)
    sums: Any = np.bincount(bins, weights, minlength=count)
    return sums  # type: ignore[no-any-return]
