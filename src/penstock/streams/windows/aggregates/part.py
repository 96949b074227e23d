"""What an aggregate keeps of each tile, and the contract of the algorithms that keep it.

An aggregate (`ps.mean("delay")`) is made of parts (how many, how much), which aggregates of the same column
share. A part folds three ways: over the rows of a tile as they arrive (`running`), over tiles from the oldest
to the youngest (`fold`), and what came of older tiles with the youngest one (`merge`). All three work on whole
columns.
"""

from collections.abc import Callable
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.streams.windows.rows import Rows, Spans
from penstock.streams.windows.tiles import Column, Field

__all__ = ["Aggregate", "Columns", "Finished", "Kind", "Part", "Reading"]

Columns: TypeAlias = tuple[Column, ...]
Finished: TypeAlias = tuple[Column, npt.NDArray[np.bool_] | None, pl.DataType | None]
"""Values, which of them are there (None for all), and the type that they are shown as (None: as they are)."""


class Part(Protocol):
    """Equal parts are one: they are compared and hashed by what they are made of."""

    @property
    def fields(self) -> tuple[Field, ...]:
        """What a tile holds of it. Names differ between parts that are not equal."""
        ...

    @property
    def needs(self) -> str | None:
        """The column whose values it folds."""
        ...

    def running(self, rows: Rows, carried: Columns) -> Columns:
        """For each row the fields of its tile with it; `carried` are those of each run before its first row."""
        ...

    def fold(self, spans: Spans, tiles: Columns) -> Columns:
        """For each span what comes of its tiles. It may be of another form than `fields`: see `merge`."""
        ...

    def merge(self, older: Columns, youngest: Columns) -> Columns:
        """Of what `fold` gave and of a tile after those, in the form that `fold` gives."""
        ...


class Kind(Protocol):
    """What a column holds, as it was first seen."""

    @property
    def dtype(self) -> pl.DataType: ...

    @property
    def integer(self) -> bool:
        """Whether its values are computed with as integers."""
        ...

    @property
    def wide(self) -> bool:
        """Whether values are computed with in the very type that the column has."""
        ...


Reading: TypeAlias = Callable[[Part], Columns | None]
"""What a part came to; None for one that never had anything to count."""


class Aggregate(Protocol):
    """What a user asks of a window. A frozen value object."""

    @property
    def column(self) -> str | None:
        """What it is of; None for the rows themselves."""
        ...

    def parts(self, kind: Kind | None) -> tuple[Part, ...]:
        """What is kept for it, for a column of this kind. Raises `InvalidInput` for a kind that it has no
        answer for.
        """
        ...

    def finish(self, kind: Kind | None, read: Reading) -> Finished: ...
