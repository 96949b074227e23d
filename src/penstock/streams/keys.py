"""Keys as small integers: each different key of a stream has a slot, which arrays are indexed with."""

import io
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.core.errors import CorruptState, InvalidInput
from penstock.streams.key_index import KeyIndex, indexes

__all__ = ["KeyTable", "check_names", "read_table", "written_table"]

KEYS_MANY = 1 << 15
"""A dictionary of fewer keys stays in the processor's caches."""
WIDE_ROWS, WIDE_ROWS_OF_MANY = 1 << 12, 1 << 10
"""From so many rows on the index costs less than the dictionary does, of few keys and of many: 0.3 ms a frame
and 0.04 µs a row, for 0.15 to 1.2 µs a row.
"""
NO_SLOT = -1
Slots = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Key = Any
"""A value, or a tuple of them where the key has several columns. Null is a value like others."""


class _Numbering(dict[Key, int]):
    """The slots of keys, which are looked up and given without a loop of ours over rows."""

    def __init__(self) -> None:
        self.names: list[Key] = []
        self.free: list[int] = []
        self.fresh: list[int] = []

    def slots_of(self, keys: list[Key]) -> Slots:
        """Keys that are not known get the next free slots, in their order."""
        slots = np.fromiter(map(self.get, keys, repeat(NO_SLOT)), np.int64, count=len(keys))
        missed = np.flatnonzero(slots == NO_SLOT)
        if len(missed):
            unknown = [keys[row] for row in missed.tolist()]
            self._give(list(dict.fromkeys(unknown)))
            slots[missed] = np.fromiter(map(self.__getitem__, unknown), np.int64, count=len(unknown))
        return slots

    def _give(self, keys: list[Key]) -> None:
        """To different keys, none of them known."""
        again = self.free[len(self.free) - min(len(keys), len(self.free)) :][::-1]
        del self.free[len(self.free) - len(again) :]
        for slot, key in zip(again, keys, strict=False):
            self.names[slot] = key
        end = len(self.names)
        self.names += keys[len(again) :]
        slots = [*again, *range(end, len(self.names))]
        self.update(zip(keys, slots, strict=True))
        self.fresh += slots


class KeyTable:
    """The keys that have a slot. Slots are dense: one that was released is given to the next new key."""

    def __init__(self, columns: Sequence[str]) -> None:
        assert columns, "a key has columns"
        self.columns = tuple(columns)
        self.dtypes: tuple[pl.DataType, ...] | None = None
        self._numbering = _Numbering()
        self._index: KeyIndex | None = None
        self._missed = 0
        """Rows that were not found in the index since it was built."""

    def __len__(self) -> int:
        return len(self._numbering)

    @property
    def slots_end(self) -> int:
        """One above the highest slot there ever was."""
        return len(self._numbering.names)

    def slots_of(self, frame: pl.DataFrame) -> Slots:
        """Each row's slot; keys that are new get one. Raises `InvalidInput` where a key column is missing or
        of another type than before.
        """
        self.check(frame)
        wide = WIDE_ROWS if len(self._numbering) < KEYS_MANY else WIDE_ROWS_OF_MANY
        if frame.height < wide or not self._indexed():
            return self._looked_up(frame)
        assert self._index is not None
        keys = frame[list(self.columns)]
        slots = self._index.find(keys)
        missed = np.flatnonzero(slots < 0)
        if len(missed):
            self._missed += len(missed)
            slots[missed] = self._looked_up(keys[missed])
        return slots

    def _looked_up(self, frame: pl.DataFrame) -> Slots:
        """By the dictionary."""
        if len(self.columns) == 1:
            keys = frame.get_column(self.columns[0]).to_list()
        else:
            keys = list(zip(*(frame.get_column(name).to_list() for name in self.columns), strict=True))
        return self._numbering.slots_of(keys)

    def _indexed(self) -> bool:
        """Builds the index anew where as many rows have missed it as there are keys, so that neither costs much
        more than the other; False where there is none for such keys.
        """
        if self.dtypes is None or not indexes(self.dtypes):
            return False
        index = self._index
        if index is not None and self._missed < len(self._numbering):
            return True
        slots = self.slots()
        if index is None:
            keys = self.values(slots)
        else:
            # What it has needs not be made of Python's objects again.
            kept = np.flatnonzero(index.slots >= 0)
            indexed = index.slots[kept]
            new = np.ones(self.slots_end, np.bool_)
            new[indexed] = False
            slots = slots[new[slots]]
            keys = pl.concat([index.keys[kept], self.values(slots)])
            slots = np.concatenate([indexed, slots])
        self._index = KeyIndex(keys, slots) if len(slots) else None
        self._missed = 0
        return self._index is not None

    def take_fresh(self) -> Slots:
        """Slots that were given to new keys since the last call, in their order."""
        fresh = np.array(self._numbering.fresh, np.int64)
        self._numbering.fresh.clear()
        return fresh

    def values(self, slots: Slots) -> pl.DataFrame:
        """The key columns of these slots."""
        names = self._numbering.names
        keys = [names[slot] for slot in slots.tolist()]
        dtypes = self.dtypes or (pl.String(),) * len(self.columns)
        if len(self.columns) == 1:
            return pl.DataFrame({self.columns[0]: pl.Series(keys, dtype=dtypes[0])})
        split = list(zip(*keys, strict=True)) if keys else [()] * len(self.columns)
        return pl.DataFrame(
            {
                name: pl.Series(column, dtype=dtype)
                for name, column, dtype in zip(self.columns, split, dtypes, strict=True)
            }
        )

    def slots(self) -> Slots:
        """All that are taken, in ascending order."""
        taken = np.ones(self.slots_end, np.bool_)
        taken[self._numbering.free] = False
        return taken.nonzero()[0]

    def release(self, slots: Slots) -> None:
        """Forgets the keys of these slots, which had one."""
        numbering = self._numbering
        if self._index is not None:
            self._index.remove(slots)
        names, listed = numbering.names, slots.tolist()
        for slot in listed:
            del numbering[names[slot]]
            names[slot] = None
        numbering.free += listed

    def adopt(self, slots: Slots, keys: pl.DataFrame) -> None:
        """Gives new keys the slots that they had elsewhere, where `take_fresh` told them in this order. Raises
        `CorruptState` where these are others here.
        """
        if keys.height != len(slots) or tuple(keys.columns) != self.columns:
            raise CorruptState(f"{keys.height} keys of {keys.columns} for {len(slots)} slots of {self.columns}")
        mine = self.slots_of(keys)
        self._numbering.fresh.clear()
        if not np.array_equal(mine, slots):
            raise CorruptState("a change gives keys other slots than they have: it follows another snapshot")

    def dump(self) -> tuple[Bytes, Slots, Slots]:
        """All keys as a written table, their slots, and the free slots as they were freed."""
        slots = self.slots()
        return written_table(self.values(slots)), slots, np.array(self._numbering.free, np.int64)

    def load(self, table: Bytes, slots: Slots, free: Slots) -> None:
        """Takes over what `dump` gave, into an empty table. Raises `CorruptState`."""
        keys = read_table(table)
        end = len(slots) + len(free)
        if tuple(keys.columns) != self.columns or keys.height != len(slots):
            raise CorruptState(f"the keys of the state are {keys.columns}, not {list(self.columns)}")
        if not np.array_equal(np.sort(np.concatenate([slots, free])), np.arange(end)):
            raise CorruptState("the slots of the state's keys have gaps or are taken twice")
        self.dtypes = tuple(keys.dtypes) if len(slots) or len(free) else None
        columns = [keys.get_column(name).to_list() for name in self.columns]
        listed = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
        names: list[Key] = [None] * end
        if len(free):
            for slot, key in zip(slots.tolist(), listed, strict=True):
                names[slot] = key
        else:
            names = listed
        self._numbering.names = names
        self._numbering.update(zip(listed, slots.tolist(), strict=True))
        self._numbering.free = free.tolist()

    def check(self, frame: pl.DataFrame) -> None:
        """Raises `InvalidInput` where a key column is missing, is no key, or is of another type than before."""
        check_names(frame, self.columns, "the key column")
        dtypes = tuple([frame.get_column(name).dtype for name in self.columns])
        if dtypes == self.dtypes:
            return
        for name, dtype in zip(self.columns, dtypes, strict=True):
            if dtype.is_float() or dtype.is_nested():
                raise InvalidInput(
                    f"the key column {name!r} is of {dtype}, which is no key",
                    where=name,
                    hint="take a column of text, integers, booleans or dates",
                )
        if self.dtypes is not None:
            raise InvalidInput(
                f"the key columns {list(self.columns)} are of {list(map(str, dtypes))}, before they were of "
                f"{list(map(str, self.dtypes))}",
                where=", ".join(self.columns),
                hint="cast them to one type before the window",
            )
        self.dtypes = dtypes


def check_names(frame: pl.DataFrame, names: Iterable[str], what: str) -> None:
    """Raises `InvalidInput` for the first of the names that is no column of the frame."""
    columns = frame.columns
    for name in names:
        if name not in columns:
            raise InvalidInput(
                f"{what} {name!r} is not in the frame, which has {columns}",
                where=name,
                hint="name a column of the stream's schema, or add it before the window",
            )


def written_table(table: pl.DataFrame) -> Bytes:
    """As Arrow's stream format has it."""
    stream = io.BytesIO()
    table.write_ipc_stream(stream, compat_level=pl.CompatLevel.oldest())
    return np.frombuffer(stream.getvalue(), np.uint8)


def read_table(data: Bytes) -> pl.DataFrame:
    """Raises `CorruptState`."""
    try:
        return pl.read_ipc_stream(io.BytesIO(data.tobytes()))
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise CorruptState(f"a table of the state cannot be read: {error}") from error
