"""Times that Python can hold: a column can have the year 10,000, which nothing can read out of it."""

import polars as pl

__all__ = ["has_times", "within_calendar"]

DAY_S = 86_400
FIRST_S = -62_135_596_800 + DAY_S
LAST_S = 253_402_300_799 - DAY_S
"""Of the years 1 to 9999, less a day at each end, which another zone may take."""
DURATION_S_MAX = 999_999_999 * DAY_S
_PER_SECOND = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def has_times(dtype: pl.DataType) -> bool:
    """Whether times are in it, at any depth."""
    if isinstance(dtype, pl.List | pl.Array):
        return has_times(dtype.inner)  # type: ignore[arg-type]
    if isinstance(dtype, pl.Struct):
        return any(has_times(field.dtype) for field in dtype.fields)  # type: ignore[arg-type]
    return dtype.is_temporal()


def within_calendar(series: pl.Series) -> bool:
    """Whether all of its times can be read out."""
    if series.dtype.is_nested():
        try:
            series.to_list()
        except (OverflowError, ValueError):
            return False
        return True
    first, last = (
        max(bound, -(2**63)) if bound < 0 else min(bound, 2**63 - 1) for bound in _bounds(series.dtype)
    )
    physical = series.to_physical()
    return not physical.len() or bool(physical.is_between(first, last).all())


def _bounds(dtype: pl.DataType) -> tuple[int, int]:
    """In the units of the column."""
    if isinstance(dtype, pl.Date):
        return FIRST_S // DAY_S, LAST_S // DAY_S
    if isinstance(dtype, pl.Time):
        return 0, DAY_S * _PER_SECOND["ns"] - 1
    assert isinstance(dtype, pl.Datetime | pl.Duration)
    per_second = _PER_SECOND[dtype.time_unit]
    if isinstance(dtype, pl.Duration):
        return -DURATION_S_MAX * per_second, DURATION_S_MAX * per_second
    return FIRST_S * per_second, LAST_S * per_second
