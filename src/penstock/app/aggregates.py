"""What windows can know of their events, as an app file names it. Null and NaN count as no value."""

from penstock.streams.windows.aggregates.counting import Count
from penstock.streams.windows.aggregates.distinct import Distinct
from penstock.streams.windows.aggregates.extremes import Max, Min
from penstock.streams.windows.aggregates.latest import Last
from penstock.streams.windows.aggregates.moments import Variance
from penstock.streams.windows.aggregates.part import Aggregate
from penstock.streams.windows.aggregates.quantiles import Quantile
from penstock.streams.windows.aggregates.sketch import Sketched
from penstock.streams.windows.aggregates.summing import Mean, Sum

__all__ = ["count", "distinct", "last", "max", "mean", "min", "quantile", "sum", "variance"]


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


def variance(column: str, *, ddof: int = 1) -> Aggregate:
    """Of a sample; with `ddof=0` of all there are. Null where there are not more than `ddof` values."""
    return Variance(column=column, ddof=ddof)


def last(column: str) -> Aggregate:
    """The value of the event with the latest time; of several the one that came last."""
    return Last(column=column)


def distinct(column: str) -> Sketched:
    """About how many different values there are, within some 1.6 %."""
    return Distinct(column=column)


def quantile(column: str, q: float) -> Sketched:
    """The value below which the share `q` of all values is, within 1 % of itself."""
    return Quantile(column=column, q=q)
