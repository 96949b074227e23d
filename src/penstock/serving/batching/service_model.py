"""How long a batch takes: S(n) = a·n + b + 1.64·σ, learned from the last batches.

Least squares over a sliding window, fitted anew every ten batches. The slowest decile (a page fault, a busy
neighbour) is first clipped to the decile's edge, which a fit updated point by point could not do.
"""

import math
from collections import deque

import msgspec

__all__ = ["ServiceModel", "ServiceStatistics"]

WINDOW_BATCHES = 50
FIT_EVERY_BATCHES = 10
SIGMAS = 1.64
"""One-sided 95 % of a normal distribution."""


class ServiceStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The fit, in seconds, and the number of batches that it has seen."""

    batches: int
    per_row_s: float
    fixed_s: float
    spread_s: float


class ServiceModel:
    """Learns the service time of batches of n rows. A new version needs a new one.

    `per_row_s` is a, `fixed_s` is b, `spread_s` is σ; all in seconds and 0 while nothing is known.
    """

    def __init__(self) -> None:
        self._window: deque[tuple[int, float]] = deque(maxlen=WINDOW_BATCHES)
        self._batches = 0
        self.per_row_s = 0.0
        self.fixed_s = 0.0
        self.spread_s = 0.0
        self.one_size: int | None = None
        """The rows of all batches in the window, where they agree: what a row costs is a guess then."""

    def observe(self, rows: int, seconds: float) -> None:
        """A batch of `rows` took `seconds`."""
        self._window.append((rows, seconds))
        self._batches += 1
        # Fitting costs tens of microseconds; the first batches change the picture most.
        if self._batches <= FIT_EVERY_BATCHES or self._batches % FIT_EVERY_BATCHES == 0:
            self._fit()

    def predict_s(self, rows: int) -> float:
        """The time, in seconds, within which 95 % of batches of `rows` end; 0 while nothing is known."""
        return self.per_row_s * rows + self.fixed_s + SIGMAS * self.spread_s

    def rows_within(self, budget_s: float) -> float:
        """The largest n with S(n) ≤ `budget_s`; infinite while rows are not known to cost anything."""
        spare_s = budget_s - self.fixed_s - SIGMAS * self.spread_s
        if spare_s <= 0:
            return 1.0
        return spare_s / self.per_row_s if self.per_row_s > 0 else math.inf

    def statistics(self) -> ServiceStatistics:
        return ServiceStatistics(
            batches=self._batches,
            per_row_s=self.per_row_s,
            fixed_s=self.fixed_s,
            spread_s=self.spread_s,
        )

    def _fit(self) -> None:
        points = self._clipped()
        count = len(points)
        mean_n = sum(n for n, _ in points) / count
        mean_t = sum(t for _, t in points) / count
        variance = sum((n - mean_n) ** 2 for n, _ in points)
        self.one_size = None if variance > 0 else points[0][0]
        if variance > 0:
            slope = sum((n - mean_n) * (t - mean_t) for n, t in points) / variance
            # Neither a row nor a run can cost less than nothing: past the bounds, fit through what is left.
            slope = min(max(slope, 0.0), mean_t / mean_n)
        else:
            # One size only: take all of the time for the rows', so that larger batches are not thought free.
            slope = mean_t / mean_n
        self.per_row_s = slope
        self.fixed_s = max(mean_t - slope * mean_n, 0.0)
        residual = sum((t - slope * n - self.fixed_s) ** 2 for n, t in points)
        self.spread_s = math.sqrt(residual / count)

    def _clipped(self) -> list[tuple[int, float]]:
        """The window with the slowest decile, by its excess over the present fit, cut to the decile's edge."""
        points = list(self._window)
        slowest = len(points) // 10
        if slowest == 0:
            return points
        excess = [t - self.per_row_s * n - self.fixed_s for n, t in points]
        edge = sorted(excess)[-slowest - 1]
        return [(n, min(t, edge + self.per_row_s * n + self.fixed_s)) for n, t in points]
