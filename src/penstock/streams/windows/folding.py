"""Rows of a frame folded into the tiles of their keys, and what each row reads there as of its arrival."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from penstock.streams.windows.aggregates.counting import Missing
from penstock.streams.windows.aggregates.part import Columns, Part
from penstock.streams.windows.rows import Rows, Spans
from penstock.streams.windows.store import TileStore
from penstock.streams.windows.tiles import Column, Ints

__all__ = ["Arrivals", "fold", "sorted_arrivals"]

Mask = npt.NDArray[np.bool_]
Inputs = dict[str, tuple[Column, Mask | None]]


class Arrivals:
    """Events by key and arrival: `order` are their rows in the frame."""

    __slots__ = ("_back", "_changes", "columns", "order", "slots", "steps", "times_ms")

    def __init__(self, order: Ints, slots: Ints, steps: Ints, times_ms: Ints, columns: Inputs) -> None:
        self.order = order
        self.slots = slots
        self.steps = steps
        self.times_ms = times_ms
        self.columns = columns
        other = slots[1:] != slots[:-1]
        ahead = steps[1:] - steps[:-1]
        self._back: Mask = (ahead < 0) > other
        self._changes: Mask = other | (ahead != 0)

    def __len__(self) -> int:
        return len(self.order)

    def rounds(self) -> Iterator["Arrivals"]:
        """In parts, each of which goes forward by step within each key: one, if nothing came out of order.

        An event that is older than the one before it starts another round, as what came before it must not see
        it, and it must see that.
        """
        back = self._back
        if not back.any():
            yield self
            return
        turns = np.zeros(len(self), np.int64)
        np.cumsum(back, out=turns[1:])
        firsts = np.searchsorted(self.slots, self.slots)
        turns -= turns[firsts]
        by_turn = np.argsort(turns, kind="stable")
        for at in np.split(by_turn, np.cumsum(np.bincount(turns))[:-1]):
            yield self._at(at)

    def by_step(self) -> "Arrivals":
        """By key, step and arrival."""
        return self._at(np.lexsort((self.steps, self.slots))) if self._back.any() else self

    def halves(self) -> tuple["Arrivals", "Arrivals"]:
        middle = len(self) // 2
        return self._at(np.arange(middle)), self._at(np.arange(middle, len(self)))

    def runs(self) -> tuple[Rows, Ints, Ints]:
        """The rows, and the slot and step of each of their runs."""
        flags = np.empty(len(self), np.bool_)
        flags[0] = True
        flags[1:] = self._changes
        starts = flags.nonzero()[0]
        return Rows(starts, self.times_ms, self.columns), self.slots[starts], self.steps[starts]

    def _at(self, at: Ints) -> "Arrivals":
        columns = {
            name: (values[at], None if valid is None else valid[at])
            for name, (values, valid) in self.columns.items()
        }
        return Arrivals(self.order[at], self.slots[at], self.steps[at], self.times_ms[at], columns)


def sorted_arrivals(slots: Ints) -> Ints:
    """The order of rows by slot, as they came within each."""
    shift = max(len(slots) - 1, 1).bit_length()
    codes = slots << shift
    codes |= np.arange(len(slots))
    codes.sort()
    codes &= (1 << shift) - 1
    return codes


def fold(
    store: TileStore, arrivals: Arrivals, *, reading: bool, inclusive: bool
) -> Iterator[tuple[Ints, Mapping[Part, Columns]]]:
    """Folds events into the store. They go forward by step within each key.

    If `reading`, gives rows of the frame with what each part has come to for them over the store's reach, with
    the event itself if `inclusive`.
    """
    rows, slots, steps = arrivals.runs()
    merge = store.tiles.merge(slots, steps)
    if merge is None:
        for half in arrivals.halves():
            yield from fold(store, half, reading=reading, inclusive=inclusive)
        return
    spans = Spans(merge.lows(store.reach), merge.runs_at) if reading else None
    written: dict[str, Column] = {}
    read: dict[Part, Columns] = {}
    for part, fields in store.layout:
        if isinstance(part, Missing) and part.column not in store.lacking:
            continue
        tiles = tuple(store.tiles.column(each, merge) for each in fields)
        carried = tuple(column[merge.runs_at] for column in tiles)
        running = part.running(rows, carried)
        for each, column, values in zip(fields, tiles, running, strict=True):
            column[merge.runs_at] = values[rows.lasts]
            written[each.name] = column
        if spans is not None:
            older = tuple(column[rows.run_of] for column in part.fold(spans, tiles))
            youngest = running if inclusive else _before(running, carried, rows)
            read[part] = part.merge(older, youngest)
    store.put(merge, slots, steps, written)
    if reading:
        yield arrivals.order, read


def _before(running: Columns, carried: Columns, rows: Rows) -> Columns:
    """What tiles had come to before each row."""
    before = []
    for values, first in zip(running, carried, strict=True):
        shifted = np.empty_like(values)
        shifted[1:] = values[:-1]
        shifted[rows.starts] = first
        before.append(shifted)
    return tuple(before)
