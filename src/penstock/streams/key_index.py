"""Finding many keys at once among very many: what a dictionary does key by key, at a cache miss or more each.

The keys stand in columns. A table of places, by the keys' hashes, says where a key may stand; whether it stands
there is seen by comparing. A key that is not found in one of its two places may still be known: it is for the
caller to look it up in the dictionary. So a hash decides nothing, and few keys may stand in each other's way.
"""

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["KeyIndex", "indexes"]

Slots = npt.NDArray[np.int64]
PLACES_PER_KEY = 4
"""At least; then some 3 % of the keys find both places taken."""
NOWHERE = -1
HASHED = (pl.String, pl.Boolean, pl.Date, pl.Datetime, pl.Duration)


class KeyIndex:
    """Of keys (a row each) and their slots, neither of them twice."""

    def __init__(self, keys: pl.DataFrame, slots: Slots) -> None:
        self._keys = keys.rechunk()
        self._slots = slots.copy()
        rows = np.arange(len(slots), dtype=np.int32)
        self._row_of = np.full(int(slots.max(initial=0)) + 1, NOWHERE, np.int32)
        self._row_of[slots] = rows
        count = 1 << (PLACES_PER_KEY * max(len(slots), 1) - 1).bit_length()
        self._mask = np.uint64(count - 1)
        self._table = np.zeros(count, np.int32)
        places = self._places(self._keys)
        self._table[places] = rows
        displaced = np.flatnonzero(self._table[places] != rows)
        # A place that nobody has holds row 0, which is found by comparing like any other, and not by them.
        others = places[displaced] ^ 1
        empty = self._table[others] == 0
        self._table[others[empty]] = rows[displaced[empty]]

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def keys(self) -> pl.DataFrame:
        return self._keys

    @property
    def slots(self) -> Slots:
        """Each key's slot; -1 of those that were removed."""
        return self._slots

    def find(self, keys: pl.DataFrame) -> Slots:
        """Each key's slot; -1 of those that are not found."""
        places = self._places(keys)
        found = self._slots_at(keys, self._table[places])
        missed = np.flatnonzero(found == NOWHERE)
        if len(missed):
            found[missed] = self._slots_at(keys[missed], self._table[places[missed] ^ 1])
        return found

    def remove(self, slots: Slots) -> None:
        """Those of the slots that are in here are not found any more."""
        rows = self._row_of[slots[slots < len(self._row_of)]]
        rows = rows[rows != NOWHERE]
        self._row_of[self._slots[rows]] = NOWHERE
        self._slots[rows] = NOWHERE

    def _places(self, keys: pl.DataFrame) -> Slots:
        hashes = keys.to_series().hash() if keys.width == 1 else keys.hash_rows()
        return (hashes.to_numpy() & self._mask).astype(np.int64)

    def _slots_at(self, keys: pl.DataFrame, rows: npt.NDArray[np.int32]) -> Slots:
        # By index, and not by Polars' expressions: those go through its planner and its threads.
        at = pl.Series(rows.astype(np.uint32))
        same = np.ones(len(rows), np.bool_)
        for mine, asked in zip(self._keys.get_columns(), keys.get_columns(), strict=True):
            found = mine[at]
            nullable = found.null_count() or asked.null_count()
            same &= (found.eq_missing(asked) if nullable else found == asked).to_numpy()
        return np.where(same, self._slots[rows], NOWHERE)


def indexes(dtypes: tuple[pl.DataType, ...]) -> bool:
    """Whether keys of these types are equal where their hashes and values are, in whichever frame they come."""
    return all(dtype.is_integer() or isinstance(dtype, HASHED) for dtype in dtypes)
