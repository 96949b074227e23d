"""What waits and what runs, of one version: decides who goes into the next batch, and when it starts.

Plain decisions with time passed in: the dispatcher brings them to the event loop, a simulation to virtual time.
"""

from typing import Generic, NamedTuple, TypeVar

import msgspec

from penstock.serving.batching.batch_limit import BatchLimit, BatchLimitStatistics
from penstock.serving.batching.lane import QueuedRequest
from penstock.serving.batching.precedence import Precedence
from penstock.serving.batching.queue import BatchQueue, QueueStatistics
from penstock.serving.batching.service_model import ServiceModel, ServiceStatistics
from penstock.serving.batching.turnaround import Turnaround
from penstock.serving.batching.wait_policy import WaitPolicy

__all__ = ["Batcher", "BatchingConfig", "DispatcherStatistics", "Turn"]


class BatchingConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`objective_s` is the latency objective that batches are sized for.

    `run_timeout_s` is how long one run may take before a runtime that can be stopped is. It is not a
    caller's deadline: one impatient caller must not cost the others their runtime. `splits`: a request of more
    rows than a batch may have runs in parts; otherwise whole, by itself.
    """

    objective_s: float
    run_timeout_s: float = 60.0
    rows_max: int
    queue_rows_max: int
    queue_bytes_max: int
    splits: bool = True


class DispatcherStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the parts, and whether a batch is running. `turnaround_s` is what lies between two runs,
    `delivery_s` what lies between a run's end and the last of its answers.
    """

    queue: QueueStatistics
    service: ServiceStatistics
    limit: BatchLimitStatistics
    turnaround_s: float
    delivery_s: float
    running: bool


LATE_MARGIN = 1.1
"""What a run's predicted time is taken times before a request is put into it that might be late."""

R = TypeVar("R", bound=QueuedRequest)


class Turn(NamedTuple, Generic[R]):
    """What is to happen now: `batch` runs, `expired` will not, or (`wait_s` above 0) ask again after that.

    `sojourn_s` is how long the newest of the batch had waited, deliberate waiting not counted.
    """

    batch: list[R]
    expired: list[R]
    wait_s: float = 0.0
    sojourn_s: float = 0.0


class Batcher(Generic[R]):
    """Times are monotonic seconds. One batch runs at a time.

    `splits`: a request with more rows than a batch may have runs in parts.
    """

    def __init__(self, config: BatchingConfig, *, rows_max: int, splits: bool = True) -> None:
        self.queue: BatchQueue[R] = BatchQueue(
            rows_max=config.queue_rows_max, bytes_max=config.queue_bytes_max, splits=splits
        )
        self._splits = splits
        self.running: list[R] = []
        self._service = ServiceModel()
        self._turnaround = Turnaround()
        self._limit = BatchLimit(
            objective_s=config.objective_s,
            rows_max=rows_max,
            service=self._service,
            turnaround=self._turnaround,
        )
        self._waiting = WaitPolicy(self._service)
        self._precedence = Precedence()
        self._batch_rows = self._limit.rows()
        self._part_rows = self._limit.part_rows()
        self.began_s = 0.0
        """When the running batch began."""
        self._ends_s = 0.0
        """When the running batch ends, as predicted."""
        self._held_s = 0.0
        """How long the next batch was held back deliberately."""

    def full(self, criticality: int) -> bool:
        """Whether nothing more of that class can be held."""
        return self.queue.full(criticality)

    def next_full(self, criticality: int) -> bool:
        """Whether there is no room left for a request of that class in the batch that comes next."""
        # Which may have few rows only because a size is tried.
        return self.queue.rows_ahead(criticality) >= self._part_rows

    def offer(self, request: R) -> bool:
        """Takes the request on; False where the queue cannot hold it."""
        if not self.queue.offer(request):
            return False
        self._waiting.arrived(request.arrived_s)
        self._precedence.offered(request.criticality, request.rows)
        return True

    def turn(self, now_s: float, *, at_once: bool = False) -> Turn[R]:
        """The next batch, which runs from now on; `at_once`: without waiting for more. Nothing runs already."""
        assert not self.running, "one batch runs at a time"
        first = self.queue.first()
        if first is not None and not at_once:
            wait_s = self._waiting.wait_s(rows=self.queue.rows, waited_s=now_s - first.arrived_s)
            if wait_s > 0:
                self._held_s += wait_s
                return Turn([], [], wait_s)
        self._batch_rows = self._limit.rows()
        self._part_rows = self._limit.part_rows()
        self._precedence.update(now_s, self._row_s())
        # All of a batch are answered together: who could not wait for a full one is not in time.
        rows = max(1, min(self._batch_rows, self.queue.rows))
        service_s = self._beside_s() + LATE_MARGIN * self._service.predict_s(rows)
        batch, expired = self.queue.take(now_s, self._batch_rows, service_s, self._row_s(), self._part_rows)
        if not batch:
            return Turn(batch, expired)
        self.running = batch
        self.began_s = now_s
        self._ends_s = now_s + self._mean_s(sum([request.rows for request in batch]))
        newest_s = max([request.waiting_since_s for request in batch])
        sojourn_s = max(0.0, now_s - newest_s - self._held_s)
        self._held_s = 0.0
        return Turn(batch, expired, 0.0, sojourn_s)

    def ran(self, rows: int, seconds: float | None) -> None:
        """The running batch ended; `seconds` is what it took, None where that says nothing of the model."""
        self.running = []
        if seconds is not None:
            self._service.observe(rows, seconds)
            self._limit.observe(seconds)

    def followed(self, idle_s: float) -> None:
        """A batch began so long after the one before it had ended, as soon as it could."""
        self._turnaround.observe(idle_s)

    def delivered(self, seconds: float) -> None:
        """The answers of a batch were written so long after it had ended."""
        self._turnaround.delivered(seconds)

    def answer_in_s(self, criticality: int, wait_s: float) -> float:
        """How long a request of that class takes to be answered that comes now and waits so long for its batch
        to begin, in seconds, as predicted.
        """
        rows = self.queue.rows_ahead(criticality) % self._batch_rows
        # Who comes until its batch is formed comes along, and makes it longer.
        rows_then = min(self._batch_rows, rows + 1 + self._waiting.coming(wait_s))
        return wait_s + self._beside_s() + self._service.predict_s(rows_then)

    def wait_in_s(self, criticality: int, now_s: float) -> float:
        """How long until its batch begins, in seconds, as predicted: for the running one, and full ones, and
        what comes meanwhile and is more important.
        """
        runs = self.queue.rows_ahead(criticality) // self._batch_rows
        wait_s = self._busy_s(now_s) + (runs * self._mean_s(self._batch_rows) if runs else 0.0)
        return self._precedence.longer(criticality, wait_s)

    def beyond_s(self, rows: int) -> float:
        """How much longer a request of so many rows takes than one that runs whole, in seconds, as predicted;
        0 while that is a guess.
        """
        beyond = rows - self._part_rows
        return beyond * self._row_s() if beyond > 0 and self._splits else 0.0

    def oldest_s(self, now_s: float) -> float:
        """How long what waits longest has waited, in seconds, about; 0 when nothing waits."""
        return max(0.0, now_s - self.queue.waiting_since_s())

    def alone_s(self) -> float:
        """The time of a row by itself, in seconds."""
        return self._service.predict_s(1)

    def batch_s(self) -> float:
        """The time of a full batch, in seconds."""
        return self._service.predict_s(self._batch_rows)

    def statistics(self) -> DispatcherStatistics:
        return DispatcherStatistics(
            queue=self.queue.statistics(),
            service=self._service.statistics(),
            limit=self._limit.statistics(),
            turnaround_s=self._turnaround.seconds,
            delivery_s=self._turnaround.delivery_s,
            running=bool(self.running),
        )

    def _beside_s(self) -> float:
        """What a caller waits for beside the run of its batch, in seconds."""
        return self._turnaround.seconds + self._turnaround.delivery_s

    def _row_s(self) -> float:
        """The time of a row in full batches, in seconds; 0 while what a row costs is a guess."""
        if self._service.one_size not in {None, self._part_rows}:
            return 0.0
        return self._mean_s(self._part_rows) / self._part_rows

    def _mean_s(self, rows: int) -> float:
        return self._service.per_row_s * rows + self._service.fixed_s + self._turnaround.seconds

    def _busy_s(self, now_s: float) -> float:
        """For how long the running batch goes on: one that is over its time, for as long again."""
        return abs(self._ends_s - now_s) if self.running else 0.0
