"""The queue before a runtime: bounded in rows and bytes, by criticality, then by when answers are due."""

from collections import deque
from collections.abc import Callable
from heapq import heapify
from typing import Generic, TypeVar

import msgspec

from penstock.serving.batching.lane import Lane, QueuedRequest, ShapeKey, Taking

__all__ = ["KEPT_FREE", "RELEASED_MAX", "RESERVED_SHARE", "BatchQueue", "QueueStatistics"]

CLASSES = 4
RESERVED_SHARE = 0.05
"""What each class may count on, in rows, while more important ones take all they can."""
KEPT_FREE = 16
"""One part in so many of the bounds is left free by each class for those that are more important: who can
wait long may fill the queue, and nobody is driven out of it.
"""


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
    """Requests wait here until a batch takes them. Only those of one shape run together.

    The more important goes first, and within a class what is due first; what could only be late yields to what
    can be in time. What has room left in a batch is filled from the classes below. A class that is passed over
    earns `RESERVED_SHARE` of the rows that are taken meanwhile, and goes first when that makes a batch.

    A request with more rows than a batch may have goes in parts, and whoever is more important or due sooner
    goes in between; unless `splits` is false.
    """

    def __init__(self, *, rows_max: int, bytes_max: int, splits: bool = True) -> None:
        self._splits = splits
        self._rows_of = [rows_max - max(0, each - 1) * (rows_max // KEPT_FREE) for each in range(CLASSES + 1)]
        self._bytes_of = [
            bytes_max - max(0, each - 1) * (bytes_max // KEPT_FREE) for each in range(CLASSES + 1)
        ]
        """By criticality: how much may wait in all when one of that class comes."""
        self._lanes: dict[tuple[int, ShapeKey], Lane[R]] = {}
        self._class_rows = [0] * (CLASSES + 1)
        self._class_ahead = [0] * (CLASSES + 1)
        self._part_rows = 1 << 62
        self._beyond: dict[R, int] = {}
        """The rows of a request that are more than a part."""
        self._earned_rows = [0.0] * (CLASSES + 1)
        self._requests = 0
        self._rows = 0
        self._bytes = 0
        self._excess_rows = 0
        self._excess_bytes = 0
        """Of single requests, what is more than may wait: an empty queue takes any, and must not seem full to
        who is more important for as long as that one takes."""
        self._refused = 0
        self._expired = 0
        self._released = 0
        self._numbered = 0

    def __len__(self) -> int:
        return self._requests

    @property
    def rows(self) -> int:
        return self._rows

    def full(self, criticality: int) -> bool:
        """Whether not even one row more of that class would be taken."""
        return (
            self._rows - self._excess_rows >= self._rows_of[criticality]
            or self._bytes - self._excess_bytes >= self._bytes_of[criticality]
        )

    def rows_ahead(self, criticality: int) -> int:
        """The rows that go before a request of that class which comes now, at most: of a request that runs in
        parts the first one, as whoever is due sooner goes in between.
        """
        return sum(self._class_ahead[: criticality + 1])

    def offer(self, request: R) -> bool:
        """Takes the request on; False where it would pass a bound. An empty queue takes any request."""
        if self._rows and (
            self._rows - self._excess_rows + request.rows > self._rows_of[request.criticality]
            or self._bytes - self._excess_bytes + request.size_bytes > self._bytes_of[request.criticality]
        ):
            self._refused += 1
            return False
        self._enter(request)
        return True

    def first(self) -> R | None:
        """The request whose turn it is."""
        if not self._requests:
            return None
        return self._lanes[self._choose(1 << 62)].next()

    def take(
        self,
        now_s: float,
        rows_limit: int,
        service_s: float = 0.0,
        row_s: float = 0.0,
        part_rows: int | None = None,
    ) -> tuple[list[R], list[R]]:
        """The next batch, of at most `rows_limit` rows, and the requests found expired.

        What it takes is answered after `service_s`, and `row_s` for each row that has to wait for further
        batches. A request with less time left could only be answered late: it counts as expired too, unless
        there is nobody else to run; so does what is long overdue while others can be in time. Abandoned
        requests are dropped in silence. Both lists may be empty.

        Of a request with more than `part_rows` (None: `rows_limit`) there is a part in the batch, and it waits
        on with the others. One with fewer, and any where nothing is split, runs whole: alone if need be.
        """
        rows_limit = max(1, rows_limit)
        self._part_rows = max(rows_limit, part_rows or 0)
        taking: Taking[R] = Taking(now_s, rows_limit, self._part_rows, service_s, row_s)
        before = self._class_rows.copy()
        while self._requests and not taking.batch:
            chosen, shape = self._choose(rows_limit)
            others = (each for each in range(1, CLASSES + 1) if each != chosen)
            for criticality in (chosen, *others):
                lane = self._lanes.get((criticality, shape))
                if lane is None:
                    continue
                self._fill(lane, taking)
                if not lane:
                    del self._lanes[criticality, shape]
                if taking.rows >= rows_limit:
                    break
        if not taking.batch and taking.late:
            self._try(taking)
        batch, expired = taking.batch, taking.expired + taking.late
        if self._requests:
            self._give_up(now_s, expired)
        self._expired += len(expired)
        self._share_out(batch, before)
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
            (entry[2].deadline_s for lane in self._lanes.values() for entry in lane.entries()),
            default=float("inf"),
        )

    def waiting_since_s(self) -> float:
        """Since when what waits longest does, about: of each class what is due first; infinite for nothing."""
        return min(
            (
                entries[0][2].waiting_since_s
                for lane in self._lanes.values()
                for entries in (lane.due, lane.overdue)
                if entries
            ),
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
        self._uncount(request)
        self._released += 1
        if self._released > max(RELEASED_MAX, self._requests // 2):
            self._keep(lambda request: request.queued)

    def _choose(self, rows_limit: int) -> tuple[int, ShapeKey]:
        """The lane whose turn it is."""
        if len(self._lanes) == 1:
            return next(iter(self._lanes))
        classes = {criticality for criticality, _ in self._lanes}
        owed = [
            each
            for each in classes
            if self._earned_rows[each] >= min(rows_limit, max(1, self._class_rows[each]))
        ]
        chosen = max(owed, key=lambda each: self._earned_rows[each]) if owed else min(classes)
        return min((key for key in self._lanes if key[0] == chosen), key=lambda key: self._lanes[key].turn())

    def _fill(self, lane: Lane[R], taking: Taking[R]) -> None:
        """Moves what fits from the lane into the batch."""
        while lane:
            lane.set_aside(taking)
            request = lane.next()
            room = taking.rows_limit - taking.rows
            if request.rows > room:
                splits = self._splits and request.rows > taking.part_rows
                if taking.batch and not (splits and room > 0):
                    break
                if splits and taking.takes(request):
                    taking.add(self._split(request, room if taking.batch else taking.part_rows))
                    break
            self._forget(lane.pop())
            taking.sort(request)

    def _try(self, taking: Taking[R]) -> None:
        """Runs what could only be late: the service time may be wrong, and only running shows it."""
        request = taking.late.pop()
        if self._splits and request.rows > taking.part_rows:
            self._enter(request)
            request = self._split(request, taking.part_rows)
        taking.add(request)

    def _split(self, request: R, rows: int) -> R:
        """The first rows of a request that waits on."""
        self._count(request, -1)
        part = request.split(rows)
        self._count(request, 1)
        return part

    def _give_up(self, now_s: float, expired: list[R]) -> None:
        """What is overdue yields to others; while there always are others, it would wait for ever."""
        for key, lane in list(self._lanes.items()):
            while lane.due and (request := lane.given_up(now_s)) is not None:
                self._forget(request)
                if not request.abandoned:
                    expired.append(request)
            if not lane:
                del self._lanes[key]

    def _share_out(self, batch: list[R], before: list[int]) -> None:
        """Each class that waited earns its share of the rows taken; what it got is taken off."""
        if not any(before[2:]):
            return
        taken = sum([request.rows for request in batch])
        for criticality in range(2, CLASSES + 1):
            if not self._class_rows[criticality]:
                self._earned_rows[criticality] = 0.0
            else:
                self._earned_rows[criticality] += RESERVED_SHARE * taken
        for request in batch:
            self._earned_rows[request.criticality] = max(
                0.0, self._earned_rows[request.criticality] - request.rows
            )

    def _keep(self, wanted: Callable[[R], bool]) -> list[R]:
        """Drops the entries that are not wanted, and returns those of them that still counted."""
        dropped: list[R] = []
        for key, lane in list(self._lanes.items()):
            for request in [entry[2] for entry in lane.entries() if not wanted(entry[2])]:
                if request.queued:
                    dropped.append(request)
                self._forget(request)
            lane.due = [entry for entry in lane.due if wanted(entry[2])]
            heapify(lane.due)
            lane.overdue = deque(entry for entry in lane.overdue if wanted(entry[2]))
            if not lane:
                del self._lanes[key]
        return dropped

    def _enter(self, request: R) -> None:
        key = (request.criticality, request.shape_key)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane()
        self._numbered += 1
        lane.push(self._numbered, request)
        request.queued = True
        self._requests += 1
        self._count(request, 1)

    def _forget(self, request: R) -> None:
        self._requests -= 1
        if request.queued:
            self._uncount(request)
        else:
            self._released -= 1

    def _uncount(self, request: R) -> None:
        request.queued = False
        self._count(request, -1)

    def _count(self, request: R, times: int) -> None:
        rows, size_bytes, criticality = request.rows, request.size_bytes, request.criticality
        self._rows += times * rows
        self._class_rows[criticality] += times * rows
        self._bytes += times * size_bytes
        if rows > self._rows_of[criticality]:
            self._excess_rows += times * (rows - self._rows_of[criticality])
        if size_bytes > self._bytes_of[criticality]:
            self._excess_bytes += times * (size_bytes - self._bytes_of[criticality])
        if times > 0:
            if rows > self._part_rows and self._splits:
                self._beyond[request] = rows - self._part_rows
                rows = self._part_rows
        elif self._beyond:
            rows -= self._beyond.pop(request, 0)
        self._class_ahead[criticality] += times * rows
