"""Columns of frames as numpy arrays: what an aggregate computes with, and what it must know of the column."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.core.errors import InvalidInput
from penstock.streams.keys import check_names
from penstock.streams.windows.tiles import Column, Ints

__all__ = ["ColumnKind", "Inputs", "shown_column"]

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ColumnKind:
    """The type that a column had when it was first seen.

    Integers, booleans and times are computed with as integers of 64 bits, all other numbers as floats of 64
    bits.
    """

    dtype: pl.DataType

    @cached_property
    def integer(self) -> bool:
        dtype = self.dtype
        return (dtype.is_integer() and dtype != pl.UInt64()) or dtype == pl.Boolean() or dtype.is_temporal()

    @cached_property
    def wide(self) -> bool:
        """Whether values are computed with in the very type that the column has."""
        return self.dtype in (pl.Int64(), pl.Float64())


class Inputs:
    """The columns that a window aggregates, read from frame after frame in the same way."""

    def __init__(self, columns: Iterable[str]) -> None:
        self._names = tuple(dict.fromkeys(columns))
        self.kinds: dict[str, ColumnKind] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    def kind_of(self, name: str | None) -> ColumnKind | None:
        return None if name is None else self.kinds[name]

    def learn(self, schema: Mapping[str, pl.DataType]) -> None:
        """What the columns hold, from the first frame or from a snapshot."""
        for name in self._names:
            dtype = schema[name]
            if dtype == pl.Null():
                dtype = pl.Float64()
            if not (dtype.is_numeric() or dtype.is_temporal() or dtype == pl.Boolean()):
                raise InvalidInput(
                    f"the column {name!r} is of {dtype}, which a window cannot aggregate",
                    where=name,
                    hint="windows aggregate numbers, times and booleans: cast it, or count it with distinct",
                )
            self.kinds[name] = ColumnKind(dtype)

    def read(self, frame: pl.DataFrame, order: Ints) -> dict[str, tuple[Column, Mask | None]]:
        """Of each column the values in this order, and which of them are there, None for all. Raises
        `InvalidInput` for a column that is missing or holds another kind of values than before.
        """
        check_names(frame, self._names, "the column")
        return {name: self._column(frame.get_column(name), order) for name in self._names}

    def _column(self, series: pl.Series, order: Ints) -> tuple[Column, Mask | None]:
        kind = self.kinds[series.name]
        dtype = series.dtype
        if dtype != kind.dtype:
            series = _cast(series, kind.dtype)
        if kind.integer:
            valid = series.is_not_null().to_numpy()[order] if series.null_count() else None
            whole = series if kind.wide else series.to_physical().cast(pl.Int64)
            if valid is not None:
                whole = whole.fill_null(0)
            return whole.to_numpy()[order], valid
        # Adding 0.0 makes zeros of both signs one, so that no bit depends on which of them came first.
        wide = series if kind.wide else series.cast(pl.Float64)
        floats = wide.to_numpy()[order]
        floats += 0.0
        absent = np.isnan(floats)
        return floats, ~absent if absent.any() else None


def shown_column(
    name: str, values: Column, present: Mask | None, dtype: pl.DataType | None = None
) -> pl.Series:
    """The values as a column of this type (None: as they are), null where they are not present."""
    series = pl.Series(name, values)
    if dtype is not None:
        series = series.cast(dtype)
    if present is not None:
        series = pl.select(pl.when(pl.Series(present)).then(series).alias(name)).to_series()
    return series


def _cast(series: pl.Series, dtype: pl.DataType) -> pl.Series:
    """To the type that the column had, where no value can be lost by it."""
    source = series.dtype
    fits = source == pl.Null() or (source.is_numeric() and dtype.is_float())
    if not fits and source.is_integer() and dtype.is_integer():
        fits = True
    if fits:
        try:
            return series.cast(dtype)
        except pl.exceptions.InvalidOperationError as error:
            raise _changed(series, dtype) from error
    raise _changed(series, dtype)


def _changed(series: pl.Series, dtype: pl.DataType) -> InvalidInput:
    return InvalidInput(
        f"the column {series.name!r} is of {series.dtype}, before it was of {dtype}",
        where=series.name,
        hint="cast it to one type before the window",
    )
