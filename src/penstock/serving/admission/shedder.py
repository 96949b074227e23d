"""Which share of requests is shed, and which requests those are.

A PI controller holds the standing queue, the least time that anything waited in a window (CoDel's measure:
Nichols and Jacobson, "Controlling Queue Delay", 2012), at a target: its output r is the share to shed. Those
are the least important, and within a class always the same callers for an hour, so that some are served whole
instead of all in part (DAGOR: Zhou et al., "Overload Control for Scaling WeChat Microservices", 2018).
"""

import zlib
from bisect import bisect_left, bisect_right
from collections import deque

import msgspec

__all__ = ["TICK_S", "Shedder", "ShedderStatistics", "rank_of"]

TICK_S = 0.1
PROPORTIONAL = 0.2
INTEGRAL = 0.1
RATIO_MAX = 0.95
TARGET_S_MIN = 0.005
TARGET_SHARE = 0.2
"""Of the objective: the longest standing queue that is aimed at."""
IDLE_S = 1.0
LAG_S_MAX = 0.05
RANKS = 1000
HOUR_S = 3600.0


class ShedderStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The share that is shed, the standing queue that was last seen and the one aimed at, in seconds."""

    ratio: float
    sojourn_s: float
    target_s: float


def rank_of(criticality: int, caller: bytes, now_s: float) -> float:
    """What a request is worth: higher for the more important, within a class by caller and hour."""
    hour = int(now_s // HOUR_S)
    return 4 - criticality + zlib.crc32(caller, hour & 0xFFFFFFFF) / 2**32


class Shedder:
    """One for each version. Times are monotonic seconds."""

    def __init__(self, objective_s: float) -> None:
        self._objective_s = objective_s
        self._least_s = float("inf")
        self._sojourn_s = 0.0
        self._target_s = TARGET_S_MIN
        self._error = 0.0
        self._busy_s = float("-inf")
        self._ranks: deque[float] = deque(maxlen=RANKS)
        self._threshold = float("-inf")
        self._tie_share = 0.0
        self._tie_debt = 0.0
        self.ratio = 0.0

    @property
    def target_s(self) -> float:
        """The standing queue that is aimed at."""
        return self._target_s

    def dequeued(self, sojourn_s: float) -> None:
        """A batch was formed whose newest request had waited so long, deliberate waiting not counted."""
        self._least_s = min(self._least_s, sojourn_s)

    def seen(self, rank: float) -> None:
        """A request came, admitted or not."""
        self._ranks.append(rank)

    def tick(self, now_s: float, *, oldest_s: float, service_s: float, lag_s: float) -> None:
        """A window of `TICK_S` is over.

        `oldest_s` is how long what waits longest has waited (0: nothing waits), `service_s` the time of a full
        batch, `lag_s` how far the event loop is behind.
        """
        if oldest_s > 0.0 or lag_s > LAG_S_MAX or self._least_s not in (0.0, float("inf")):
            self._busy_s = now_s
        sojourn_s = oldest_s if self._least_s == float("inf") else self._least_s
        self._least_s = float("inf")
        self._sojourn_s = sojourn_s
        self._target_s = max(TARGET_S_MIN, min(service_s, TARGET_SHARE * self._objective_s))
        error = max(-1.0, min((sojourn_s - self._target_s) / self._target_s, 1.0))
        if lag_s > LAG_S_MAX:
            error = 1.0
        ratio = self.ratio + PROPORTIONAL * (error - self._error) + INTEGRAL * error
        self._error = error
        self.ratio = max(0.0, min(ratio, RATIO_MAX))
        if now_s - self._busy_s > IDLE_S:
            self.ratio = 0.0
        self._set_threshold()

    def sheds(self, rank: float) -> bool:
        """Whether a request of this rank is to be shed now."""
        if rank < self._threshold:
            return True
        if rank > self._threshold or not self._tie_share:
            return False
        # Of those that are worth the same, as many as are needed, evenly.
        self._tie_debt += self._tie_share
        if self._tie_debt < 1.0:
            return False
        self._tie_debt -= 1.0
        return True

    def statistics(self) -> ShedderStatistics:
        return ShedderStatistics(ratio=self.ratio, sojourn_s=self._sojourn_s, target_s=self._target_s)

    def _set_threshold(self) -> None:
        """The rank below which the wanted share of what came lately lies."""
        if not self.ratio or not self._ranks:
            self._threshold = float("-inf")
            self._tie_share = 0.0
            return
        ranks = sorted(self._ranks)
        wanted = self.ratio * len(ranks)
        self._threshold = ranks[min(int(wanted), len(ranks) - 1)]
        below = bisect_left(ranks, self._threshold)
        ties = bisect_right(ranks, self._threshold) - below
        self._tie_share = min(1.0, (wanted - below) / ties)
