"""From the values of a column, as msgspec gives them, to a Polars series; and which of them do not fit."""

from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation
from itertools import repeat
from typing import Any

import msgspec
import polars as pl

from penstock.core.errors import shown
from penstock.streams.decoding.calendar_bounds import has_times, within_calendar
from penstock.streams.panics import panics_as_errors

__all__ = ["ColumnBuilder"]

Check = Callable[[Sequence[Any]], None]
_KEPT = (bytes, date, datetime, time, timedelta, Decimal)


class ColumnBuilder:
    """Builds one column, strictly: no value is changed to fit."""

    def __init__(self, name: str, dtype: pl.DataType) -> None:
        self.name = name
        self._dtype = dtype
        self._plain = _without_structs(dtype)
        self._check = _decimal_check(dtype)
        self._timed = has_times(dtype)
        self._inferred = dtype in (pl.Int64(), pl.Float64(), pl.String(), pl.Boolean())

    def build(self, values: Sequence[Any]) -> pl.Series:
        """Raises whatever Polars, or Python, says of a value that has no place in the column."""
        if self._inferred:
            # What Polars finds by itself is right for values of one type, and 3 µs sooner there.
            series = pl.Series(self.name, values)
            if series.dtype == self._dtype:
                return series
        given = values if self._plain else msgspec.to_builtins(values, builtin_types=_KEPT)
        if self._check is not None:
            self._check(given)
        series = pl.Series(self.name, given, dtype=self._dtype, strict=True)
        # Moments with a zone make a column of UTC, whatever was asked for.
        if series.dtype != self._dtype:
            series = series.cast(self._dtype)
        if self._timed and not within_calendar(series):
            raise ValueError("it has a year that no calendar has")
        return series

    def misfits(self, values: Sequence[Any]) -> dict[int, str]:
        """Each value that has no place, with what to say of it; found by halves, as most have one."""
        found: dict[int, str] = {}
        parts = [(0, len(values))]
        while parts:
            start, end = parts.pop()
            try:
                with panics_as_errors():
                    self.build(values[start:end])
            except Exception:
                if end - start > 1:
                    middle = (start + end) // 2
                    parts += [(start, middle), (middle, end)]
                else:
                    found[start] = f"Expected {self._dtype}, got {shown(values[start])} - at $.{self.name}"
        return found


def _without_structs(dtype: pl.DataType) -> bool:
    if isinstance(dtype, pl.List | pl.Array):
        return _without_structs(dtype.inner)  # type: ignore[arg-type]
    return not isinstance(dtype, pl.Struct)


def _decimal_check(dtype: pl.DataType) -> Check | None:
    """What refuses decimals that the column would round, or that are no numbers; None where it has none."""
    if isinstance(dtype, pl.Decimal):
        context = Context(prec=dtype.precision or 38, traps=[Inexact, InvalidOperation])
        unit = Decimal(1).scaleb(-dtype.scale)

        def check(values: Sequence[Any]) -> None:
            given = [value for value in values if value is not None]
            if not all(map(Decimal.is_finite, given)):
                raise ValueError("it is no number")
            for _ in map(context.quantize, given, repeat(unit)):
                pass

        return check
    if isinstance(dtype, pl.List | pl.Array):
        return _each_list(_decimal_check(dtype.inner))  # type: ignore[arg-type]
    if isinstance(dtype, pl.Struct):
        return _each_field({field.name: _decimal_check(field.dtype) for field in dtype.fields})  # type: ignore[arg-type]
    return None


def _each_list(inner: Check | None) -> Check | None:
    if inner is None:
        return None

    def check(lists: Sequence[Any]) -> None:
        for each in lists:
            if each is not None:
                inner(each)

    return check


def _each_field(fields: dict[str, Check | None]) -> Check | None:
    needed = {name: inner for name, inner in fields.items() if inner is not None}
    if not needed:
        return None

    def check(rows: Sequence[Any]) -> None:
        for name, inner in needed.items():
            inner([row[name] for row in rows if row is not None])

    return check
