"""What the keys of a table had, version after version: the one that holds at a place is found for many at once.

A version holds from its place on, until the next one of its key, and for a time-to-live by event time at most.
The places are event times, or the order in which versions came, where only the last one counts.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.streams.joins.sorted_index import NO_CODE, SortedIndex, merge_from
from penstock.streams.watermark import BEGINNING_MS

__all__ = ["Versions"]

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
COMPACT_ROWS_MIN = 4096
ALWAYS = 2**62


class _Tier:
    """Some versions in the order in which they came; `arrivals` numbers them through all tiers."""

    __slots__ = ("arrivals", "codes", "deleted", "index", "rows", "times")

    def __init__(self, rows: pl.DataFrame, columns: "tuple[Ints, Ints, Ints, Mask]", *, by_time: bool) -> None:
        self.rows = rows
        self.codes, self.times, self.arrivals, self.deleted = columns
        self.index = SortedIndex(self.codes, self.times if by_time else self.arrivals)

    def __len__(self) -> int:
        return len(self.codes)

    def superseded(self, bound: int) -> Mask:
        """Versions that no place from the bound on can see, as the next one of their key holds by then."""
        index = self.index
        hidden = np.zeros(len(self), np.bool_)
        next_holds = (index.codes[1:] == index.codes[:-1]) & (index.axis[1:] <= bound)
        hidden[index.rows[:-1][next_holds]] = True
        return hidden


class Versions:
    """The state of one table. `keys_evicted` counts keys that had to go because there were too many."""

    def __init__(self, *, by_time: bool, ttl_ms: int, keys_max: int) -> None:
        self._by_time = by_time
        self._ttl_ms = ttl_ms
        self._keys_max = keys_max
        self._tiers: list[_Tier] = []
        self._arrived = 0
        self.compact_at = COMPACT_ROWS_MIN
        """So many versions are looked through for those that nobody can see."""
        self.compacted_ms = BEGINNING_MS
        self._bound_ms = BEGINNING_MS
        self._settled_ms = BEGINNING_MS
        self._known = np.zeros(COMPACT_ROWS_MIN, np.bool_)
        self.keys = 0
        self.keys_evicted = 0

    def __len__(self) -> int:
        return sum(map(len, self._tiers))

    def insert(self, rows: pl.DataFrame, codes: Ints, times: Ints, deleted: Mask) -> None:
        """Versions in the order in which they came; of keys without a null."""
        if rows.is_empty():
            return
        assert (codes != NO_CODE).all(), "a version has a key"
        arrivals = np.arange(self._arrived, self._arrived + len(codes))
        self._arrived += len(codes)
        self._count(codes)
        self._tiers.append(_Tier(rows, (codes, times, arrivals, deleted), by_time=self._by_time))
        self._merge(merge_from(list(map(len, self._tiers))))
        if self.keys > self._keys_max or len(self) > self.compact_at:
            self._compact()

    def advance(self, bound_ms: int, settled_ms: int) -> None:
        """Nobody will look for a place in time before the bound any more, and no version older than
        `settled_ms` will come.
        """
        self._bound_ms = max(self._bound_ms, bound_ms)
        self._settled_ms = max(self._settled_ms, settled_ms)
        if self._tiers and self._bound_ms - max(self.compacted_ms, -ALWAYS // 2) > self._ttl_ms:
            self._compact()

    def find(self, codes: Ints, times: Ints) -> tuple[pl.DataFrame, npt.NDArray[np.int64]] | None:
        """Versions, and for each code at its time the number of the one that holds, or -1; None without any."""
        if not self._tiers:
            return None
        places = times if self._by_time else np.full(len(times), ALWAYS - 1, np.int64)
        best = np.full(len(codes), -ALWAYS, np.int64)
        numbers = np.full(len(codes), -1, np.int64)
        base = 0
        for tier in self._tiers:
            ends = tier.index.ends(codes, places)
            last = ends - 1
            # Of equal places the later version holds, which is in the later tier.
            better = (ends > 0) & (tier.index.axis[last] >= best)
            rows = tier.index.rows[last[better]]
            best[better] = tier.index.axis[last[better]]
            held = ~tier.deleted[rows] & (times[better] - tier.times[rows] <= self._ttl_ms)
            numbers[better] = np.where(held, rows + base, -1)
            base += len(tier)
        return pl.concat([tier.rows for tier in self._tiers], rechunk=False), numbers

    def codes(self) -> list[Ints]:
        return [tier.codes for tier in self._tiers]

    def contents(self, empty: pl.DataFrame) -> tuple[pl.DataFrame, Mask]:
        """All versions in the order in which they came, and which of them say that the key is gone."""
        rows = pl.concat([tier.rows for tier in self._tiers] or [empty])
        return rows, np.concatenate([tier.deleted for tier in self._tiers] or [np.zeros(0, np.bool_)])

    def _count(self, codes: Ints) -> None:
        end = int(codes.max()) + 1
        if end > len(self._known):
            self._known = np.concatenate([self._known, np.zeros(max(end, len(self._known)), np.bool_)])
        # `np.unique` would put them into a hash table, at some microseconds each.
        fresh = np.sort(codes[~self._known[codes]])
        self.keys += int(np.count_nonzero(fresh[1:] != fresh[:-1])) + (len(fresh) > 0)
        self._known[fresh] = True

    def _merge(self, start: int) -> None:
        tiers = self._tiers[start:]
        if len(tiers) > 1 and SortedIndex.can_be_one([tier.index for tier in tiers]):
            self._tiers[start:] = self._rebuilt(tiers)

    def _rebuilt(self, tiers: Sequence[_Tier], keep: Mask | None = None) -> list[_Tier]:
        rows = pl.concat([tier.rows for tier in tiers], rechunk=keep is None)
        columns = tuple(
            np.concatenate([getattr(tier, name) for tier in tiers])
            for name in ("codes", "times", "arrivals", "deleted")
        )
        if keep is not None:
            rows, columns = rows.filter(keep), tuple(column[keep] for column in columns)
        if rows.is_empty():
            return []
        return [_Tier(rows.rechunk(), columns, by_time=self._by_time)]  # type: ignore[arg-type]

    def _compact(self) -> None:
        """One tier, of what can still be seen."""
        self._merge(0)
        compacted: list[_Tier] = []
        for tier in self._tiers:
            keep = ~tier.superseded(self._bound_ms if self._by_time else ALWAYS)
            keep &= tier.times >= self._bound_ms - self._ttl_ms
            # What says that a key is gone hides older versions, those too that are yet to come.
            settled = tier.times <= min(self._bound_ms, self._settled_ms) if self._by_time else np.True_
            keep &= ~(tier.deleted & settled) if len(self._tiers) == 1 else np.True_
            compacted += self._rebuilt([tier], keep)
        self._tiers = compacted
        self._recount()
        if self.keys > self._keys_max:
            self._evict()
        self.compacted_ms = self._bound_ms
        self.compact_at = max(2 * len(self), COMPACT_ROWS_MIN)

    def _evict(self) -> None:
        """The keys go whose last version came the longest ago, down to nine tenths of what may be."""
        codes = np.concatenate([tier.codes for tier in self._tiers])
        arrivals = np.concatenate([tier.arrivals for tier in self._tiers])
        last = np.full(int(codes.max()) + 1, -1, np.int64)
        np.maximum.at(last, codes, arrivals)
        present = np.flatnonzero(last >= 0)
        excess = len(present) - self._keys_max + self._keys_max // 10
        oldest = np.argsort(last[present], kind="stable")[:excess]
        gone = np.zeros(len(last), np.bool_)
        gone[present[oldest]] = True
        self.keys_evicted += excess
        self._tiers = [kept for tier in self._tiers for kept in self._rebuilt([tier], ~gone[tier.codes])]
        self._recount()

    def _recount(self) -> None:
        self._known[:] = False
        for tier in self._tiers:
            self._known[tier.codes] = True
        self.keys = int(np.count_nonzero(self._known))
