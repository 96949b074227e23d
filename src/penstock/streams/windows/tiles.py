"""Tiles in a flat arena: what is known of one key in one step of time, for any number of keys.

Each key (a slot) has a region of the arena: an offset, a length, and a capacity that is a power of two. In it
lie its tiles in the order of their steps. A frame gathers the tiles of the keys that it touches, merges its own
into them, and writes them back; a region that is too small moves to the arena's end. When half of the arena is
garbage it is written anew. So a frame costs what it touches, however many keys there are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "CODES_MAX",
    "Carried",
    "Column",
    "Field",
    "Ints",
    "Merge",
    "Tiles",
    "distinct",
    "first_from",
    "ranges",
]

Ints = npt.NDArray[np.int64]
Column: TypeAlias = npt.NDArray[Any]
"""Integers or floats of 64 bits, as the field says."""

FIRST = 1
"""The arena's place 0 holds what a tile is that nothing has come to."""
ARENA_TILES_MIN = 1024
COMPACTED_TILES_MIN = 1 << 14
"""Smaller arenas are not worth writing anew."""
CODES_MAX = 1 << 62
Runs: TypeAlias = tuple[Ints, Ints]
"""Indexes of keys, and steps."""


@dataclass(frozen=True)
class Field:
    """A number that each tile has. `identity` is what it is in a tile that nothing has come to."""

    name: str
    integer: bool
    identity: float

    def blank(self, count: int) -> Column:
        return np.full(count, self.identity, np.int64 if self.integer else np.float64)


class Merge:
    """The carried tiles of the keys that a frame touches, with the frame's own runs among them.

    `keys` are the slots, `lengths` how many tiles each has. Of all tiles in order of key and step: `steps`, a
    `code` that grows with both, and `source`, where the tile lies in the arena; 0 for new ones. `runs_at` is
    where the frame's runs stand among them. `in_place` where these are all that differs from the arena.
    """

    __slots__ = ("codes", "in_place", "keys", "lengths", "run_codes", "runs_at", "source", "steps")

    def __init__(self, keys: Ints, carried: "Carried", runs: Runs, low: int, span: int) -> None:
        self.keys = keys
        slot_of, steps = runs
        codes = carried.key_of * span
        codes += carried.steps
        codes -= low
        self.run_codes = slot_of * span
        self.run_codes += steps
        self.run_codes -= low
        at = codes.searchsorted(self.run_codes)
        padded = np.empty(len(codes) + 1, np.int64)
        padded[:-1] = codes
        padded[-1] = CODES_MAX
        fresh = padded[at] != self.run_codes
        added = fresh.cumsum()
        if not added[-1]:
            self.runs_at, self.lengths, self.in_place = at, carried.lengths, carried.whole
            self.source, self.codes, self.steps = carried.source, codes, carried.steps
            return
        self.in_place = False
        self.runs_at = at + added
        self.runs_at -= fresh
        fresh_at = self.runs_at[fresh]
        old = np.ones(len(codes) + len(fresh_at), np.bool_)
        old[fresh_at] = False
        self.lengths = carried.lengths + np.bincount(slot_of[fresh], minlength=len(keys))
        self.source = np.zeros(len(old), np.int64)
        self.source[old] = carried.source
        self.codes = np.empty(len(old), np.int64)
        self.codes[old] = codes
        self.codes[self.runs_at] = self.run_codes
        self.steps = np.empty(len(old), np.int64)
        self.steps[old] = carried.steps
        self.steps[self.runs_at] = steps

    def lows(self, reach: int) -> Ints:
        """For each run the first tile of its key in the `reach` steps that end with the run's."""
        return self.codes.searchsorted(self.run_codes - (reach - 1))


class Carried(NamedTuple):
    """What keys have in reach: of each tile the key (an index), its step, where it lies; each key's count.
    `whole` where they have nothing else.
    """

    key_of: Ints
    steps: Ints
    source: Ints
    lengths: Ints
    whole: bool


class Tiles:
    """Tiles of slots, in `fields`. `reach` is how many steps back, its own among them, a tile may be asked
    for; tiles out of reach of `floor` go when their key is touched, or when all are swept.
    """

    def __init__(self, fields: Sequence[Field], reach: int) -> None:
        self.fields = tuple(fields)
        self.reach = reach
        self.floor = -CODES_MAX
        """Tiles with a lower step are out of reach."""
        self._offset = np.zeros(0, np.int64)
        self._length = np.zeros(0, np.int64)
        self._capacity = np.zeros(0, np.int64)
        self._step = np.zeros(ARENA_TILES_MIN, np.int64)
        self._columns: dict[str, Column] = {field.name: field.blank(ARENA_TILES_MIN) for field in self.fields}
        self._end = FIRST
        self._garbage = 0
        self._count = 0

    @property
    def count(self) -> int:
        """Tiles held, some of which may be out of reach by now."""
        return self._count

    @property
    def size_bytes(self) -> int:
        slots = self._offset.nbytes + self._length.nbytes + self._capacity.nbytes
        return slots + self._step.nbytes + sum(column.nbytes for column in self._columns.values())

    def reserve(self, slots_end: int) -> None:
        """Makes room for slots below `slots_end`."""
        if slots_end > len(self._offset):
            count = max(slots_end, 2 * len(self._offset), ARENA_TILES_MIN)
            self._offset = _grown(self._offset, count, 0)
            self._length = _grown(self._length, count, 0)
            self._capacity = _grown(self._capacity, count, 0)

    def merge(self, slots: Ints, steps: Ints) -> Merge | None:
        """Of runs, sorted by slot and step and each pair of these once, with what these slots have in reach.

        None where they are too many over too long a time for codes of 64 bits; of fewer runs it can be had.
        """
        starts = np.empty(len(slots), np.bool_)
        starts[0] = True
        np.not_equal(slots[1:], slots[:-1], out=starts[1:])
        keys = slots[starts]
        carried = self._carried(keys)
        low, high = int(steps.min()), int(steps.max())
        if len(carried.steps):
            low, high = min(low, int(carried.steps.min())), max(high, int(carried.steps.max()))
        low -= self.reach
        span = high - low + 1
        if len(keys) * span >= CODES_MAX:
            return None
        slot_of = starts.cumsum()
        slot_of -= 1
        return Merge(keys, carried, (slot_of, steps), low, span)

    def _carried(self, keys: Ints) -> Carried:
        lengths = self._length[keys]
        source = ranges(self._offset[keys], lengths)
        steps = self._step[source]
        key_of = np.arange(len(keys)).repeat(lengths)
        whole = not len(steps) or bool(steps.min() >= self.floor)
        if not whole:
            kept = steps >= self.floor
            source, steps, key_of = source[kept], steps[kept], key_of[kept]
            lengths = np.bincount(key_of, minlength=len(keys))
        return Carried(key_of, steps, source, lengths, whole)

    def column(self, field: Field, merge: Merge) -> Column:
        """A field of all tiles of the merge: what is carried, and the identity for the frame's new ones."""
        return self._columns[field.name][merge.source]

    def write(self, merge: Merge, columns: Mapping[str, Column]) -> None:
        """Puts all tiles of the merge in the place of what these keys had. Fields that are not among the
        columns hold their identity everywhere.
        """
        if merge.in_place:
            runs = merge.source[merge.runs_at]
            for name, column in columns.items():
                self._columns[name][runs] = column[merge.runs_at]
            return
        keys = merge.keys
        before = int(self._length[keys].sum())
        lengths = merge.lengths
        small = lengths > self._capacity[keys]
        if small.any():
            self._move(keys[small], lengths[small])
        at = ranges(self._offset[keys], lengths)
        self._length[keys] = lengths
        self._step[at] = merge.steps
        for name, column in columns.items():
            self._columns[name][at] = column
        self._count += len(at) - before
        if self._garbage > self._end // 2 and self._end > COMPACTED_TILES_MIN:
            self._compact()

    def all_tiles(self) -> tuple[Ints, Ints, Ints]:
        """Slots and steps of all tiles in reach, by slot and step, and where they lie (for `taken`)."""
        slots = self._length.nonzero()[0]
        lengths = self._length[slots]
        at = ranges(self._offset[slots], lengths)
        steps = self._step[at]
        of_slots = np.repeat(slots, lengths)
        kept = steps >= self.floor
        if not kept.all():
            at, steps, of_slots = at[kept], steps[kept], of_slots[kept]
        return of_slots, steps, at

    def of(self, slots: Ints) -> tuple[Ints, Ints, Ints]:
        """The same of some slots, in ascending order, whether in reach or not."""
        lengths = self._length[slots]
        at = ranges(self._offset[slots], lengths)
        return np.repeat(slots, lengths), self._step[at], at

    def taken(self, field: Field, at: Ints) -> Column:
        return self._columns[field.name][at]

    def sweep(self) -> None:
        """Drops all that is out of reach."""
        slots, steps, at = self.all_tiles()
        if len(at) < self._count:
            self._replace(slots, steps, {field.name: self._columns[field.name][at] for field in self.fields})

    def empty(self, slots: Ints) -> Ints:
        """Those of the slots that hold nothing."""
        idle: Ints = slots[self._length[slots] == 0]
        return idle

    def remove_before(self, slots: Ints, steps: Ints) -> None:
        """Drops of each slot the tiles before a step. Slots ascend."""
        lengths = self._length[slots]
        held = self.of(slots)[1]
        index = np.repeat(np.arange(len(slots)), lengths)
        counts = np.bincount(index, held < steps[index], minlength=len(slots)).astype(np.int64)
        self._offset[slots] += counts
        self._length[slots] -= counts
        self._capacity[slots] -= counts
        self._count -= int(counts.sum())
        self._garbage += int(counts.sum())

    def drop(self, slots: Ints) -> None:
        """Drops all tiles of these slots."""
        self._count -= int(self._length[slots].sum())
        self._length[slots] = 0
        self._garbage += int(self._capacity[slots].sum())
        self._capacity[slots] = 0

    def load(self, slots: Ints, steps: Ints, columns: Mapping[str, Column]) -> None:
        """Takes over tiles, sorted by slot and step, in place of all that is held."""
        self._replace(slots, steps, columns)

    def _replace(self, slots: Ints, steps: Ints, columns: Mapping[str, Column]) -> None:
        self._length[:] = np.bincount(slots, minlength=len(self._length))
        self._capacity[:] = _capacities(self._length)
        ends = np.cumsum(self._capacity) + FIRST
        self._offset = ends - self._capacity
        self._end = int(ends[-1]) if len(ends) else FIRST
        self._garbage = 0
        self._count = len(slots)
        room = max(self._end + self._end // 4, ARENA_TILES_MIN)
        at = ranges(self._offset, self._length)
        self._step = np.zeros(room, np.int64)
        self._step[at] = steps
        for field in self.fields:
            column = field.blank(room)
            column[at] = columns[field.name]
            self._columns[field.name] = column

    def _compact(self) -> None:
        slots = np.repeat(np.arange(len(self._length)), self._length)
        at = ranges(self._offset, self._length)
        self._replace(slots, self._step[at], {name: column[at] for name, column in self._columns.items()})

    def _move(self, slots: Ints, lengths: Ints) -> None:
        """Gives these slots new regions at the end; their tiles are about to be written."""
        self._garbage += int(self._capacity[slots].sum())
        capacities = _capacities(lengths)
        ends = np.cumsum(capacities)
        self._offset[slots] = self._end + ends - capacities
        self._capacity[slots] = capacities
        self._end += int(ends[-1])
        if self._end > len(self._step):
            room = max(self._end, len(self._step) + len(self._step) // 2)
            self._step = _grown(self._step, room, 0)
            for field in self.fields:
                self._columns[field.name] = _grown(self._columns[field.name], room, field.identity)


def ranges(starts: Ints, lengths: Ints) -> Ints:
    """The integers of each range, one range after the other."""
    ends = lengths.cumsum()
    total = int(ends[-1]) if len(ends) else 0
    shifts: Ints = np.subtract(starts, ends)
    shifts += lengths
    return np.arange(total) + shifts.repeat(lengths)


def distinct(ascending: Ints) -> Ints:
    """Each once. `np.unique` would put them into a hash table, at some microseconds each."""
    first = np.ones(len(ascending), np.bool_)
    np.not_equal(ascending[1:], ascending[:-1], out=first[1:])
    return ascending[first]


def first_from(slots: Ints, steps: Ints, of_slots: Ints, from_steps: Ints) -> Ints:
    """Of tiles sorted by slot and step, for each slot asked for its first one with at least that step: a
    bisection of all at once.
    """
    lows = np.searchsorted(slots, of_slots)
    highs = np.searchsorted(slots, of_slots, side="right")
    while (unsure := lows < highs).any():
        middles = (lows + highs) // 2
        before = unsure & (steps[np.minimum(middles, len(steps) - 1)] < from_steps)
        lows = np.where(before, middles + 1, lows)
        highs = np.where(unsure & ~before, middles, highs)
    return lows


def _capacities(lengths: Column) -> Ints:
    """The least powers of two that hold so many; 0 for none."""
    logarithms = np.ceil(np.log2(np.maximum(lengths, 1)))
    powers: Ints = np.left_shift(np.int64(1), logarithms.astype(np.int64))
    powers[lengths == 0] = 0
    return powers


def _grown(array: Column, count: int, identity: float) -> Column:
    grown = np.full(count, identity, array.dtype)
    grown[: len(array)] = array
    return grown
