"""Brings queue, limits and runtime together: the thin edge between the event loop and a runtime's thread.

Everything here happens on events: a request that comes, a batch that ends, a deadline that passes. The
runtime runs in a thread of its own, one batch at a time; its results come back to the event loop.
"""

import asyncio
import contextlib
import enum
import logging
import queue
import threading
from dataclasses import dataclass
from typing import Final

import msgspec

from penstock.core.clock import Clock
from penstock.core.errors import DeadlineExceeded, InvalidInput, ModelFailed, PenstockError, Refused
from penstock.core.tensors import Tensors, concatenate_rows, row_count, tensors_bytes
from penstock.models.runtimes.runtime import Runtime
from penstock.serving.batching.batch_limit import BatchLimit, BatchLimitStatistics
from penstock.serving.batching.observer import BatchRun, DispatchObserver
from penstock.serving.batching.outputs import BatchOutputs, BatchRows
from penstock.serving.batching.queue import DEFAULT_PRIORITY, BatchQueue, QueueStatistics, ShapeKey
from penstock.serving.batching.service_model import ServiceModel, ServiceStatistics
from penstock.serving.batching.wait_policy import WaitPolicy

__all__ = [
    "BatchingConfig",
    "Dispatcher",
    "DispatcherStatistics",
    "PendingAnswer",
]


log = logging.getLogger(__name__)

DEADLINE_CHECK_S = 0.02
DEADLINE_CHECK_S_PER_REQUEST = 2e-6
"""Deadlines are checked at most so often, more seldom the more requests there are to look at."""


class BatchingConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`objective_s` is the latency objective that batches are sized for.

    `run_timeout_s` is how long one run may take before a runtime that can be stopped is. It is not a
    caller's deadline: one impatient caller must not cost the others their runtime.
    """

    objective_s: float
    run_timeout_s: float = 60.0
    rows_max: int
    queue_rows_max: int
    queue_bytes_max: int


class DispatcherStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the parts, and whether a batch is running."""

    queue: QueueStatistics
    service: ServiceStatistics
    limit: BatchLimitStatistics
    running: bool


class _PendingRequest:
    """A request that waits or runs, and its caller's future."""

    __slots__ = (
        "arrived_s",
        "deadline_s",
        "future",
        "priority",
        "queued",
        "rows",
        "shape_key",
        "size_bytes",
        "tensors",
    )

    def __init__(  # noqa: PLR0913, PLR0917 - made once a request, on the hot path
        self,
        tensors: Tensors,
        rows: int,
        size_bytes: int,
        arrived_s: float,
        deadline_s: float,
        priority: int,
        shape_key: ShapeKey,
        future: "asyncio.Future[BatchRows]",
    ) -> None:
        self.tensors = tensors
        self.rows = rows
        self.size_bytes = size_bytes
        self.arrived_s = arrived_s
        self.deadline_s = deadline_s
        self.priority = priority
        self.shape_key = shape_key
        self.future = future
        self.queued = False

    @property
    def abandoned(self) -> bool:
        return self.future.done()


class PendingAnswer:
    """A caller's hold on its request."""

    __slots__ = ("_queue", "_request", "future")

    def __init__(self, request: _PendingRequest, queue: BatchQueue[_PendingRequest]) -> None:
        self.future = request.future
        self._request = request
        self._queue = queue

    def abandon(self) -> None:
        """Nobody waits for it any more: it takes no room from now on, and never runs unless it does already."""
        self.future.cancel()
        if self._request.queued:
            self._queue.release(self._request)
            self._request.tensors = {}


class _Revive(enum.Enum):
    REVIVE = "revive"


_REVIVE: Final = _Revive.REVIVE


@dataclass(slots=True)
class _FinishedBatch:
    """What a run gave: outputs for all together, or (when the run failed) each request's own outcome."""

    requests: list[_PendingRequest]
    rows: int
    started_s: float
    ended_s: float
    outputs: Tensors | None
    outcomes: list[Tensors | PenstockError] | None = None


class Dispatcher:
    """Batches the requests for one version on one runtime.

    All methods are called in the event loop. The runtime is closed with the dispatcher.
    """

    def __init__(
        self, runtime: Runtime, config: BatchingConfig, clock: Clock, observer: DispatchObserver
    ) -> None:
        self._runtime = runtime
        self._clock = clock
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._queue: BatchQueue[_PendingRequest] = BatchQueue(
            rows_max=config.queue_rows_max, bytes_max=config.queue_bytes_max
        )
        self._service = ServiceModel()
        rows_max = 1 if runtime.signature.rows_fixed is not None else config.rows_max
        self._limit = BatchLimit(objective_s=config.objective_s, rows_max=rows_max, service=self._service)
        self._run_timeout_s = config.run_timeout_s
        self._waiting = WaitPolicy(self._service)
        self._shapes_vary = any(spec.row_shape is None for spec in runtime.signature.inputs)
        self._running: list[_PendingRequest] = []
        self._wakeup: asyncio.Handle | None = None
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._deadline_timer_s = float("inf")
        self._closing = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._reviving = False
        self._batches: queue.SimpleQueue[list[_PendingRequest] | _Revive | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run_batches, name="runtime", daemon=True)
        self._thread.start()

    def submit(
        self, tensors: Tensors, arrived_s: float, deadline_s: float, priority: int = DEFAULT_PRIORITY
    ) -> "PendingAnswer":
        """What will hold the caller's rows. `tensors` are conformed inputs; times are monotonic seconds.

        Abandon it when the caller is gone. Raises `Refused` where the queue is full or the dispatcher
        closes; the future raises `DeadlineExceeded` and what the runtime raises for this caller's rows.
        """
        future: asyncio.Future[BatchRows] = self._loop.create_future()
        shape_key = _shape_key(tensors) if self._shapes_vary else ()
        size_bytes = tensors_bytes(tensors)
        request = _PendingRequest(
            tensors, row_count(tensors), size_bytes, arrived_s, deadline_s, priority, shape_key, future
        )
        self._offer(request)
        return PendingAnswer(request, self._queue)

    def statistics(self) -> DispatcherStatistics:
        return DispatcherStatistics(
            queue=self._queue.statistics(),
            service=self._service.statistics(),
            limit=self._limit.statistics(),
            running=bool(self._running),
        )

    def revive(self) -> None:
        """Has a runtime that is down started anew, in its thread; nothing where it is up, or its turn to start
        has not come.
        """
        if self._runtime.fault is not None and not self._reviving and not self._closing:
            self._reviving = True
            self._batches.put(_REVIVE)

    async def close(self) -> None:
        """Takes nothing new on, finishes what was taken on, then ends the thread and the runtime."""
        self._closing = True
        await self._idle.wait()
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
        self._batches.put(None)
        # A thread that is stuck in a run that cannot be stopped is left to die with the process.
        await asyncio.to_thread(self._thread.join, 1.0)
        if not self._thread.is_alive():
            self._runtime.close()

    def _offer(self, request: _PendingRequest) -> None:
        if self._closing:
            raise Refused("this version is being unloaded", reason="draining")
        if not self._queue.offer(request):
            raise Refused(
                f"{self._queue.rows} rows are waiting for this model already",
                reason="queue_full",
                hint="try again later, or send fewer rows at once",
            )
        self._waiting.arrived(request.arrived_s)
        self._watch_deadline(request.deadline_s)
        self._idle.clear()
        if not self._running and self._wakeup is None:
            # Not at once: the requests that the loop is about to bring in this turn come along.
            self._wakeup = self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Starts the next batch, if the runtime is idle and waiting for more does not pay."""
        self._wakeup = None
        if self._running:
            return
        now_s = self._clock.monotonic()
        first = self._queue.first()
        if first is not None and not self._closing:
            wait_s = self._waiting.wait_s(rows=self._queue.rows, waited_s=now_s - first.arrived_s)
            if wait_s > 0:
                self._wakeup = self._loop.call_later(wait_s, self._dispatch)
                return
        batch, expired = self._queue.take(now_s, self._limit.rows(), self._service.predict_s(1))
        self._expire(expired)
        if batch:
            self._running = batch
            self._batches.put(batch)
        else:
            self._idle.set()

    def _watch_deadline(self, deadline_s: float) -> None:
        """Sees to it that the timer fires by then. It may fire early, when what it was set for is gone."""
        if deadline_s >= self._deadline_timer_s:
            return
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
        self._deadline_timer_s = deadline_s
        delay_s = max(0.0, deadline_s - self._clock.monotonic())
        self._deadline_timer = self._loop.call_later(delay_s, self._deadline_passed)

    def _deadline_passed(self) -> None:
        """Fails what is late, running or not: a runtime may hang."""
        self._deadline_timer = None
        self._deadline_timer_s = float("inf")
        now_s = self._clock.monotonic()
        self._expire(self._queue.take_expired(now_s))
        self._expire([request for request in self._running if request.deadline_s <= now_s])
        pending = [request.deadline_s for request in self._running if not request.future.done()]
        soonest_s = now_s + DEADLINE_CHECK_S + DEADLINE_CHECK_S_PER_REQUEST * len(self._queue)
        self._watch_deadline(max(soonest_s, min([*pending, self._queue.first_deadline_s()])))

    def _expire(self, requests: list[_PendingRequest]) -> None:
        for request in requests:
            self._fail(request, DeadlineExceeded("the deadline passed before the model answered"))

    def _finished(self, batch: _FinishedBatch) -> None:
        """Hands each caller its rows. In the event loop."""
        self._running = []
        first_s = batch.requests[0].arrived_s
        seconds = batch.ended_s - batch.started_s
        waited_s = sum([batch.started_s - request.arrived_s for request in batch.requests])
        self._observer.batch(
            BatchRun(len(batch.requests), batch.rows, batch.started_s - first_s, waited_s, seconds)
        )
        if batch.outputs is not None:
            self._service.observe(batch.rows, seconds)
            self._limit.observe(batch.ended_s - first_s)
            outputs = BatchOutputs(batch.outputs)
            start = 0
            for request in batch.requests:
                stop = start + request.rows
                self._answer(request, BatchRows(outputs, start, stop), batch.ended_s)
                start = stop
        else:
            assert batch.outcomes is not None
            self.revive()  # a runtime that broke is not left until somebody asks it again
            for request, outcome in zip(batch.requests, batch.outcomes, strict=True):
                if isinstance(outcome, PenstockError):
                    self._fail(request, outcome)
                else:
                    rows = BatchRows(BatchOutputs(outcome), 0, request.rows)
                    self._answer(request, rows, batch.ended_s)
        self._dispatch()

    def _answer(self, request: _PendingRequest, rows: BatchRows, now_s: float) -> None:
        if not request.future.done():
            request.future.set_result(rows)
            self._observer.answered(request.rows, now_s - request.arrived_s, now_s)

    def _fail(self, request: _PendingRequest, error: PenstockError) -> None:
        if not request.future.done():
            request.future.set_exception(error)
            self._observer.failed(error, self._clock.monotonic() - request.arrived_s)

    def _run_batches(self) -> None:
        """The runtime's thread."""
        while (batch := self._batches.get()) is not None:
            if isinstance(batch, _Revive):
                self._revive_runtime()
                continue
            finished = self._run_batch(batch)
            # A loop that has closed wants no results.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._finished, finished)
            del batch, finished

    def _revive_runtime(self) -> None:
        try:
            self._runtime.revive()
        except Exception:
            # Nothing may end this thread: whoever asked later would wait for an answer until the deadline.
            log.exception("a runtime that is down does not start")
        finally:
            self._reviving = False

    def _run_batch(self, batch: list[_PendingRequest]) -> _FinishedBatch:
        started_s = self._clock.monotonic()
        rows = sum(request.rows for request in batch)
        outputs: Tensors | None = None
        outcomes: list[Tensors | PenstockError] | None = None
        try:
            outputs = self._run_rows([request.tensors for request in batch], rows)
        except InvalidInput as error:
            outcomes = self._run_apart(batch) if len(batch) > 1 else [_bare(error)]
        except BaseException as error:  # whatever a runtime raises, exits too, goes to the callers
            outcomes = [_bare(error)] * len(batch)
        return _FinishedBatch(batch, rows, started_s, self._clock.monotonic(), outputs, outcomes)

    def _run_apart(self, batch: list[_PendingRequest]) -> list[Tensors | PenstockError]:
        """Each request alone: one caller's rows that the model refuses are no other caller's concern."""
        outcomes: list[Tensors | PenstockError] = []
        for request in batch:
            try:
                outcomes.append(self._run_rows([request.tensors], request.rows))
            except BaseException as error:
                outcomes.append(_bare(error))
        return outcomes

    def _run_rows(self, parts: list[Tensors], rows: int) -> Tensors:
        outputs = self._runtime.run(concatenate_rows(parts), self._run_timeout_s)
        given = {len(array) for array in outputs.values()}
        if given != {rows}:
            raise ModelFailed(
                f"the model gave {' and '.join(map(str, sorted(given))) or 'no'} rows for {rows}",
                hint="each row of inputs has to give one row of outputs, whatever else is in the batch",
            )
        return outputs


def _shape_key(tensors: Tensors) -> ShapeKey:
    return tuple(array.shape[1:] for array in tensors.values())


def _bare(error: BaseException) -> PenstockError:
    """The error without its traceback and causes: their frames hold the whole batch, in a circle with it."""
    if not isinstance(error, PenstockError):
        log.error("a model raised", exc_info=error)
        error = ModelFailed(f"the model raised {type(error).__name__}", hint="the server's log has the details")
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
