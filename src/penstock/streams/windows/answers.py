"""What windows answer: aggregates as columns, from what was read for rows or of tiles."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.streams.windows.aggregates.part import Aggregate, Finished
from penstock.streams.windows.aggregates.sketch import Entries, Marks, Sketch, Sketched, merged_entries
from penstock.streams.windows.folding import Read
from penstock.streams.windows.inputs import shown_column
from penstock.streams.windows.rows import Spans
from penstock.streams.windows.store import TileStore
from penstock.streams.windows.tiles import Column, Ints, distinct, first_from

__all__ = ["nothing_read", "shown_answers", "tiles_read"]


def shown_answers(
    store: TileStore,
    aggregates: Mapping[str, Aggregate | Sketched],
    reads: Sequence[Read],
    *,
    count: int,
    inclusive: bool,
) -> list[pl.Series]:
    """The aggregates of `count` rows, from what was read for some of them after others."""
    shown = []
    for name, aggregate in aggregates.items():
        values: Column | None = None
        mask: npt.NDArray[np.bool_] | None = None
        dtype: pl.DataType | None = None
        for read in reads:
            some, present, dtype = _answer(store, aggregate, read, inclusive)
            values = np.empty(count, some.dtype) if values is None else values
            values[read.order] = some
            if present is not None:
                mask = np.ones(count, np.bool_) if mask is None else mask
                mask[read.order] = present
        assert values is not None, "something was read"
        shown.append(shown_column(name, values, mask, dtype))
    return shown


def nothing_read(store: TileStore) -> Read:
    """What is read of no tiles, for no rows: the answers' types."""
    nothing = np.zeros(0, np.int64)
    spans = Spans(nothing, nothing)
    parts = {part: part.fold(spans, tuple(each.blank(0) for each in fields)) for part, fields in store.layout}
    entries = Entries(nothing, nothing, nothing)
    return Read(nothing, parts, dict.fromkeys(store.sketches, (entries, None)))


def tiles_read(store: TileStore, slots: Ints, spans: tuple[Ints, Ints, Ints], steps: tuple[Ints, Ints]) -> Read:
    """All that is in windows of slots. `spans` are lows and highs in an order of tiles, and where those lie in
    the arena; `steps` are each window's first step and the first one after it.
    """
    lows, highs, at = spans
    parts = {
        part: part.fold(Spans(lows, highs), tuple(store.tiles.taken(each, at) for each in fields))
        for part, fields in store.layout
    }
    sketches: dict[Sketch, tuple[Entries, Marks | None]] = {}
    for sketch, tiles in zip(store.sketches, store.sketch_tiles, strict=True):
        held_slots, held_steps, held_at = tiles.of(distinct(slots))
        low, high = (first_from(held_slots, held_steps, slots, step * sketch.buckets) for step in steps)
        weights = tiles.taken(sketch.field, held_at)
        sketches[sketch] = (merged_entries(low, high, held_steps, weights, sketch), None)
    return Read(np.arange(len(slots)), parts, sketches)


def _answer(store: TileStore, aggregate: Aggregate | Sketched, read: Read, inclusive: bool) -> Finished:
    if isinstance(aggregate, Sketched):
        entries, marks = read.sketches[aggregate.sketch]
        if marks is None:
            return aggregate.estimate(entries, len(read.order))
        return aggregate.estimate_rows(entries, marks, inclusive=inclusive)
    return aggregate.finish(store.inputs.kind_of(aggregate.column), read.parts.get)
