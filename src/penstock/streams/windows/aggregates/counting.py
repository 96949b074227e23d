"""How many: rows of a window, or those that have a value in a column."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from penstock.streams.windows.aggregates.part import Columns, Finished, Kind, Part, Reading
from penstock.streams.windows.rows import Rows, Spans
from penstock.streams.windows.tiles import Field, Ints

__all__ = ["Count", "Counted", "Missing", "mask_of", "with_values"]


@dataclass(frozen=True)
class Counted:
    """Rows of a tile."""

    @property
    def fields(self) -> tuple[Field, ...]:
        return (Field("rows", True, 0),)

    @property
    def needs(self) -> None:
        return None

    def running(self, rows: Rows, carried: Columns) -> Columns:
        return ((carried[0] - rows.starts)[rows.run_of] + np.arange(1, rows.count + 1),)

    def fold(self, spans: Spans, tiles: Columns) -> Columns:
        return (spans.total(tiles[0]),)

    def merge(self, older: Columns, youngest: Columns) -> Columns:
        return (older[0] + youngest[0],)


@dataclass(frozen=True)
class Missing:
    """Rows of a tile without a value in the column: null, or not a number. Most columns never have one, and for
    these nothing is computed.
    """

    column: str

    @property
    def fields(self) -> tuple[Field, ...]:
        return (Field(f"missing:{self.column}", True, 0),)

    @property
    def needs(self) -> str:
        return self.column

    def running(self, rows: Rows, carried: Columns) -> Columns:
        valid = rows.column(self.column)[1]
        absent = np.zeros(rows.count, np.int64) if valid is None else (~valid).astype(np.int64)
        return (rows.running_total(absent, carried[0]),)

    def fold(self, spans: Spans, tiles: Columns) -> Columns:
        return (spans.total(tiles[0]),)

    def merge(self, older: Columns, youngest: Columns) -> Columns:
        return (older[0] + youngest[0],)


@dataclass(frozen=True)
class Count:
    """How many rows, or how many values of a column. Of none 0."""

    column: str | None = None

    def parts(self, kind: Kind | None) -> tuple[Part, ...]:  # noqa: ARG002 - as aggregates have it
        return (Counted(),) if self.column is None else (Counted(), Missing(self.column))

    def finish(self, kind: Kind | None, read: Reading) -> Finished:  # noqa: ARG002
        if self.column is not None:
            return with_values(self.column, read), None, None
        counted = read(Counted())
        assert counted is not None
        return counted[0], None, None


def with_values(column: str, read: Reading) -> Ints:
    """How many rows have a value in the column."""
    counted, missing = read(Counted()), read(Missing(column))
    assert counted is not None
    rows: Ints = counted[0]
    return rows if missing is None else rows - missing[0]


def mask_of(counts: Ints) -> npt.NDArray[np.bool_] | None:
    """Where there is something; None where there is everywhere."""
    if not len(counts) or counts.min() > 0:
        return None
    present: npt.NDArray[np.bool_] = counts > 0
    return present
