"""The least and the greatest. Both are exact and do not depend on the order of events.

The least is kept as the greatest of the mirrored values (-x of floats, ~x of integers, which reverses their
order and overflows nowhere), so that there is one algorithm.
"""

from dataclasses import dataclass

import numpy as np

from penstock.streams.windows.aggregates.counting import Counted, Missing, mask_of, with_values
from penstock.streams.windows.aggregates.part import Columns, Finished, Kind, Part, Reading
from penstock.streams.windows.rows import Rows, Spans
from penstock.streams.windows.tiles import Column, Field

__all__ = ["Highest", "Max", "Min"]

LOWEST_INTEGER = int(np.iinfo(np.int64).min)


@dataclass(frozen=True)
class Highest:
    """The greatest of a tile's values in a column, or of their mirror images."""

    column: str
    integer: bool
    mirrored: bool

    @property
    def identity(self) -> float:
        return LOWEST_INTEGER if self.integer else -np.inf

    @property
    def fields(self) -> tuple[Field, ...]:
        name = "min" if self.mirrored else "max"
        return (Field(f"{name}:{self.column}", self.integer, self.identity),)

    @property
    def needs(self) -> str:
        return self.column

    def running(self, rows: Rows, carried: Columns) -> Columns:
        values, valid = rows.column(self.column)
        if self.mirrored:
            values = self.mirror(values)
        if valid is not None:
            values = np.where(valid, values, values.dtype.type(self.identity))
        return (rows.running_highest(values, carried[0]),)

    def fold(self, spans: Spans, tiles: Columns) -> Columns:
        return (spans.highest(tiles[0], self.identity),)

    def merge(self, older: Columns, youngest: Columns) -> Columns:
        return (np.maximum(older[0], youngest[0]),)

    def mirror(self, values: Column) -> Column:
        """Its own inverse."""
        return ~values if self.integer else -values


@dataclass(frozen=True)
class Max:
    """The greatest of a column's values, of the column's type; null of none."""

    column: str

    def parts(self, kind: Kind | None) -> tuple[Part, ...]:
        assert kind is not None
        return (Counted(), Missing(self.column), Highest(self.column, kind.integer, mirrored=False))

    def finish(self, kind: Kind | None, read: Reading) -> Finished:
        assert kind is not None
        highest = read(Highest(self.column, kind.integer, mirrored=False))
        assert highest is not None
        return highest[0], mask_of(with_values(self.column, read)), None if kind.wide else kind.dtype


@dataclass(frozen=True)
class Min:
    """The least of a column's values, of the column's type; null of none."""

    column: str

    def parts(self, kind: Kind | None) -> tuple[Part, ...]:
        assert kind is not None
        return (Counted(), Missing(self.column), Highest(self.column, kind.integer, mirrored=True))

    def finish(self, kind: Kind | None, read: Reading) -> Finished:
        assert kind is not None
        part = Highest(self.column, kind.integer, mirrored=True)
        highest = read(part)
        assert highest is not None
        # + 0.0: the mirror image of 0.0 is -0.0.
        least = part.mirror(highest[0]) if kind.integer else part.mirror(highest[0]) + 0.0
        return least, mask_of(with_values(self.column, read)), None if kind.wide else kind.dtype
