"""Sums and means.

Integers are summed exactly within 64 bits, beyond which they wrap around, as they do in Polars. Floats are
added in a fixed order: within a tile as they arrived, then tile after tile from the oldest on; so the last bit
does not depend on frames or restarts.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from penstock.core.errors import InvalidInput
from penstock.streams.windows.aggregates.counting import Counted, Missing, mask_of, with_values
from penstock.streams.windows.aggregates.part import Columns, Finished, Kind, Part, Reading
from penstock.streams.windows.rows import Rows, Spans
from penstock.streams.windows.tiles import Field

__all__ = ["Mean", "Sum", "Summed"]


@dataclass(frozen=True)
class Summed:
    """The sum of a tile's values in a column."""

    column: str
    integer: bool

    @property
    def fields(self) -> tuple[Field, ...]:
        return (Field(f"sum:{self.column}", self.integer, 0),)

    @property
    def needs(self) -> str:
        return self.column

    def running(self, rows: Rows, carried: Columns) -> Columns:
        values, valid = rows.column(self.column)
        if valid is not None:
            values = np.where(valid, values, values.dtype.type(0))
        if self.integer:
            return (rows.running_total(values, carried[0]),)
        return (
            rows.running_sum(values.astype(np.float64, copy=False), carried[0].astype(np.float64, copy=False)),
        )

    def fold(self, spans: Spans, tiles: Columns) -> Columns:
        if self.integer:
            return (spans.total(tiles[0]),)
        return (spans.sum(tiles[0].astype(np.float64, copy=False)),)

    def merge(self, older: Columns, youngest: Columns) -> Columns:
        return (older[0] + youngest[0],)


@dataclass(frozen=True)
class Sum:
    """The sum of a column's values; null of none."""

    column: str

    def parts(self, kind: Kind | None) -> tuple[Part, ...]:
        return (Counted(), Missing(self.column), _summed(self.column, kind, "sum"))

    def finish(self, kind: Kind | None, read: Reading) -> Finished:
        sums = read(_summed(self.column, kind, "sum"))
        assert sums is not None
        assert kind is not None
        shown = pl.Duration(kind.dtype.time_unit) if isinstance(kind.dtype, pl.Duration) else None
        return sums[0], mask_of(with_values(self.column, read)), shown


@dataclass(frozen=True)
class Mean:
    """The mean of a column's values, a float; null of none."""

    column: str

    def parts(self, kind: Kind | None) -> tuple[Part, ...]:
        return (Counted(), Missing(self.column), _summed(self.column, kind, "mean"))

    def finish(self, kind: Kind | None, read: Reading) -> Finished:
        sums = read(_summed(self.column, kind, "mean"))
        assert sums is not None
        counts = with_values(self.column, read)
        present = mask_of(counts)
        return sums[0] / (counts if present is None else np.maximum(counts, 1)), present, None


def _summed(column: str, kind: Kind | None, what: str) -> Summed:
    assert kind is not None
    if kind.dtype.is_temporal() and not (isinstance(kind.dtype, pl.Duration) and what == "sum"):
        raise InvalidInput(
            f"the {what} of the column {column!r} means nothing: it holds {kind.dtype}",
            where=column,
            hint="take numbers, or min, max or last",
        )
    return Summed(column, kind.integer)
