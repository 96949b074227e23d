"""The last value by event time; of those at one time, the one that arrived last."""

from dataclasses import dataclass

import numpy as np

from penstock.streams.windows.aggregates.part import Columns, Finished, Kind, Part, Reading
from penstock.streams.windows.rows import Rows, Spans
from penstock.streams.windows.tiles import Field

__all__ = ["Last", "Latest"]

NEVER = int(np.iinfo(np.int64).min)


@dataclass(frozen=True)
class Latest:
    """The time and the value of a tile's last value."""

    column: str
    integer: bool

    @property
    def fields(self) -> tuple[Field, ...]:
        return (
            Field(f"last-time:{self.column}", True, NEVER),
            Field(f"last:{self.column}", self.integer, 0),
        )

    @property
    def needs(self) -> str:
        return self.column

    def running(self, rows: Rows, carried: Columns) -> Columns:
        values, valid = rows.column(self.column)
        # Rows are ranked by time and arrival, from 1; the greatest rank so far in the run is the last value's.
        order = np.argsort(rows.times_ms, kind="stable")
        ranks = np.empty(rows.count, np.int64)
        ranks[order] = np.arange(1, rows.count + 1)
        if valid is not None:
            ranks[~valid] = 0
        base = rows.run_of * (rows.count + 1)
        last = np.maximum.accumulate(base + ranks) - base
        at = order[np.maximum(last, 1) - 1]
        times = np.where(last > 0, rows.times_ms[at], NEVER)
        before = carried[0][rows.run_of]
        kept = before > times
        return (
            np.where(kept, before, times),
            np.where(kept | (last == 0), carried[1][rows.run_of], values[at]),
        )

    def fold(self, spans: Spans, tiles: Columns) -> Columns:
        times, values = tiles
        filled = np.maximum.accumulate(np.where(times != NEVER, np.arange(len(times)), -1))
        last = np.append(filled, -1)[spans.highs - 1]
        found = (last >= spans.lows) & ~spans.empty
        at = np.where(found, last, len(times))
        return (np.append(times, NEVER)[at], np.append(values, values.dtype.type(0))[at])

    def merge(self, older: Columns, youngest: Columns) -> Columns:
        newer = youngest[0] != NEVER
        return (np.where(newer, youngest[0], older[0]), np.where(newer, youngest[1], older[1]))


@dataclass(frozen=True)
class Last:
    """A column's last value, of the column's type; null of none."""

    column: str

    def parts(self, kind: Kind | None) -> tuple[Part, ...]:
        assert kind is not None
        return (Latest(self.column, kind.integer),)

    def finish(self, kind: Kind | None, read: Reading) -> Finished:
        assert kind is not None
        latest = read(Latest(self.column, kind.integer))
        assert latest is not None
        present = latest[0] != NEVER
        return latest[1], None if present.all() else present, None if kind.wide else kind.dtype
