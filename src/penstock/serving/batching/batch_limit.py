"""How many rows a batch may have: what the service model allows, under a cap that answers to misses."""

import msgspec

from penstock.serving.batching.service_model import ServiceModel

__all__ = ["BatchLimit", "BatchLimitStatistics"]

OBJECTIVE_SHARE = 0.5
"""The share of the latency objective that one run may take; the rest is for waiting and the network."""
CUT = 0.9
RAISE_ROWS = 1.0


class BatchLimitStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """`rows` now allowed, the additive-increase cap, and how many batches missed the objective."""

    rows: int
    cap_rows: float
    missed: int


class BatchLimit:
    """B* = the largest n with S(n) ≤ half the objective, at most the cap.

    The cap catches what the service model does not see: a batch that misses the objective cuts it to 0.9
    times, one that meets it adds a row (additive increase, multiplicative decrease).
    """

    def __init__(self, *, objective_s: float, rows_max: int, service: ServiceModel) -> None:
        self._objective_s = objective_s
        self._rows_max = rows_max
        self._service = service
        self._cap_rows = float(rows_max)
        self._missed = 0

    def rows(self) -> int:
        """The most rows that the next batch may have, at least 1."""
        fitting = self._service.rows_within(OBJECTIVE_SHARE * self._objective_s)
        return max(1, int(min(fitting, self._cap_rows, self._rows_max)))

    def observe(self, slowest_s: float) -> None:
        """A batch ended whose longest-waiting request was answered `slowest_s` seconds after it came."""
        if slowest_s > self._objective_s:
            self._missed += 1
            self._cap_rows = max(1.0, CUT * self._cap_rows)
        else:
            self._cap_rows = min(float(self._rows_max), self._cap_rows + RAISE_ROWS)

    def statistics(self) -> BatchLimitStatistics:
        return BatchLimitStatistics(rows=self.rows(), cap_rows=self._cap_rows, missed=self._missed)
