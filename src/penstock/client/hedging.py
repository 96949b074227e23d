"""When to send a call a second time, to another server, while the first is still under way.

Source: J. Dean and L. A. Barroso, "The Tail at Scale", Communications of the ACM 56(2), 2013: hedged requests
after the 95th percentile of what the answers take.
"""

import bisect
from collections import deque

import msgspec

from penstock.core.errors import InvalidInput

__all__ = ["HedgePolicy", "LatencyQuantile"]

OBSERVED_MAX = 512
OBSERVED_MIN = 20
"""Fewer answers say nothing of a tail."""


class HedgePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The second attempt is sent after `after_s` seconds; None: after the `quantile` of the latest answers."""

    after_s: float | None = None
    quantile: float = 0.95

    def __post_init__(self) -> None:
        if self.after_s is not None and not self.after_s >= 0:
            raise InvalidInput(f"a hedge after {self.after_s} seconds", where="after_s", hint="give 0 or more")
        if not 0.5 <= self.quantile < 1:
            raise InvalidInput(
                f"a hedge after the quantile {self.quantile}", where="quantile", hint="give 0.5 to below 1"
            )

    def delay_s(self, observed: "LatencyQuantile") -> float | None:
        """How long, in seconds, to wait for the first answer; None: do not hedge."""
        return observed.value_s(self.quantile) if self.after_s is None else self.after_s


class LatencyQuantile:
    """Quantiles of the latest answers' times, exact over the last `OBSERVED_MAX`."""

    def __init__(self) -> None:
        self._latest: deque[float] = deque()
        self._ordered: list[float] = []

    def add(self, latency_s: float) -> None:
        if len(self._latest) == OBSERVED_MAX:
            oldest_s = self._latest.popleft()
            del self._ordered[bisect.bisect_left(self._ordered, oldest_s)]
        self._latest.append(latency_s)
        bisect.insort(self._ordered, latency_s)

    def value_s(self, quantile: float) -> float | None:
        """The quantile, in seconds; None while too few answers were seen."""
        if len(self._ordered) < OBSERVED_MIN:
            return None
        return self._ordered[min(len(self._ordered) - 1, int(quantile * len(self._ordered)))]
