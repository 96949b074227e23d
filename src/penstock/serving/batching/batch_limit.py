"""How many rows a batch may have: what is worth it by the service model, under a cap that answers to misses."""

import math

import msgspec

from penstock.serving.batching.service_model import ServiceModel
from penstock.serving.batching.turnaround import Turnaround

__all__ = ["BatchLimit", "BatchLimitStatistics"]

OBJECTIVE_SHARE = 1 / 3
"""The share of the latency objective that one run may take: who comes at its begin waits for it, then runs as
long, and the rest is for what was not foreseen.
"""
OVERHEAD_SHARE = 0.05
"""A batch grows until fixed costs are so small a share of it. Larger ones would gain next to nothing, and make
everybody wait longer: for the run before theirs, and for the rows beside theirs."""
CUT = 0.9
RAISE_ROWS = 1.0


class BatchLimitStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """`rows` now allowed, the additive-increase cap, and how many batches missed the objective."""

    rows: int
    cap_rows: float
    missed: int


class BatchLimit:
    """B* = the least n for which fixed costs are 5 % of S(n), at most the largest with S(n) ≤ a
    third of the objective, at most the cap.

    The cap catches what the service model does not see: a batch that runs longer than the whole objective cuts
    it to 0.9 times, any other adds a row (additive increase, multiplicative decrease). Time spent waiting does
    not count: smaller batches would make that worse.
    """

    def __init__(
        self, *, objective_s: float, rows_max: int, service: ServiceModel, turnaround: Turnaround
    ) -> None:
        self._objective_s = objective_s
        self._rows_max = rows_max
        self._service = service
        self._turnaround = turnaround
        self._cap_rows = float(rows_max)
        self._missed = 0

    def rows(self) -> int:
        """The most rows that the next batch may have, at least 1."""
        return max(1, int(min(self.part_rows(), self._worthwhile())))

    def part_rows(self) -> int:
        """The most rows of a single request that run together, at least 1. No fewer only to try a size."""
        fitting = self._service.rows_within(OBJECTIVE_SHARE * self._objective_s)
        worthwhile = self._worthwhile() if self._service.one_size is None else math.inf
        return max(1, int(min(fitting, worthwhile, self._cap_rows, self._rows_max)))

    def observe(self, run_s: float) -> None:
        """A batch ran for `run_s`."""
        if run_s > self._objective_s:
            self._missed += 1
            self._cap_rows = max(1.0, CUT * self._cap_rows)
        else:
            self._cap_rows = min(float(self._rows_max), self._cap_rows + RAISE_ROWS)

    def statistics(self) -> BatchLimitStatistics:
        return BatchLimitStatistics(rows=self.rows(), cap_rows=self._cap_rows, missed=self._missed)

    def _worthwhile(self) -> float:
        """The least n with fixed ≤ 5 % of fixed + a·n; infinite while rows are not known to cost anything.

        Where all batches had one size, another is tried, which shows what of it was fixed: half of that.
        """
        per_row_s = self._service.per_row_s
        if per_row_s <= 0:
            return math.inf
        if self._service.one_size is not None:
            return self._service.one_size // 2 if self._service.one_size > 1 else 2
        fixed_s = self._service.fixed_s + self._turnaround.seconds
        return math.ceil(fixed_s * (1 - OVERHEAD_SHARE) / OVERHEAD_SHARE / per_row_s)
