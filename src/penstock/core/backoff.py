"""When to start anew what keeps ending: exponential back-off."""

import msgspec

__all__ = ["RestartBackoff", "RestartStatistics"]


class RestartStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """`failures` in a row, all `starts`, and the time, in monotonic seconds, before which not to start."""

    starts: int
    failures: int
    not_before_s: float


class RestartBackoff:
    """The first restart is immediate; each failure in a row doubles the pause before the next.

    A process that stayed up for `stable_s` has proven itself: its end counts as the first failure again.
    """

    def __init__(self, *, first_s: float = 0.5, longest_s: float = 30.0, stable_s: float = 10.0) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._stable_s = stable_s
        self._starts = 0
        self._failures = 0
        self._started_s = 0.0
        self._not_before_s = float("-inf")

    def wait_s(self, now_s: float) -> float:
        """How long, in seconds, to wait before a start; 0 for now."""
        return max(0.0, self._not_before_s - now_s)

    def started(self, now_s: float) -> None:
        self._starts += 1
        self._started_s = now_s

    def failed(self, now_s: float) -> None:
        """It ended, or did not come up."""
        if now_s - self._started_s >= self._stable_s:
            self._failures = 0
        pause_s = 0.0 if self._failures == 0 else self._first_s * 2.0 ** min(self._failures - 1, 32)
        self._failures += 1
        self._not_before_s = now_s + min(pause_s, self._longest_s)

    def statistics(self) -> RestartStatistics:
        return RestartStatistics(starts=self._starts, failures=self._failures, not_before_s=self._not_before_s)
