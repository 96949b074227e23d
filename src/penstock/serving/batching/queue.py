"""The queue before a runtime: bounded in rows and bytes, first come first served within equal shapes."""

from collections import deque
from typing import Generic, Protocol, TypeVar

import msgspec

__all__ = ["BatchQueue", "QueueStatistics", "QueuedRequest"]

ShapeKey = tuple[tuple[int, ...], ...]


class QueuedRequest(Protocol):
    """One caller's rows, waiting. Times are monotonic seconds."""

    rows: int
    size_bytes: int
    arrived_s: float
    deadline_s: float
    shape_key: ShapeKey
    """What has to agree for two requests to run together: the lengths of the axes that are not fixed."""

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


R = TypeVar("R", bound=QueuedRequest)


class BatchQueue(Generic[R]):
    """Requests wait here until a batch takes them. Only requests of one shape run together; the shape
    whose first request has waited longest goes first, so none starves.
    """

    def __init__(self, *, rows_max: int, bytes_max: int) -> None:
        self._rows_max = rows_max
        self._bytes_max = bytes_max
        self._by_shape: dict[ShapeKey, deque[R]] = {}
        self._requests = 0
        self._rows = 0
        self._bytes = 0
        self._refused = 0
        self._expired = 0

    def __len__(self) -> int:
        return self._requests

    @property
    def rows(self) -> int:
        return self._rows

    def offer(self, request: R) -> bool:
        """Takes the request on; False where it would pass a bound. An empty queue takes any request."""
        if self._requests and (
            self._rows + request.rows > self._rows_max or self._bytes + request.size_bytes > self._bytes_max
        ):
            self._refused += 1
            return False
        waiting = self._by_shape.get(request.shape_key)
        if waiting is None:
            waiting = self._by_shape[request.shape_key] = deque()
        waiting.append(request)
        self._requests += 1
        self._rows += request.rows
        self._bytes += request.size_bytes
        return True

    def oldest(self) -> R | None:
        """The request that has waited longest."""
        if not self._requests:
            return None
        return min((waiting[0] for waiting in self._by_shape.values()), key=_arrival)

    def take(self, now_s: float, rows_limit: int) -> tuple[list[R], list[R]]:
        """The next batch, of at most `rows_limit` rows or a single request, and the requests found expired.

        Abandoned requests are dropped in silence. Both lists may be empty.
        """
        batch: list[R] = []
        expired: list[R] = []
        while self._requests and not batch:
            first = self.oldest()
            assert first is not None
            waiting = self._by_shape[first.shape_key]
            rows = 0
            while waiting and (not batch or rows + waiting[0].rows <= rows_limit):
                request = waiting.popleft()
                self._forget(request)
                if request.abandoned:
                    continue
                if request.deadline_s <= now_s:
                    expired.append(request)
                    continue
                batch.append(request)
                rows += request.rows
            if not waiting:
                del self._by_shape[first.shape_key]
        self._expired += len(expired)
        return batch, expired

    def take_expired(self, now_s: float) -> list[R]:
        """Removes and returns every request whose deadline has passed."""
        expired: list[R] = []
        for shape_key, waiting in list(self._by_shape.items()):
            late = [request for request in waiting if request.deadline_s <= now_s]
            if not late:
                continue
            kept = deque(request for request in waiting if request.deadline_s > now_s)
            if kept:
                self._by_shape[shape_key] = kept
            else:
                del self._by_shape[shape_key]
            for request in late:
                self._forget(request)
            expired += [request for request in late if not request.abandoned]
        self._expired += len(expired)
        return expired

    def first_deadline_s(self) -> float:
        """The earliest deadline of what waits; infinite when nothing does."""
        return min(
            (request.deadline_s for waiting in self._by_shape.values() for request in waiting),
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

    def _forget(self, request: R) -> None:
        self._requests -= 1
        self._rows -= request.rows
        self._bytes -= request.size_bytes


def _arrival(request: QueuedRequest) -> float:
    return request.arrived_s
