"""Rows of a frame folded into the tiles of their keys, and what each row reads there as of its arrival."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from penstock.streams.windows.aggregates.counting import Missing
from penstock.streams.windows.aggregates.part import Columns, Part
from penstock.streams.windows.aggregates.sketch import (
    WEIGHT_BITS,
    Entries,
    Marks,
    Sketch,
    entries_of,
    merged_entries,
)
from penstock.streams.windows.disorder import Folded, Past
from penstock.streams.windows.rows import Rows, Spans
from penstock.streams.windows.store import TileStore
from penstock.streams.windows.tiles import Column, Ints, Merge, distinct, first_from

__all__ = ["Arrivals", "Read", "fold", "sorted_arrivals"]

Mask = npt.NDArray[np.bool_]
Inputs = dict[str, tuple[Column, Mask | None]]


class Arrivals:
    """Events by key and arrival: `order` are their rows in the frame."""

    __slots__ = ("_back", "_changes", "columns", "disordered", "order", "slots", "steps", "times_ms")

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
        self.disordered = bool(self._back.any())
        """Whether an event is older than one of its key before it, by step."""

    def __len__(self) -> int:
        return len(self.order)

    def rounds(self) -> Iterator["Arrivals"]:
        """In parts, each of which goes forward by step within each key: one, if nothing came out of order.

        An event that is older than the one before it starts another round, as what came before it must not see
        it, and it must see that.
        """
        if not self.disordered:
            yield self
            return
        turns = np.zeros(len(self), np.int64)
        np.cumsum(self._back, out=turns[1:])
        firsts = np.searchsorted(self.slots, self.slots)
        turns -= turns[firsts]
        by_turn = np.argsort(turns, kind="stable")
        for at in np.split(by_turn, np.cumsum(np.bincount(turns))[:-1]):
            yield self._at(at)

    def by_step(self) -> tuple["Arrivals", Ints]:
        """By key, step and arrival, and each one's place among the events of its key as they came."""
        at = np.lexsort((self.steps, self.slots))
        slots = self.slots
        firsts = np.zeros(len(self), np.int64)
        firsts[1:] = np.where(slots[1:] != slots[:-1], np.arange(1, len(self)), 0)
        return self._at(at), at - np.maximum.accumulate(firsts)

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


@dataclass(frozen=True)
class Read:
    """What rows of a frame read: `order` says which, the rest is in that order."""

    order: Ints
    parts: Mapping[Part, Columns]
    sketches: Mapping[Sketch, tuple[Entries, Marks | None]]
    """Without rows, the entries are all there is."""


def sorted_arrivals(slots: Ints) -> Ints:
    """The order of rows by slot, as they came within each."""
    shift = max(len(slots) - 1, 1).bit_length()
    codes = slots << shift
    codes |= np.arange(len(slots))
    codes.sort()
    codes &= (1 << shift) - 1
    return codes


def fold(store: TileStore, arrivals: Arrivals, *, reading: bool, inclusive: bool) -> Iterator[Read]:
    """Folds events into the store.

    If `reading`, gives rows of the frame with what each part has come to for them over the store's reach, with
    the event itself if `inclusive`.
    """
    if reading and store.sketches and arrivals.disordered:
        for turn in arrivals.rounds():
            yield from fold(store, turn, reading=True, inclusive=inclusive)
        return
    events, past = arrivals, None
    if arrivals.disordered:
        events, ranks = arrivals.by_step()
    rows, slots, steps = events.runs()
    if reading and arrivals.disordered:
        past = Past(rows, ranks, slots)
    merge = store.tiles.merge(slots, steps) if past is None or past.fits else None
    if merge is None:
        for half in arrivals.halves():
            yield from fold(store, half, reading=reading, inclusive=inclusive)
        return
    folded, written = _folded(store, merge, rows)
    store.put(merge, slots, steps, written)
    sketches: dict[Sketch, tuple[Entries, Marks | None]] = {
        sketch: _fold_sketch(store, number, events, rows, reading=reading)
        for number, sketch in enumerate(store.sketches)
    }
    if not reading:
        return
    lows = merge.lows(store.reach)
    older = _older(merge, lows, rows, folded) if past is None else past.fold(merge, lows, folded)
    read = {
        part: part.merge(older[part], each.running if inclusive else _before(each, rows))
        for part, each in folded.items()
    }
    yield Read(events.order, read, sketches)


def _folded(store: TileStore, merge: Merge, rows: Rows) -> tuple[dict[Part, Folded], dict[str, Column]]:
    """What has come to tiles with the rows, by part, and by the fields' names."""
    folded: dict[Part, Folded] = {}
    written: dict[str, Column] = {}
    for part, fields in store.layout:
        if isinstance(part, Missing) and part.column not in store.lacking:
            continue
        tiles = tuple([store.tiles.column(each, merge) for each in fields])
        carried = tuple([column[merge.runs_at] for column in tiles])
        running = part.running(rows, carried)
        for each, column, values in zip(fields, tiles, running, strict=True):
            column[merge.runs_at] = values[rows.lasts]
            written[each.name] = column
        folded[part] = Folded(tiles, carried, running)
    return folded, written


def _older(merge: Merge, lows: Ints, rows: Rows, folded: Mapping[Part, Folded]) -> dict[Part, Columns]:
    """For each row what comes of the tiles before its own: the same for all rows of a run."""
    spans = Spans(lows, merge.runs_at)
    return {
        part: tuple([column[rows.run_of] for column in part.fold(spans, each.tiles)])
        for part, each in folded.items()
    }


def _fold_sketch(
    store: TileStore, number: int, arrivals: Arrivals, rows: Rows, *, reading: bool
) -> tuple[Entries, Marks]:
    """The entries of each run's window before its first row, and the rows; nothing if not reading."""
    sketch, tiles = store.sketches[number], store.sketch_tiles[number]
    packed, valid = rows.column(sketch.field.name)
    marks = Marks(
        groups=rows.run_of,
        buckets=packed >> WEIGHT_BITS,
        weights=packed & ((1 << WEIGHT_BITS) - 1),
        valid=np.ones(rows.count, np.bool_) if valid is None else valid,
    )
    at = np.flatnonzero(marks.valid)
    steps = arrivals.steps[at] * sketch.buckets + marks.buckets[at]
    by_step = np.lexsort((steps, arrivals.slots[at]))
    slots, steps, weights = arrivals.slots[at][by_step], steps[by_step], marks.weights[at][by_step]
    changes = (slots[1:] != slots[:-1]) | (steps[1:] != steps[:-1])
    starts = np.flatnonzero(np.concatenate((np.ones(min(len(slots), 1), np.bool_), changes)))
    slots, steps = slots[starts], steps[starts]
    before = steps
    if len(starts):
        before = store.put_sketch(number, slots, steps, sketch.combined.reduceat(weights, starts))
    if not reading:
        return Entries(at, at, at), marks
    run_slots, run_steps = arrivals.slots[rows.starts], arrivals.steps[rows.starts]
    held_slots, held_steps, held_at = tiles.of(distinct(run_slots))
    held = tiles.taken(sketch.field, held_at)
    earlier = held.copy()
    earlier[first_from(held_slots, held_steps, slots, steps)] = before
    lows, own, ends = (
        first_from(held_slots, held_steps, run_slots, (run_steps + offset) * sketch.buckets)
        for offset in (1 - store.reach, 0, 1)
    )
    older = merged_entries(lows, own, held_steps, held, sketch)
    youngest = merged_entries(own, ends, held_steps, earlier, sketch)
    return entries_of([older, youngest], sketch), marks


def _before(folded: Folded, rows: Rows) -> Columns:
    """What tiles had come to before each row."""
    before = []
    for values, first in zip(folded.running, folded.carried, strict=True):
        shifted = np.empty_like(values)
        shifted[1:] = values[:-1]
        shifted[rows.starts] = first
        before.append(shifted)
    return tuple(before)
