"""Whether a version takes a request on: decided from what is known before its inputs are."""

import enum
from typing import Protocol

import msgspec

from penstock.serving.admission.lag import LoopLag
from penstock.serving.admission.shedder import Shedder, ShedderStatistics, rank_of

__all__ = ["LAG_SHARE", "LAG_S_MAX", "LAG_S_MIN", "Admission", "AdmissionStatistics", "Backlog", "ShedReason"]


class ShedReason(enum.StrEnum):
    """Why a request is not taken on; what `x-shed-reason` says."""

    QUEUE_FULL = "queue_full"
    TOO_LATE = "too_late"
    OVERLOAD = "overload"
    LOOP_LAG = "loop_lag"
    EXPIRED = "expired"


class Backlog(Protocol):
    """What waits before a runtime."""

    def full(self, criticality: int) -> bool:
        """Whether nothing more of that class can be held."""
        ...

    def next_full(self, criticality: int) -> bool:
        """Whether there is no room left for a request of that class in the batch that comes next."""
        ...

    def answer_in_s(self, criticality: int, wait_s: float) -> float:
        """How long a request of that class takes to be answered that waits so long for others, in seconds, as
        predicted.
        """
        ...

    def wait_in_s(self, criticality: int, now_s: float) -> float:
        """How long of that it waits for others, in seconds, as predicted; 0: nothing runs."""
        ...

    def oldest_s(self, now_s: float) -> float:
        """How long what waits longest has waited, in seconds, about; 0 when nothing waits."""
        ...

    def batch_s(self) -> float:
        """The time of a full batch, in seconds."""
        ...


class AdmissionStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """How many were admitted, how many refused by reason, and the shedder's state."""

    admitted: int
    refused: dict[str, int]
    shedder: ShedderStatistics


LAG_S_MIN, LAG_S_MAX = 0.25, 2.0
LAG_SHARE = 0.25
"""Of the objective, within these bounds: with the loop further behind, nothing that is asked is taken on. Of
the most important class it is, up to the upper bound: that is little, and a refusal is the worst for it.
"""

MARGIN = 1.4
"""What a predicted time is taken times, as runs take longer at times. Not for the most important class: there a
refusal is no better than an answer that is late.
"""
SPARE_SHARE = 0.4
"""Of the objective: nobody is shed who waits less than this, whatever the controller says."""


class Admission:
    """One for each version. O(1) for each request; `tick` is called every `TICK_S`."""

    def __init__(self, backlog: Backlog, lag: LoopLag, *, objective_s: float, enabled: bool = True) -> None:
        self._backlog = backlog
        self._lag = lag
        self._enabled = enabled
        self._objective_s = objective_s
        self._spare_s = SPARE_SHARE * objective_s
        self.lag_s_max = min(max(LAG_S_MIN, LAG_SHARE * objective_s), LAG_S_MAX)
        """How far the event loop may be behind, for all but the most important class."""
        self.shedder = Shedder(objective_s)
        self._admitted = 0
        self._refused = dict.fromkeys(ShedReason, 0)

    @property
    def ratio(self) -> float:
        """The share of requests that is shed, from 0 to 0.95."""
        return self.shedder.ratio

    def refusal(
        self, now_s: float, due_s: float | None, criticality: int, caller: bytes, retry: bool = False
    ) -> ShedReason | None:
        """Why a request that is due by `due_s` is not taken on; None: it is.

        Who named no time (None) is promised the objective and can wait for longer: better late than refused
        for a run that happened to take long, while there is no queue.

        A retry counts a class less while there is shedding: what was refused must not come back as a flood.
        """
        reason = self._reason(now_s, due_s, criticality, caller, retry) if self._enabled else None
        if reason is None:
            self._admitted += 1
        else:
            self._refused[reason] += 1
        return reason

    def refusal_of_rows(
        self, now_s: float, due_s: float, criticality: int, beyond_s: float
    ) -> ShedReason | None:
        """Why a request that was taken on cannot be, now that it is known to take `beyond_s` longer than one
        that fits a batch; None: it can.
        """
        backlog = self._backlog
        wait_s = backlog.wait_in_s(criticality, now_s)
        margin = MARGIN if criticality > 1 else 1.0
        answer_s = margin * backlog.answer_in_s(criticality, wait_s) + beyond_s
        if not self._enabled or wait_s <= 0.0 or now_s + answer_s <= due_s:
            return None
        self._admitted -= 1
        self._refused[ShedReason.TOO_LATE] += 1
        return ShedReason.TOO_LATE

    def behind(self, now_s: float, criticality: int) -> bool:
        """Whether the event loop is too far behind for anything of that class to be taken on."""
        most_s = self.lag_s_max if criticality > 1 else LAG_S_MAX
        return self._enabled and self._lag.lag_s(now_s) > most_s

    def cap(self, now_s: float, criticality: int) -> ShedReason | None:
        """Why nothing at all of that class is taken on; None: what is asked may be looked at."""
        reason = None
        if self._enabled and self._backlog.full(criticality):
            reason = ShedReason.QUEUE_FULL
        elif self.behind(now_s, criticality):
            reason = ShedReason.LOOP_LAG
        if reason is not None:
            self._refused[reason] += 1
        return reason

    def tick(self, now_s: float) -> None:
        """Adjusts what is shed."""
        backlog = self._backlog
        self.shedder.tick(
            now_s,
            oldest_s=backlog.oldest_s(now_s),
            service_s=backlog.batch_s(),
            lag_s=self._lag.lag_s(now_s),
        )

    def statistics(self) -> AdmissionStatistics:
        return AdmissionStatistics(
            admitted=self._admitted,
            refused={reason.value: count for reason, count in self._refused.items() if count},
            shedder=self.shedder.statistics(),
        )

    def _reason(
        self, now_s: float, due_s: float | None, criticality: int, caller: bytes, retry: bool
    ) -> ShedReason | None:
        if due_s is not None and due_s <= now_s:
            return ShedReason.EXPIRED
        backlog = self._backlog
        if backlog.full(criticality):
            return ShedReason.QUEUE_FULL
        lag_s = self._lag.lag_s(now_s)
        if lag_s > self.lag_s_max and self.behind(now_s, criticality):
            return ShedReason.LOOP_LAG
        wait_s = backlog.wait_in_s(criticality, now_s)
        if self._sheds(now_s, wait_s, criticality, caller, retry):
            return ShedReason.OVERLOAD
        # An idle runtime takes anybody: only running shows that a prediction is wrong.
        if wait_s > 0.0 and self._is_late(now_s, lag_s, due_s, criticality, wait_s):
            return ShedReason.TOO_LATE
        return None

    def _sheds(self, now_s: float, wait_s: float, criticality: int, caller: bytes, retry: bool) -> bool:
        shedder = self.shedder
        if not shedder.ratio:
            if wait_s > self._spare_s:
                shedder.seen(rank_of(criticality, caller, now_s))
            return False
        if retry:
            criticality = min(4, criticality + 1)
        rank = rank_of(criticality, caller, now_s)
        shedder.seen(rank)
        # Never who would hardly wait: an idle runtime helps nobody, and those who are less important wait
        # behind, so that they take nothing from who is more.
        return wait_s > self._spare_s and not self._goes_next(criticality) and shedder.sheds(rank)

    def _goes_next(self, criticality: int) -> bool:
        """Whether it is of the most important class, and there is room for it in the batch that comes next.

        It waits for the running one alone then: to shed it would make room for those who stand behind it. A
        ratio that overshoots, or a run that takes long, is no queue of its own.
        """
        return criticality == 1 and not self._backlog.next_full(criticality)

    def _is_late(
        self, now_s: float, lag_s: float, due_s: float | None, criticality: int, wait_s: float
    ) -> bool:
        backlog = self._backlog
        if due_s is None:
            shedding = self.shedder.ratio and criticality > 1
            if not shedding and not backlog.next_full(criticality):
                return False
            due_s = now_s + self._objective_s
        margin = MARGIN if criticality > 1 else 1.0
        return now_s + lag_s + margin * backlog.answer_in_s(criticality, wait_s) > due_s
