"""When a version is tried on its golden rows, and when it counts as sick.

Checks come at regular times with jitter, so that the versions and workers of a machine do not check at once;
they wait for a moment in which the runtime is idle, but not for ever; and they take at most a small share of
its time.
"""

from collections.abc import Callable

import msgspec

__all__ = ["HealthConfig", "HealthStatistics", "VersionHealth"]

JITTER = 0.5
"""A check comes up to a quarter of the interval earlier or later."""
PATIENCE = 0.5
"""So much of the interval a check that is due waits for an idle moment."""


class HealthConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A check about every `every_s`; `failures_max` failures in a row make a version sick.

    Checks take at most `runtime_share` of the runtime's time: slow ones come more seldom. One of which no
    piece has ended for `timeout_s` has failed.
    """

    every_s: float = 30.0
    failures_max: int = 3
    runtime_share: float = 0.01
    timeout_s: float = 60.0


class HealthStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Checks that passed and failed in all, failures in a row, and what is wrong, where it counts as sick."""

    passed: int
    failed: int
    failures: int
    sick: str | None


class VersionHealth:
    """Of one version. Times are monotonic seconds; `jitter` gives numbers from 0 to 1."""

    def __init__(self, config: HealthConfig, now_s: float, jitter: Callable[[], float]) -> None:
        self._config = config
        self._jitter = jitter
        self._next_s = now_s + self._pause_s()
        self._began_s: float | None = None
        self._overdue = False
        self._failures = 0
        self._passed = 0
        self._failed = 0
        self._fault: str | None = None

    @property
    def sick(self) -> str | None:
        """What was wrong when it was last checked, where that was so often enough in a row; None: nothing."""
        return self._fault if self._failures >= self._config.failures_max else None

    def due(self, now_s: float, *, idle: bool) -> bool:
        """Whether to begin a check now, the runtime being idle or not."""
        if self._began_s is not None:
            self._watch(now_s)
            return False
        return now_s >= self._next_s + (0.0 if idle else PATIENCE * self._config.every_s)

    def began(self, now_s: float) -> None:
        assert self._began_s is None, "one check at a time"
        self._began_s = now_s
        self._overdue = False

    def went_on(self, at_s: float) -> None:
        """A piece of the check ended then. All of them together may take longer than `timeout_s`: they wait for
        each other, and for what runs between them.
        """
        if self._began_s is not None:
            self._began_s = max(self._began_s, at_s)

    def ended(self, now_s: float, fault: str | None, spent_s: float = 0.0) -> None:
        """The check found `fault`, or (None) that all is well, and took `spent_s` of the runtime's time."""
        self._began_s = None
        self._next_s = now_s + max(self._pause_s(), spent_s / self._config.runtime_share)
        if fault is None:
            self._passed += 1
            self._failures = 0
            self._fault = None
        elif not self._overdue:
            self._fail(fault)

    def statistics(self) -> HealthStatistics:
        return HealthStatistics(
            passed=self._passed, failed=self._failed, failures=self._failures, sick=self.sick
        )

    def _watch(self, now_s: float) -> None:
        """A check that does not end is a failure, and after as long again another one: the runtime hangs."""
        assert self._began_s is not None, "a check is running"
        if now_s - self._began_s > self._config.timeout_s:
            self._fail(f"a check has stood still for {self._config.timeout_s:.0f} s and more")
            self._overdue = True
            self._began_s = now_s

    def _fail(self, fault: str) -> None:
        self._failed += 1
        self._failures += 1
        self._fault = fault

    def _pause_s(self) -> float:
        return self._config.every_s * (1 + JITTER * (self._jitter() - 0.5))
