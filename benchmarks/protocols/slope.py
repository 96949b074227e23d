"""How fast memory grows: a straight line through samples, and how sure its slope is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Slope", "slope"]


@dataclass(frozen=True, kw_only=True)
class Slope:
    """Units an hour. `standard_error` is that of least squares, for samples that are independent."""

    per_hour: float
    standard_error: float
    samples: int


def slope(times_s: Sequence[float], values: Sequence[float]) -> Slope | None:
    """Least squares; None with fewer than three samples or no time between them."""
    count = len(times_s)
    assert count == len(values), "a value for each time"
    if count < 3:
        return None
    middle_s, middle = sum(times_s) / count, sum(values) / count
    spread = sum((time_s - middle_s) ** 2 for time_s in times_s)
    if spread == 0:
        return None
    per_s = sum((t - middle_s) * (v - middle) for t, v in zip(times_s, values, strict=True)) / spread
    rest = sum((v - middle - per_s * (t - middle_s)) ** 2 for t, v in zip(times_s, values, strict=True))
    error = math.sqrt(rest / (count - 2) / spread)
    return Slope(per_hour=per_s * 3600, standard_error=error * 3600, samples=count)
