"""What windows can know of their events, as an app file names it. Null and NaN count as no value."""

from penstock.streams.windows.aggregates.counting import Count
from penstock.streams.windows.aggregates.extremes import Max, Min
from penstock.streams.windows.aggregates.part import Aggregate
from penstock.streams.windows.aggregates.summing import Mean, Sum

__all__ = ["count", "max", "mean", "min", "sum"]


def count(column: str | None = None) -> Aggregate:
    """How many events there are; of a column, how many of them have a value there."""
    return Count(column=column)


def sum(column: str) -> Aggregate:  # noqa: A001 - as it is written: ps.sum
    """Of integers exact."""
    return Sum(column=column)


def mean(column: str) -> Aggregate:
    return Mean(column=column)


def min(column: str) -> Aggregate:  # noqa: A001 - likewise
    return Min(column=column)


def max(column: str) -> Aggregate:  # noqa: A001 - likewise
    return Max(column=column)
