"""Keys of joins as integers, which are given up when no row is kept of them any more."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.streams.joins.sorted_index import NO_CODE
from penstock.streams.keys import KeyTable

__all__ = ["KeyCodes"]

Ints = npt.NDArray[np.int64]
PRUNE_KEYS_MIN = 1024


class KeyCodes:
    """Equal keys have equal codes, whichever input they come from. A key with a null has `NO_CODE`."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = list(columns)
        self._table = KeyTable(columns)
        self._taken = np.zeros(PRUNE_KEYS_MIN, np.bool_)
        self._prune_at = PRUNE_KEYS_MIN

    def __len__(self) -> int:
        return len(self._table)

    def codes(self, frame: pl.DataFrame, columns: Sequence[str] | None = None) -> Ints:
        """`columns` stand for the key's where they have other names there. Raises `InvalidInput`."""
        keys = frame
        if columns is not None:
            keys = frame[list(columns)]
            keys.columns = self._columns
        codes = self._table.slots_of(keys)
        for column in self._columns:
            values = keys.get_column(column)
            if values.null_count():
                codes[values.is_null().to_numpy()] = NO_CODE
        self._take()
        return codes

    @property
    def is_full(self) -> bool:
        """Whether it is time to `prune`: there are twice as many keys as were needed at the last time."""
        return len(self._table) > self._prune_at

    def prune(self, used: Iterable[Ints]) -> None:
        """Forgets all keys but those whose codes are used."""
        unused = self._taken.copy()
        for codes in used:
            unused[codes[codes != NO_CODE]] = False
        self._table.release(np.flatnonzero(unused))
        self._taken &= ~unused
        self._prune_at = max(2 * len(self._table), PRUNE_KEYS_MIN)

    def _take(self) -> None:
        fresh = self._table.take_fresh()
        if len(fresh) == 0:
            return
        end = self._table.slots_end
        if end > len(self._taken):
            self._taken = np.concatenate([self._taken, np.zeros(max(end, len(self._taken)), np.bool_)])
        self._taken[fresh] = True
