"""Sums and extremes over runs of rows and over spans of tiles, each in an order that framing cannot change.

A run is the consecutive rows of one key and one step. A running fold gives for each row what its tile had come
to with it: the tile's carried value first, then the rows one by one, as they arrived. Floats are added one
after the other, never pairwise and never by differences of running sums: both would give other last bits when
the same events come in other frames.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from penstock.streams.windows.tiles import Column, Ints, ranges

__all__ = ["Places", "Rows", "Spans"]

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Places: TypeAlias = Ints | slice
"""Indexes of tiles."""

EXACT_MAX = 1 << 53
"""Integers up to this are floats as well."""
PAIRS_MAX = 1 << 21
"""Tiles of spans that are laid out at once: some tens of megabytes."""


class Rows:
    """Rows of a frame in the order of key, step and arrival, none before another of its key that is older by
    step. `starts` are the first rows of the runs, `run_of` is each row's run.

    Of each column that is aggregated: its values, and which of them are there, None for all.
    """

    def __init__(self, starts: Ints, times_ms: Ints, columns: dict[str, tuple[Column, Mask | None]]) -> None:
        self.count = len(times_ms)
        self.starts = starts
        self.times_ms = times_ms
        self._columns = columns

    def column(self, name: str) -> tuple[Column, Mask | None]:
        return self._columns[name]

    @cached_property
    def sizes(self) -> Ints:
        sizes = np.empty(len(self.starts), np.int64)
        np.subtract(self.starts[1:], self.starts[:-1], out=sizes[:-1])
        sizes[-1] = self.count - self.starts[-1]
        return sizes

    @cached_property
    def run_of(self) -> Ints:
        return np.arange(len(self.starts)).repeat(self.sizes)

    @cached_property
    def lasts(self) -> Ints:
        """The last row of each run."""
        return self.starts + self.sizes - 1

    def running_total(self, values: Ints, carried: Ints) -> Ints:
        """Of integers, for which differences are exact (modulo 2^64)."""
        totals: Ints = values.cumsum()
        before: Ints = carried - (totals[self.starts] - values[self.starts])
        return totals + before[self.run_of]

    def running_sum(self, values: Floats, carried: Floats) -> Floats:
        """Of floats, in the order of arrival.

        All runs are one chain of additions: a run starts with its carried sum, and after it its own total,
        which is known from a sequential count, is taken off: exactly zero is left.
        """
        runs = len(self.starts)
        if runs == self.count:
            return carried + values
        totals = np.bincount(self._bins, np.concatenate((carried, values)))
        if not np.isfinite(totals).all():
            return self._run_by_run(np.add, values, carried)
        chain = np.empty(self.count + 2 * runs)
        chain[self._chained] = values
        chain[self._chain_starts] = carried
        chain[self._chain_ends] = -totals
        sums: Floats = chain.cumsum()[self._chained]
        return sums

    def running_highest(self, values: Column, carried: Column) -> Column:
        """The greatest so far.

        Complex numbers compare by their real part, then by the imaginary one: with the number of the run as the
        real part a running maximum starts anew with each run.
        """
        runs = len(self.starts)
        if runs == self.count:
            return np.maximum(carried, values)
        if values.dtype != np.float64 and not (_is_exact(values) and _is_exact(carried)):
            return self._run_by_run(np.maximum, values, carried)
        pairs = np.empty(self.count + runs, np.complex128)
        pairs.real = self._paired_runs
        pairs.imag[self._paired] = values
        pairs.imag[self._pair_starts] = carried
        return np.maximum.accumulate(pairs).imag[self._paired].astype(values.dtype)

    def _run_by_run(self, ufunc: np.ufunc, values: Column, carried: Column) -> Column:
        """For sums that leave the floats, and for integers that are none of them: slow, and rare."""
        result = np.empty_like(values)
        with np.errstate(invalid="ignore", over="ignore"):
            for start, last, first in zip(self.starts, self.lasts, carried, strict=True):
                chain = np.concatenate(([first], values[start : last + 1]))
                result[start : last + 1] = ufunc.accumulate(chain)[1:]
        return result

    @cached_property
    def _bins(self) -> Ints:
        return np.concatenate((np.arange(len(self.starts)), self.run_of))

    @cached_property
    def _chain_starts(self) -> Ints:
        return self.starts + 2 * np.arange(len(self.starts))

    @cached_property
    def _chain_ends(self) -> Ints:
        return self._chain_starts + self.sizes + 1

    @cached_property
    def _chained(self) -> Ints:
        return self._paired + self.run_of

    @cached_property
    def _pair_starts(self) -> Ints:
        return self.starts + np.arange(len(self.starts))

    @cached_property
    def _paired(self) -> Ints:
        return np.arange(1, self.count + 1) + self.run_of

    @cached_property
    def _paired_runs(self) -> Ints:
        return np.repeat(np.arange(len(self.starts)), self.sizes + 1)


class Spans:
    """Spans of tiles, from `lows` up to before `highs`: tiles of one key in the order of time. If `laid_out`,
    each span starts where the one before it ends, and they are all the tiles there are.
    """

    def __init__(self, lows: Ints, highs: Ints, *, laid_out: bool = False) -> None:
        self.lows = lows
        self.highs = highs
        self._in_a_row = laid_out

    @cached_property
    def empty(self) -> Mask:
        empty: Mask = self.highs == self.lows
        return empty

    @cached_property
    def any_empty(self) -> bool:
        return bool(self.empty.any())

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
            _binned(bins, term(at, bins + first), count) for bins, at, first, count in self._laid_out
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def highest(self, tiles: Column, identity: float) -> Column:
        """The greatest; the identity of an empty span."""
        if not len(self.lows):
            return tiles[:0]
        padded = np.append(tiles, tiles.dtype.type(identity))
        bounds = np.empty(2 * len(self.lows), np.int64)
        bounds[::2] = self.lows
        bounds[1::2] = self.highs
        highest = np.maximum.reduceat(padded, bounds)[::2]
        if self.any_empty:
            highest[self.empty] = identity
        return highest

    @cached_property
    def _laid_out(self) -> list[tuple[Ints, Places, int, int]]:
        """The spans' tiles one after the other, in parts of bounded size: which span of the part, which tile,
        the part's first span and how many it has.
        """
        lengths = self.highs - self.lows
        if self._in_a_row:
            return [(np.arange(len(lengths)).repeat(lengths), slice(None), 0, len(lengths))]
        ends = np.cumsum(lengths)
        total = int(ends[-1]) if len(ends) else 0
        cuts = np.unique(np.searchsorted(ends, np.arange(PAIRS_MAX, total, PAIRS_MAX)) + 1)
        firsts = [0, *cuts.tolist()]
        parts: list[tuple[Ints, Places, int, int]] = []
        for first, last in zip(firsts, [*firsts[1:], len(ends)], strict=True):
            mine = lengths[first:last]
            bins = np.repeat(np.arange(len(mine)), mine)
            parts.append((bins, ranges(self.lows[first:last], mine), first, len(mine)))
        return parts


def _is_exact(values: Column) -> bool:
    return bool(((np.abs(values) <= EXACT_MAX) | (values == np.iinfo(np.int64).min)).all())


def _binned(bins: Ints, weights: Floats, count: int) -> Floats:
    """Sums by bin: one addition after the other, as the weights come."""
    if not count:
        return np.zeros(0)
    sums: Any = np.bincount(bins, weights, minlength=count)
    return sums  # type: ignore[no-any-return]
