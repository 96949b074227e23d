"""The queue against a plain list: requests, rows and bytes are conserved whatever happens."""

from dataclasses import dataclass, field, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.serving.batching.lane import ShapeKey
from penstock.serving.batching.queue import BatchQueue

ROWS_MAX = 40
BYTES_MAX = 400
FREE_ROWS, FREE_BYTES = 2, 25
"""What each class leaves to those above: a sixteenth."""

shape_keys = st.sampled_from([(), ((1,),), ((2,),)])


@dataclass(eq=False)
class Waiting:
    rows: int
    size_bytes: int
    arrived_s: float
    deadline_s: float
    due_s: float
    shape_key: ShapeKey
    criticality: int
    abandoned: bool = field(default=False)
    queued: bool = field(default=False)
    waiting_since_s: float = 0.0
    whole: "Waiting | None" = None

    def split(self, rows: int) -> "Waiting":
        size_bytes = self.size_bytes * rows // self.rows
        part = replace(self, rows=rows, size_bytes=size_bytes, queued=False, whole=self)
        self.rows -= rows
        self.size_bytes -= size_bytes
        return part


class QueueMachine(RuleBasedStateMachine):
    """`waiting` is what should wait, in order of arrival; every request ends in exactly one way."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: BatchQueue[Waiting] = BatchQueue(rows_max=ROWS_MAX, bytes_max=BYTES_MAX)
        self.waiting: list[Waiting] = []
        self.now_s = 0.0
        self.offered = self.refused = self.ran = self.expired = self.dropped = 0

    @rule(
        rows=st.integers(1, 25) | st.integers(26, 90),
        size_bytes=st.integers(0, 250),
        life_s=st.integers(0, 8),
        due_share=st.sampled_from([0.25, 1.0]),
        shape=shape_keys,
        criticality=st.integers(1, 4),
    )
    def offer(
        self, rows: int, size_bytes: int, life_s: int, due_share: float, shape: ShapeKey, criticality: int
    ) -> None:
        self.now_s += 0.001  # no two come at once, so the order of arrival is the list's
        request = Waiting(
            rows,
            size_bytes,
            self.now_s,
            self.now_s + life_s,
            self.now_s + due_share * life_s,
            shape,
            criticality,
        )
        fits = not self.waiting or (
            sum(min(other.rows, self.rows_of(other)) for other in self.waiting) + rows <= self.rows_of(request)
            and sum(min(other.size_bytes, self.bytes_of(other)) for other in self.waiting) + size_bytes
            <= self.bytes_of(request)
        )
        self.offered += 1
        assert self.queue.offer(request) == fits
        if fits:
            self.waiting.append(request)
        else:
            self.refused += 1

    @staticmethod
    def rows_of(request: Waiting) -> int:
        return ROWS_MAX - FREE_ROWS * (request.criticality - 1)

    @staticmethod
    def bytes_of(request: Waiting) -> int:
        return BYTES_MAX - FREE_BYTES * (request.criticality - 1)

    @rule(seconds=st.integers(0, 4))
    def pass_time(self, seconds: int) -> None:
        self.now_s += seconds

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.waiting)).abandoned = True

    @rule(limit=st.integers(1, 30), service_s=st.sampled_from([0.0, 1.0]))
    def take(self, limit: int, service_s: float) -> None:
        before = list(self.waiting)
        rows_before = {id(request): request.rows for request in before}
        taken, expired = self.queue.take(self.now_s, limit, service_s)
        batch = [each.whole or each for each in taken]
        assert taken or not any(self.wanted(request, service_s) for request in before)
        assert len({request.shape_key for request in taken}) <= 1
        assert sum(request.rows for request in taken) <= limit
        assert len({*map(id, batch), *map(id, expired)}) == len(batch) + len(expired)
        for part in taken:
            if part.whole is not None:
                assert rows_before[id(part.whole)] == part.rows + part.whole.rows > limit
                assert part.whole.queued
                assert not part.queued
        for request in batch:
            assert request in before
            assert not request.abandoned
            assert request.deadline_s > self.now_s
        for request in expired:
            given_up = self.now_s >= 2 * request.due_s - request.arrived_s
            assert not request.abandoned
            assert given_up or request.deadline_s <= self.now_s + service_s
        self.check_order(batch, expired, before, service_s)
        left = {id(request) for request in self.queue_contents()}
        self.waiting = [request for request in before if id(request) in left]
        ended = [each for each in taken if each.whole is None]
        self.ran += len(ended)
        self.expired += len(expired)
        gone = len(before) - len(self.waiting) - len(ended) - len(expired)
        assert gone <= sum(request.abandoned for request in before)
        self.dropped += gone

    def wanted(self, request: Waiting, service_s: float) -> bool:
        return not request.abandoned and request.deadline_s > self.now_s + service_s

    def check_order(
        self, batch: list[Waiting], expired: list[Waiting], before: list[Waiting], service_s: float
    ) -> None:
        """Of one class and shape, nobody who could be in time is passed over for one who is due later."""
        for taken in batch:
            for passed in before:
                same = (passed.criticality, passed.shape_key) == (taken.criticality, taken.shape_key)
                if (
                    same
                    and passed not in batch
                    and self.wanted(passed, service_s)
                    and passed.rows == taken.rows
                ):
                    in_time = passed.due_s > self.now_s + service_s
                    assert not (in_time and passed.due_s < taken.due_s)

    def queue_contents(self) -> list[Waiting]:
        return [entry[2] for lane in self.queue._lanes.values() for entry in lane.entries()]

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
        first = self.queue.first()
        assert (first is None) == (not self.waiting)
        assert first is None or first in self.waiting
        for criticality in range(1, 5):
            ahead = sum(
                request.rows - self.queue._beyond.get(request, 0)
                for request in self.waiting
                if request.criticality <= criticality
            )
            assert self.queue.rows_ahead(criticality) == ahead
        assert set(self.queue._beyond) <= set(self.waiting)


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
