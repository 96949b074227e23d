"""What waits of one criticality and shape, by when it is due; and what a batch takes of it."""

from collections import deque
from heapq import heappop, heappush
from typing import Generic, Protocol, Self, TypeVar

__all__ = ["Lane", "QueuedRequest", "ShapeKey", "Taking"]

ShapeKey = tuple[tuple[int, ...], ...]


class QueuedRequest(Protocol):
    """One caller's rows, waiting. Times are monotonic seconds."""

    rows: int
    size_bytes: int
    arrived_s: float
    waiting_since_s: float
    """When it came, or when the part before it was answered."""
    due_s: float
    """By when it should be answered."""
    deadline_s: float
    """When nobody waits for it any more; never before it is due."""
    shape_key: ShapeKey
    """What has to agree for two requests to run together: the lengths of the axes that are not fixed."""
    criticality: int
    """1 is the most important, 4 the least."""
    queued: bool
    """Kept by the queue: whether its rows and bytes are counted there."""

    @property
    def abandoned(self) -> bool:
        """Nobody waits for it any more."""
        ...

    def split(self, rows: int) -> Self:
        """Its first `rows`, fewer than all, as a request of their own; this one keeps the others."""
        ...


R = TypeVar("R", bound=QueuedRequest)
Entry = tuple[float, int, R]


class Taking(Generic[R]):
    """A batch while it is formed, of at most `rows_limit` rows, and the requests found too late for it.

    It takes `service_s` until it is answered. A request with more than `part_rows`, which is no less, takes
    `row_s` longer for each of them.
    """

    __slots__ = ("batch", "expired", "late", "now_s", "part_rows", "row_s", "rows", "rows_limit", "service_s")

    def __init__(self, now_s: float, rows_limit: int, part_rows: int, service_s: float, row_s: float) -> None:
        self.now_s = now_s
        self.rows_limit = rows_limit
        self.part_rows = part_rows
        self.service_s = service_s
        self.row_s = row_s
        self.rows = 0
        self.batch: list[R] = []
        self.late: list[R] = []
        """They could only be answered late."""
        self.expired: list[R] = []

    def answered_s(self, request: R) -> float:
        """When it is answered if its turn is now."""
        answered_s = self.now_s + self.service_s
        if request.rows > self.part_rows:
            answered_s += self.row_s * (request.rows - self.part_rows)
        return answered_s

    def takes(self, request: R) -> bool:
        """Whether it is wanted, and can be in time."""
        return not request.abandoned and request.deadline_s > self.answered_s(request)

    def add(self, request: R) -> None:
        self.batch.append(request)
        self.rows += request.rows

    def sort(self, request: R) -> None:
        """Puts it where it belongs."""
        if request.abandoned:
            return
        if request.deadline_s <= self.now_s:
            self.expired.append(request)
        elif request.deadline_s <= self.answered_s(request):
            self.late.append(request)
        else:
            self.add(request)


class Lane(Generic[R]):
    """A heap by when requests are due, and those for which that has passed, which are still wanted."""

    __slots__ = ("due", "overdue")

    def __init__(self) -> None:
        self.due: list[Entry[R]] = []
        self.overdue: deque[Entry[R]] = deque()

    def __bool__(self) -> bool:
        return bool(self.due or self.overdue)

    def push(self, number: int, request: R) -> None:
        """`number` tells apart those that are due at the same time: the lower goes first."""
        heappush(self.due, (request.due_s, number, request))

    def next(self) -> R:
        """What goes first: what is due first of what can be in time, else the newest of what cannot."""
        return self.due[0][2] if self.due else self.overdue[-1][2]

    def pop(self) -> R:
        return heappop(self.due)[2] if self.due else self.overdue.pop()[2]

    def set_aside(self, taking: Taking[R]) -> None:
        """What is first, and could only be late, makes room for what can be in time; unless it expires."""
        due = self.due
        while due:
            due_s, _, request = due[0]
            answered_s = taking.answered_s(request)
            if due_s > answered_s or request.deadline_s <= answered_s:
                break
            self.overdue.append(heappop(due))

    def given_up(self, now_s: float) -> R | None:
        """What has waited twice as long as it should have at most, and still stands behind others."""
        if self.overdue:
            request = self.overdue[0][2]
            if now_s >= 2 * request.due_s - request.arrived_s:
                return self.overdue.popleft()[2]
        return None

    def turn(self) -> tuple[bool, float]:
        return not self.due, self.next().due_s

    def entries(self) -> list[Entry[R]]:
        return [*self.due, *self.overdue]
