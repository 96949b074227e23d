"""Rows that wait until event time has passed them."""

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.streams.joins.columns import rows_at
from penstock.streams.operator import TIME

__all__ = ["WaitingRows"]

PIECES_MAX = 32


class WaitingRows:
    """They are given out in the order of their times, those of one time as they came."""

    def __init__(self, *, rows_max: int) -> None:
        self._rows_max = rows_max
        self._pieces: list[pl.DataFrame] = []
        self._times: list[npt.NDArray[np.int64]] = []
        self.rows_hurried = 0

    def __len__(self) -> int:
        return sum(map(len, self._times))

    @property
    def oldest_ms(self) -> int | None:
        return min((int(times[0]) for times in self._times), default=None)

    def insert(self, rows: pl.DataFrame) -> None:
        if rows.is_empty():
            return
        if len(self._pieces) >= PIECES_MAX:
            self._pieces = [_by_time(pl.concat(self._pieces, rechunk=True))]
            self._times = [self._pieces[0].get_column(TIME).to_numpy()]
        rows = _by_time(rows)
        self._pieces.append(rows)
        self._times.append(rows.get_column(TIME).to_numpy())

    def take(self, bound_ms: int) -> pl.DataFrame | None:
        """All before the bound; and beyond it as many of the oldest as there are too many."""
        excess = len(self) - self._rows_max
        if excess > 0:
            every = np.concatenate(self._times)
            hurried_ms = int(np.partition(every, excess - 1)[excess - 1]) + 1
            if hurried_ms > bound_ms:
                self.rows_hurried += int(np.count_nonzero((every >= bound_ms) & (every < hurried_ms)))
                bound_ms = hurried_ms
        if (oldest_ms := self.oldest_ms) is None or oldest_ms >= bound_ms:
            return None
        taken: list[pl.DataFrame] = []
        kept: list[pl.DataFrame] = []
        for rows, times in zip(self._pieces, self._times, strict=True):
            end = int(np.searchsorted(times, bound_ms))
            taken.append(rows.slice(0, end))
            if end < len(times):
                kept.append(rows.slice(end))
        self._pieces = kept
        self._times = [rows.get_column(TIME).to_numpy() for rows in kept]
        return taken[0] if len(taken) == 1 else _by_time(pl.concat(taken))

    def contents(self, empty: pl.DataFrame) -> pl.DataFrame:
        """As they would be given out."""
        return _by_time(pl.concat(self._pieces or [empty]))


def _by_time(rows: pl.DataFrame) -> pl.DataFrame:
    """Those of one time as they stand. (Polars' own sort costs more, for it plans.)"""
    times = rows.get_column(TIME).to_numpy()
    if (times[1:] >= times[:-1]).all():
        return rows
    return rows_at(rows, np.argsort(times, kind="stable"))
