"""The queue before a runtime: bounded in rows and bytes, by priority, then first come first served."""

from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import msgspec

__all__ = ["DEFAULT_PRIORITY", "RELEASED_MAX", "BatchQueue", "QueueStatistics", "QueuedRequest"]

ShapeKey = tuple[tuple[int, ...], ...]

DEFAULT_PRIORITY = 2
"""1 is the highest, 4 the lowest: the four classes of criticality."""


class QueuedRequest(Protocol):
    """One caller's rows, waiting. Times are monotonic seconds."""

    rows: int
    size_bytes: int
    arrived_s: float
    deadline_s: float
    shape_key: ShapeKey
    """What has to agree for two requests to run together: the lengths of the axes that are not fixed."""
    priority: int
    queued: bool
    """Kept by the queue: whether its rows and bytes are counted there."""

    @property
    def abandoned(self) -> bool:
        """Nobody waits for it any more."""
        ...


class QueueStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What waits now, and what was refused or expired since the start."""

    requests: int
    rows: int
    size_bytes: int
    refused: int
    expired: int


RELEASED_MAX = 1000
"""Entries of callers that are gone, at most, or as many as there are others, before they are swept out."""

R = TypeVar("R", bound=QueuedRequest)


class BatchQueue(Generic[R]):
    """Requests wait here until a batch takes them. Only requests of one shape and priority run together. The
    higher priority goes first; within one, the shape whose first request has waited longest.
    """

    def __init__(self, *, rows_max: int, bytes_max: int) -> None:
        self._rows_max = rows_max
        self._bytes_max = bytes_max
        self._lanes: dict[tuple[int, ShapeKey], deque[R]] = {}
        self._requests = 0
        self._rows = 0
        self._bytes = 0
        self._refused = 0
        self._expired = 0
        self._released = 0

    def __len__(self) -> int:
        return self._requests

    @property
    def rows(self) -> int:
        return self._rows

    def offer(self, request: R) -> bool:
        """Takes the request on; False where it would pass a bound. An empty queue takes any request."""
        if self._rows and (
            self._rows + request.rows > self._rows_max or self._bytes + request.size_bytes > self._bytes_max
        ):
            self._refused += 1
            return False
        lane = (request.priority, request.shape_key)
        waiting = self._lanes.get(lane)
        if waiting is None:
            waiting = self._lanes[lane] = deque()
        waiting.append(request)
        request.queued = True
        self._requests += 1
        self._rows += request.rows
        self._bytes += request.size_bytes
        return True

    def first(self) -> R | None:
        """The request whose turn it is."""
        if not self._requests:
            return None
        return min((waiting[0] for waiting in self._lanes.values()), key=_turn)

    def take(self, now_s: float, rows_limit: int, service_s: float = 0.0) -> tuple[list[R], list[R]]:
        """The next batch, of at most `rows_limit` rows or a single request, and the requests found expired.

        A request with less than `service_s` left could only be answered late: it counts as expired too,
        unless there is nobody else to run. Abandoned requests are dropped in silence. Both lists may be empty.
        """
        batch: list[R] = []
        late: list[R] = []
        expired: list[R] = []
        while self._requests and not batch:
            first = self.first()
            assert first is not None
            waiting = self._lanes[first.priority, first.shape_key]
            rows = 0
            while waiting and (not batch or rows + waiting[0].rows <= rows_limit):
                request = waiting.popleft()
                self._forget(request)
                if request.abandoned:
                    continue
                if request.deadline_s <= now_s:
                    expired.append(request)
                elif request.deadline_s <= now_s + service_s:
                    late.append(request)
                else:
                    batch.append(request)
                    rows += request.rows
            if not waiting:
                del self._lanes[first.priority, first.shape_key]
        if not batch and late:
            # The service time may be wrong, and only running shows it.
            batch.append(late.pop())
        expired += late
        self._expired += len(expired)
        return batch, expired

    def take_expired(self, now_s: float) -> list[R]:
        """Removes and returns every request whose deadline has passed."""
        expired = [
            request
            for request in self._keep(lambda request: request.deadline_s > now_s)
            if not request.abandoned
        ]
        self._expired += len(expired)
        return expired

    def first_deadline_s(self) -> float:
        """The earliest deadline of what waits; infinite when nothing does."""
        return min(
            (request.deadline_s for waiting in self._lanes.values() for request in waiting),
            default=float("inf"),
        )

    def statistics(self) -> QueueStatistics:
        return QueueStatistics(
            requests=self._requests,
            rows=self._rows,
            size_bytes=self._bytes,
            refused=self._refused,
            expired=self._expired,
        )

    def release(self, request: R) -> None:
        """Makes room at once for what a caller that is gone had waiting; its entry goes when it is met."""
        if not request.queued:
            return
        request.queued = False
        self._rows -= request.rows
        self._bytes -= request.size_bytes
        self._released += 1
        if self._released > max(RELEASED_MAX, self._requests // 2):
            self._keep(lambda request: request.queued)

    def _keep(self, wanted: Callable[[R], bool]) -> list[R]:
        """Drops the entries that are not wanted, and returns those of them that still counted."""
        dropped: list[R] = []
        for lane, waiting in list(self._lanes.items()):
            kept: deque[R] = deque()
            for request in waiting:
                if wanted(request):
                    kept.append(request)
                else:
                    if request.queued:
                        dropped.append(request)
                    self._forget(request)
            if kept:
                self._lanes[lane] = kept
            else:
                del self._lanes[lane]
        return dropped

    def _forget(self, request: R) -> None:
        self._requests -= 1
        if request.queued:
            request.queued = False
            self._rows -= request.rows
            self._bytes -= request.size_bytes
        else:
            self._released -= 1


def _turn(request: QueuedRequest) -> tuple[int, float]:
    return request.priority, request.arrived_s
