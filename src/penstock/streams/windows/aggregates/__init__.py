"""What can be asked of a window."""

from penstock.streams.windows.aggregates.counting import Count
from penstock.streams.windows.aggregates.extremes import Max, Min
from penstock.streams.windows.aggregates.summing import Mean, Sum

__all__ = ["Count", "Max", "Mean", "Min", "Sum"]
