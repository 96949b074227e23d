"""Whether an idle runtime should wait for one more request before it runs what has come.

With k rows waiting, the expected gap g to the next, and S(n) = a·n + b: waiting makes k rows wait g longer
and run in S(k+1) rather than S(k). Not waiting makes the latecomer wait for what is left of S(k), g having
passed, and then run alone in S(1). Summed over the k+1 requests, waiting is shorter where

    k·g + (k+1)·S(k+1) < k·S(k) + (S(k) - g) + S(1),   that is   (k+1)·g + a·k < b.

So it pays only where a run has a large fixed cost and requests come close together; at low load g is long
and nothing ever waits.
"""

from penstock.serving.batching.service_model import ServiceModel

__all__ = ["WaitPolicy"]

GAP_WEIGHT = 0.1
"""The weight of the newest gap in the moving average."""
COMING_MAX = 1 << 30
WAIT_S_MIN = 0.0005
"""Shorter waits than a timer can keep are not worth one."""


class WaitPolicy:
    """Keeps the mean gap between arrivals and applies the rule above."""

    def __init__(self, service: ServiceModel) -> None:
        self._service = service
        self._last_arrival_s: float | None = None
        self._gap_s = float("inf")

    def arrived(self, now_s: float) -> None:
        if self._last_arrival_s is not None:
            # What waited before a load balancer came earlier than what came without one, and is told of later.
            now_s = max(now_s, self._last_arrival_s)
            gap_s = now_s - self._last_arrival_s
            known = self._gap_s != float("inf")
            self._gap_s = self._gap_s + GAP_WEIGHT * (gap_s - self._gap_s) if known else gap_s
        self._last_arrival_s = now_s

    def coming(self, seconds: float) -> int:
        """How many requests are expected to come within a time."""
        return int(seconds / self._gap_s) if self._gap_s > 0 else COMING_MAX

    def wait_s(self, *, rows: int, waited_s: float) -> float:
        """How long to wait, in seconds, with `rows` waiting since `waited_s`; 0: run now."""
        fixed_s = self._service.fixed_s
        if fixed_s < 2 * WAIT_S_MIN:
            return 0.0  # two gaps that a timer can keep already cost more than a run
        gap_s = max(self._gap_s, waited_s, WAIT_S_MIN)
        if (rows + 1) * gap_s + self._service.per_row_s * rows >= fixed_s:
            return 0.0
        # All the waiting of a batch together never takes longer than the fixed cost that it saves.
        return gap_s if waited_s + gap_s <= fixed_s else 0.0
