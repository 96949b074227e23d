"""What the windows of keys come to from now on, if no more events come.

A window that ends later has fewer tiles in it. So of a key's tiles in reach of the newest one there are the
sums of all of them, of all but the oldest, and so on to none: each holds from the step on at which the tile
before it drops out of reach. They are folded as closed windows are, from the oldest tile to the youngest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import polars as pl

from penstock.streams.operator import TIME
from penstock.streams.updating import FROM, TIMELINE
from penstock.streams.windows.aggregates.part import Aggregate
from penstock.streams.windows.aggregates.sketch import Sketched
from penstock.streams.windows.answers import shown_answers, tiles_read
from penstock.streams.windows.folding import Arrivals, Read
from penstock.streams.windows.store import TileStore
from penstock.streams.windows.tiles import CODES_MAX, Ints, distinct, first_from, ranges

__all__ = ["Updates"]


class _Rows(NamedTuple):
    """Rows, timeline by timeline: each timeline's slot, the steps from which rows hold, how many rows each
    timeline has, and the time as of which each is; and what was read for the rows. Slots ascend.
    """

    slots: Ints
    begins: Ints
    lengths: Ints
    as_of_ms: Ints
    reads: Sequence[Read]


class _Held:
    """Tiles of some slots, which can be looked up."""

    def __init__(self, slots: Ints, steps: Ints) -> None:
        self._slots = slots
        self._steps = steps
        self._low = int(steps.min())
        self._span = int(steps.max()) - self._low + 2
        self._codes: Ints | None = None
        if int(slots[-1]) * self._span < CODES_MAX:
            self._codes = slots * self._span + (steps - self._low)

    def first_from(self, slots: Ints, steps: Ints) -> Ints:
        """For each slot its first tile with at least that step; the place behind its last where it has none."""
        if self._codes is None:
            return first_from(self._slots, self._steps, slots, steps)
        within = np.clip(steps - self._low, 0, self._span - 1)
        found: Ints = self._codes.searchsorted(slots * self._span + within)
        return found


class Updates:
    """Of a store in steps of `step_ms`, in which windows are `reach` steps long."""

    def __init__(
        self, store: TileStore, aggregates: Mapping[str, Aggregate | Sketched], reach: int, step_ms: int
    ) -> None:
        self._store = store
        self._aggregates = aggregates
        self._reach = reach
        self._step_ms = step_ms

    def of_keys(self, slots: Ints, as_of_ms: int) -> pl.DataFrame:
        """A timeline for each of these slots, which ascend and have tiles: as they are now."""
        held_slots, held_steps, at = self._store.tiles.of(slots)
        highs = np.searchsorted(held_slots, slots, side="right")
        newest = held_steps[highs - 1]
        lows = _Held(held_slots, held_steps).first_from(slots, newest - self._reach + 1)
        lengths = highs - lows + 1
        row_lows = ranges(lows, lengths)
        row_slots = slots.repeat(lengths)
        # Before the first row of each timeline nothing drops out.
        begins = held_steps[row_lows - 1] + self._reach
        begins[lengths.cumsum() - lengths] = newest
        windows = (begins - self._reach + 1, (newest + 1).repeat(lengths))
        read = tiles_read(self._store, row_slots, (row_lows, highs.repeat(lengths), at), windows)
        return self._frame(_Rows(slots, begins, lengths, np.full(len(slots), as_of_ms), [read]))

    def of_events(self, arrivals: Arrivals, reads: Sequence[Read]) -> pl.DataFrame:
        """A timeline for each event, as it was when the event came: up to the key's next one, or of the last
        events of their keys to the end. `reads` are what the events read, themselves with them. The events of
        a key come in the order of their times.
        """
        count, times_ms = len(arrivals), arrivals.times_ms
        onward = (times_ms[1:] >= times_ms[:-1]) | (arrivals.slots[1:] != arrivals.slots[:-1])
        assert onward.all(), "events of a key in the order of their times"
        other = np.ones(count, np.bool_)
        other[:-1] = (arrivals.slots[1:] != arrivals.slots[:-1]) | (arrivals.steps[1:] != arrivals.steps[:-1])
        last_at = np.flatnonzero(other)
        slots, steps = arrivals.slots[last_at], arrivals.steps[last_at]
        held_slots, held_steps, at = self._store.tiles.of(distinct(slots))
        held = _Held(held_slots, held_steps)
        lows = held.first_from(slots, steps - self._reach + 1)
        highs = held.first_from(slots, steps + 1)
        # Until the key's next event comes, those tiles drop out whose last step is over by then.
        following = np.minimum(last_at + 1, count - 1)
        followed = (arrivals.slots[following] == slots) & (last_at + 1 < count)
        over = np.where(followed, (times_ms[following] - 1) // self._step_ms, steps + self._reach)
        ends = np.minimum(held.first_from(slots, over - self._reach + 1), highs)
        drops = np.maximum(ends - lows, 0)
        lengths = np.ones(count, np.int64)
        lengths[last_at] += drops
        heads_at = lengths.cumsum() - lengths
        begins = np.empty(int(lengths.sum()), np.int64)
        begins[heads_at] = arrivals.steps
        shown, done = [], 0
        for read in reads:
            shown.append(replace(read, order=heads_at[done : done + len(read.order)]))
            done += len(read.order)
        assert done == count, "each event has read"
        dropped = ranges(lows, drops)
        if len(dropped):
            dropped_at = ranges(heads_at[last_at] + 1, drops)
            begins[dropped_at] = held_steps[dropped] + self._reach
            windows = (held_steps[dropped] + 1, (steps + 1).repeat(drops))
            spans = (dropped + 1, highs.repeat(drops), at)
            shown.append(
                replace(tiles_read(self._store, slots.repeat(drops), spans, windows), order=dropped_at)
            )
        return self._frame(_Rows(arrivals.slots, begins, lengths, times_ms, shown))

    def _frame(self, rows: _Rows) -> pl.DataFrame:
        other = np.zeros(len(rows.slots), np.int64)
        other[1:] = rows.slots[1:] != rows.slots[:-1]
        keys = self._store.keys.values(distinct(rows.slots))[other.cumsum().repeat(rows.lengths)]
        number = np.arange(len(rows.lengths)).repeat(rows.lengths)
        return keys.hstack(
            [
                *shown_answers(
                    self._store, self._aggregates, rows.reads, count=len(rows.begins), inclusive=True
                ),
                pl.Series(FROM, rows.begins * self._step_ms),
                pl.Series(TIMELINE, number),
                pl.Series(TIME, rows.as_of_ms.repeat(rows.lengths)),
            ]
        )
