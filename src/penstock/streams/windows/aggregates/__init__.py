"""What can be asked of a window."""

from penstock.streams.windows.aggregates.counting import Count
from penstock.streams.windows.aggregates.distinct import Distinct
from penstock.streams.windows.aggregates.extremes import Max, Min
from penstock.streams.windows.aggregates.latest import Last
from penstock.streams.windows.aggregates.moments import Variance
from penstock.streams.windows.aggregates.quantiles import Quantile
from penstock.streams.windows.aggregates.summing import Mean, Sum

__all__ = ["Count", "Distinct", "Last", "Max", "Mean", "Min", "Quantile", "Sum", "Variance"]
