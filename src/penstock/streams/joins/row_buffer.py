"""Rows of one input of a join that wait for rows of the other: found by key and time, let go by time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.streams.joins.columns import rows_at
from penstock.streams.joins.sorted_index import SortedIndex, expanded, merge_from
from penstock.streams.watermark import BEGINNING_MS

__all__ = ["Found", "RowBuffer"]

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
GARBAGE_ROWS_MIN = 1024


class _Tier:
    """Some rows in the order of their times. Those before `gone` are let go of."""

    __slots__ = ("codes", "gone", "index", "matched", "rows", "times")

    def __init__(self, rows: pl.DataFrame, codes: Ints, times: Ints, matched: Mask) -> None:
        if len(times) > 1 and (times[1:] < times[:-1]).any():
            order = np.argsort(times, kind="stable")
            rows, codes, times, matched = rows_at(rows, order), codes[order], times[order], matched[order]
        self.rows = rows.rechunk()
        self.codes = codes
        self.times = times
        self.matched = matched
        self.index = SortedIndex(codes, times)
        self.gone = 0

    def __len__(self) -> int:
        return len(self.times) - self.gone


@dataclass(frozen=True)
class Found:
    """For rows that were looked up, ranges of matching rows: `asked` has the asking row of each range.

    What is found stays as it was, whatever becomes of the buffer.
    """

    tiers: Sequence[_Tier]
    asked: Ints
    tier_of: Ints
    starts: Ints
    ends: Ints

    @property
    def pairs(self) -> int:
        return int((self.ends - self.starts).sum())

    def chunks(self, rows_max: int, names: list[str]) -> Iterator[tuple[Ints, pl.DataFrame]]:
        """The asking row of each pair and these columns of what it found, at most so many at a time, by asking
        row.
        """
        if not len(self.asked):
            return
        ends_at = np.cumsum(self.ends - self.starts)
        everything = pl.concat([tier.rows for tier in self.tiers], rechunk=False)[names]
        for begin in range(0, int(ends_at[-1]), rows_max):
            end = min(begin + rows_max, int(ends_at[-1]))
            first = int(np.searchsorted(ends_at, begin, side="right"))
            last = int(np.searchsorted(ends_at, end, side="left"))
            starts = self.starts[first : last + 1].copy()
            ends = self.ends[first : last + 1].copy()
            starts[0] = ends[0] - (ends_at[first] - begin)
            ends[-1] -= ends_at[last] - end
            positions, owners = expanded(starts, ends)
            found = rows_at(everything, self._numbers(positions, owners + first))
            yield self.asked[first : last + 1][owners], found

    def _numbers(self, positions: Ints, owners: Ints) -> Ints:
        """Rows' numbers among those of all tiers one after another."""
        if len(self.tiers) == 1:
            return self.tiers[0].index.rows[positions]
        tier_of = self.tier_of[owners]
        base = 0
        for number, tier in enumerate(self.tiers):
            mine = tier_of == number
            positions[mine] = tier.index.rows[positions[mine]] + base
            base += len(tier.times)
        return positions


class RowBuffer:
    """Keeps rows until their time is before a bound. `rows_evicted` counts those that had to go earlier.

    `tells`: rows that are let go of are given back where they were never matched.
    """

    def __init__(self, *, rows_max: int, tells: bool) -> None:
        self._rows_max = rows_max
        self._tells = tells
        self._tiers: list[_Tier] = []
        self.bound_ms = BEGINNING_MS
        self.rows_evicted = 0

    def __len__(self) -> int:
        return sum(map(len, self._tiers))

    def insert(self, rows: pl.DataFrame, codes: Ints, times: Ints, matched: Mask) -> None:
        if rows.is_empty():
            return
        self._tiers.append(_Tier(rows, codes, times, matched))
        self._merge(merge_from(list(map(len, self._tiers))))

    def find(self, codes: Ints, low_ms: Ints, high_ms: Ints, *, mark: bool) -> Found:
        """Rows of the code with low <= time <= high; `mark`: they are matched from now on."""
        low_ms = np.maximum(low_ms, self.bound_ms)
        parts: list[tuple[Ints, Ints, Ints]] = []
        tiers: list[_Tier] = []
        for tier in self._tiers:
            starts, ends = tier.index.ranges(codes, low_ms, high_ms)
            asked = np.flatnonzero(ends)
            if len(asked):
                tiers.append(tier)
                parts.append((asked, starts[asked], ends[asked]))
                if mark:
                    _mark(tier, starts[asked], ends[asked])
        if len(parts) == 1:
            asked, starts, ends = parts[0]
            return Found(tiers, asked, np.zeros(len(asked), np.int64), starts, ends)
        columns = [np.concatenate([part[column] for part in parts] or [_NONE]) for column in range(3)]
        tier_of = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
        order = np.argsort(columns[0], kind="stable")
        return Found(tiers, columns[0][order], tier_of[order], columns[1][order], columns[2][order])

    def expire(self, bound_ms: int) -> list[pl.DataFrame]:
        """Lets go of rows with a time before the bound; those of them that were never matched."""
        self.bound_ms = bound_ms = max(bound_ms, self.bound_ms)
        unmatched: list[pl.DataFrame] = []
        for tier in self._tiers:
            end = int(np.searchsorted(tier.times, bound_ms))
            if end > tier.gone:
                unmatched += self._unmatched(tier, end)
                tier.gone = end
        self._tiers = [_without_garbage(tier) for tier in self._tiers if len(tier)]
        return unmatched

    def evict(self) -> list[pl.DataFrame]:
        """Where there are more rows than may be, lets go of the oldest down to nine tenths of that; those of
        them that were never matched.
        """
        excess = len(self) - self._rows_max
        if excess <= 0:
            return []
        excess += self._rows_max // 10
        self._merge(0)
        unmatched: list[pl.DataFrame] = []
        for tier in sorted(self._tiers, key=lambda tier: int(tier.times[tier.gone])):
            # More than one only where their times are too far from each other for one index.
            end = min(tier.gone + excess, len(tier.times))
            excess -= end - tier.gone
            self.rows_evicted += end - tier.gone
            unmatched += self._unmatched(tier, end)
            tier.gone = end
        self._tiers = [_rebuilt([tier]) for tier in self._tiers if len(tier)]
        return unmatched

    def codes(self) -> list[Ints]:
        """Of all rows, some maybe let go of."""
        return [tier.codes for tier in self._tiers]

    def contents(self, empty: pl.DataFrame) -> tuple[pl.DataFrame, Mask]:
        """All rows, and which of them were matched."""
        rows = [tier.rows.slice(tier.gone) for tier in self._tiers]
        matched = [tier.matched[tier.gone :] for tier in self._tiers]
        return pl.concat(rows or [empty]), np.concatenate(matched or [np.zeros(0, np.bool_)])

    def _merge(self, start: int) -> None:
        tiers = self._tiers[start:]
        if len(tiers) > 1 and SortedIndex.can_be_one([tier.index for tier in tiers]):
            self._tiers[start:] = [_rebuilt(tiers)]

    def _unmatched(self, tier: _Tier, end: int) -> list[pl.DataFrame]:
        if not self._tells:
            return []
        alone = np.flatnonzero(~tier.matched[tier.gone : end])
        return [rows_at(tier.rows, tier.gone + alone)] if len(alone) else []


_NONE = np.zeros(0, np.int64)


def _rebuilt(tiers: Sequence[_Tier]) -> _Tier:
    """One of several, without what was let go of."""
    return _Tier(
        pl.concat([tier.rows.slice(tier.gone) for tier in tiers], rechunk=False),
        np.concatenate([tier.codes[tier.gone :] for tier in tiers]),
        np.concatenate([tier.times[tier.gone :] for tier in tiers]),
        np.concatenate([tier.matched[tier.gone :] for tier in tiers]),
    )


def _without_garbage(tier: _Tier) -> _Tier:
    return _rebuilt([tier]) if tier.gone > max(len(tier), GARBAGE_ROWS_MIN) else tier


def _mark(tier: _Tier, starts: Ints, ends: Ints) -> None:
    """Ranges may overlap a lot: each position is written once."""
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], ends[order]
    reached = np.maximum.accumulate(ends)
    starts[1:] = np.maximum(starts[1:], reached[:-1])
    positions, _ = expanded(starts, np.maximum(starts, ends))
    tier.matched[tier.index.rows[positions]] = True
