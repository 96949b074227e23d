"""The queue against a plain list: requests, rows and bytes are conserved whatever happens."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.serving.batching.queue import BatchQueue, ShapeKey

ROWS_MAX = 20
BYTES_MAX = 200

shape_keys = st.sampled_from([(), ((1,),), ((2,),)])


@dataclass(eq=False)
class Waiting:
    rows: int
    size_bytes: int
    arrived_s: float
    deadline_s: float
    shape_key: ShapeKey
    priority: int
    abandoned: bool = field(default=False)
    queued: bool = field(default=False)


class QueueMachine(RuleBasedStateMachine):
    """`waiting` is what should wait, in order of arrival; every request ends in exactly one way."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: BatchQueue[Waiting] = BatchQueue(rows_max=ROWS_MAX, bytes_max=BYTES_MAX)
        self.waiting: list[Waiting] = []
        self.now_s = 0.0
        self.offered = self.refused = self.ran = self.expired = self.dropped = 0

    @rule(
        rows=st.integers(1, 25),
        size_bytes=st.integers(0, 250),
        life_s=st.integers(0, 8),
        shape=shape_keys,
        priority=st.integers(1, 3),
    )
    def offer(self, rows: int, size_bytes: int, life_s: int, shape: ShapeKey, priority: int) -> None:
        self.now_s += 0.001  # no two come at once, so the order of arrival is the list's
        request = Waiting(rows, size_bytes, self.now_s, self.now_s + life_s, shape, priority)
        fits = not self.waiting or (
            sum(other.rows for other in self.waiting) + rows <= ROWS_MAX
            and sum(other.size_bytes for other in self.waiting) + size_bytes <= BYTES_MAX
        )
        self.offered += 1
        assert self.queue.offer(request) == fits
        if fits:
            self.waiting.append(request)
        else:
            self.refused += 1

    @rule(seconds=st.integers(0, 4))
    def pass_time(self, seconds: int) -> None:
        self.now_s += seconds

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.waiting)).abandoned = True

    @rule(limit=st.integers(1, 30))
    def take(self, limit: int) -> None:
        batch: list[Waiting] = []
        expired: list[Waiting] = []
        while self.waiting and not batch:
            lane = self.first().priority, self.first().shape_key
            for request in [other for other in self.waiting if (other.priority, other.shape_key) == lane]:
                if batch and sum(taken.rows for taken in batch) + request.rows > limit:
                    break
                self.waiting.remove(request)
                if request.abandoned:
                    self.dropped += 1
                elif request.deadline_s <= self.now_s:
                    expired.append(request)
                else:
                    batch.append(request)
        assert self.queue.take(self.now_s, limit) == (batch, expired)
        assert sum(request.rows for request in batch) <= limit or len(batch) == 1
        self.ran += len(batch)
        self.expired += len(expired)

    @rule()
    def take_expired(self) -> None:
        late = [request for request in self.waiting if request.deadline_s <= self.now_s]
        told = {request for request in late if not request.abandoned}
        assert set(self.queue.take_expired(self.now_s)) == told
        self.waiting = [request for request in self.waiting if request not in late]
        self.expired += len(told)
        self.dropped += len(late) - len(told)

    @invariant()
    def conserves(self) -> None:
        statistics = self.queue.statistics()
        assert statistics.requests == len(self.queue) == len(self.waiting)
        assert statistics.rows == self.queue.rows == sum(request.rows for request in self.waiting)
        assert statistics.size_bytes == sum(request.size_bytes for request in self.waiting)
        assert (statistics.refused, statistics.expired) == (self.refused, self.expired)
        assert self.offered == self.refused + self.ran + self.expired + self.dropped + len(self.waiting)
        assert self.queue.first_deadline_s() == min((r.deadline_s for r in self.waiting), default=float("inf"))
        assert self.queue.first() is (self.first() if self.waiting else None)

    def first(self) -> Waiting:
        return min(self.waiting, key=lambda request: request.priority)  # the earliest of those


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
