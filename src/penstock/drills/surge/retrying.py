"""Clients that come back when they were refused or waited too long: what makes a surge feed on itself."""

import heapq

import msgspec

from penstock.core.errors import InvalidInput

__all__ = ["RetryModel", "Retrying"]

RETRIES_MAX = 16


class RetryModel(msgspec.Struct, frozen=True, kw_only=True):
    """How often, and how long after a failure. A delay of 0 is the client that knows no patience."""

    retries_max: int = 0
    delay_s: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.retries_max <= RETRIES_MAX:
            raise InvalidInput(
                f"{self.retries_max} retries are not between 0 and {RETRIES_MAX}", where="--retries"
            )
        if not 0 <= self.delay_s <= 3600:
            raise InvalidInput(f"a delay of {self.delay_s} s is not between 0 and 3,600", where="--retry-delay")


class Retrying:
    """The clients that will come back, in the order in which they will.

    A client that failed at `now_s` is due at `now_s` plus the delay, unless it was at it `retries_max` times or
    the load has ended by then: it gave up. So there are never more waiting than have failed, and every one
    leaves after a bounded number of times.
    """

    def __init__(self, model: RetryModel, *, end_s: float) -> None:
        self._model = model
        self._end_s = end_s
        self._waiting: list[tuple[float, int, int]] = []
        self.gave_up = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def failed(self, now_s: float, kind: int, attempt: int) -> bool:
        """An attempt (0 is the first) failed. Whether the client comes back."""
        due_s = now_s + self._model.delay_s
        if attempt >= self._model.retries_max or due_s >= self._end_s:
            self.gave_up += 1
            return False
        heapq.heappush(self._waiting, (due_s, attempt + 1, kind))
        return True

    @property
    def next_s(self) -> float | None:
        """When the next one is due."""
        return self._waiting[0][0] if self._waiting else None

    def due(self, now_s: float) -> list[tuple[float, int, int]]:
        """Those that come back by now: the intended time, the attempt and the kind of each, in order."""
        found = []
        while self._waiting and self._waiting[0][0] <= now_s:
            found.append(heapq.heappop(self._waiting))
        return found
