"""Time, passed in. The only module that reads the machine's clocks."""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

__all__ = ["Clock", "ManualClock", "SystemClock"]


class Clock(Protocol):
    """What decisions may know of time."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary origin; never goes backwards. For durations and deadlines."""
        ...

    def now(self) -> datetime:
        """The date and time in UTC. For records that people read; never for durations."""
        ...


class SystemClock:
    """The machine's own clocks."""

    monotonic = staticmethod(time.monotonic)

    def now(self) -> datetime:
        return datetime.now(UTC)


class ManualClock:
    """A clock that stands still until it is moved: for tests and for the simulator."""

    def __init__(self, *, start: datetime = datetime(2013, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed_s = 0.0

    def monotonic(self) -> float:
        return self._elapsed_s

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed_s)

    def advance(self, seconds: float) -> None:
        assert seconds >= 0, "a monotonic clock does not go backwards"
        self._elapsed_s += seconds
