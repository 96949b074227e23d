"""Brings queue, limits and runtime together: the thin edge between the event loop and a runtime's thread.

Everything here happens on events: a request that comes, a batch that ends, a deadline that passes. The
runtime runs in a thread of its own, one batch at a time; its results come back to the event loop.
"""

import asyncio
import contextlib
from concurrent.futures import Future

from penstock.core.calling import DEFAULT_CRITICALITY
from penstock.core.clock import Clock
from penstock.core.errors import DeadlineExceeded, ModelFailed, PenstockError, Refused
from penstock.core.tensors import Tensors, row_count, tensors_bytes
from penstock.models.runtimes.runtime import Examine, Runtime
from penstock.serving.batching.batch_runner import BatchRunner, FinishedBatch
from penstock.serving.batching.batcher import Batcher, BatchingConfig, DispatcherStatistics
from penstock.serving.batching.lane import ShapeKey
from penstock.serving.batching.observer import BatchRun, DispatchObserver
from penstock.serving.batching.outputs import BatchOutputs, BatchRows
from penstock.serving.batching.pending import PendingAnswer, PendingRequest

__all__ = ["Dispatcher"]

DEADLINE_CHECK_S = 0.02
DEADLINE_CHECK_S_PER_REQUEST = 2e-6
"""Deadlines are checked at most so often, more seldom the more requests there are to look at."""


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
        fixed = runtime.signature.rows_fixed is not None
        widths_vary = any(spec.row_shape is None for spec in runtime.signature.outputs)
        self.batcher: Batcher[PendingRequest] = Batcher(
            config,
            rows_max=1 if fixed else config.rows_max,
            # Outputs as wide as the widest row of a batch cannot be put together again.
            splits=config.splits and not fixed and not widths_vary,
        )
        """What waits and runs."""
        self._shapes_vary = any(spec.row_shape is None for spec in runtime.signature.inputs)
        self._wakeup: asyncio.Handle | None = None
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._deadline_timer_s = float("inf")
        self._run_s_max = config.objective_s
        """Batches are made to take a third of it: a run that is still going on then is the model's fault, not
        that of a machine with too much to do."""
        self._ended_s: float | None = None
        """When the batch ended that the running one followed at once."""
        self._closing = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._runner = BatchRunner(runtime, clock, config.run_timeout_s, self._ran)

    def submit(
        self,
        tensors: Tensors,
        arrived_s: float,
        deadline_s: float,
        due_s: float | None = None,
        criticality: int = DEFAULT_CRITICALITY,
    ) -> PendingAnswer:
        """What will hold the caller's rows. `tensors` are conformed inputs; times are monotonic seconds.

        It is due by `due_s` (None: its deadline): sooner goes first, and too late goes last.

        Abandon it when the caller is gone. Raises `Refused` where the queue is full or the dispatcher
        closes; the future raises `DeadlineExceeded` and what the runtime raises for this caller's rows.
        """
        future: asyncio.Future[BatchRows] = self._loop.create_future()
        shape_key = _shape_key(tensors) if self._shapes_vary else ()
        size_bytes = tensors_bytes(tensors)
        due_s = deadline_s if due_s is None else min(due_s, deadline_s)
        request = PendingRequest(
            tensors,
            row_count(tensors),
            size_bytes,
            arrived_s,
            deadline_s,
            due_s,
            criticality,
            shape_key,
            future,
        )
        self._offer(request)
        return PendingAnswer(request, self.batcher.queue)

    def statistics(self) -> DispatcherStatistics:
        return self.batcher.statistics()

    def revive(self) -> None:
        """Has a runtime that is down started anew, in its thread; nothing where it is up, or its turn to start
        has not come.
        """
        if self._runtime.fault is not None and not self._closing:
            self._runner.revive()

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return not self.batcher.running and not len(self.batcher.queue)

    def examine(self, work: Examine) -> "Future[float]":
        """Has `work` done with the runtime, between batches. The future has what it raised, or how long it
        took, in seconds.
        """
        return self._runner.examine(work)

    async def close(self) -> None:
        """Takes nothing new on, finishes what was taken on, then ends the thread and the runtime."""
        self._closing = True
        await self._idle.wait()
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
        await self._runner.close()

    def _offer(self, request: PendingRequest) -> None:
        if self._closing:
            raise Refused("this version is being unloaded", reason="draining")
        if not self.batcher.offer(request):
            raise Refused(
                f"{self.batcher.queue.rows} rows are waiting for this model already",
                reason="queue_full",
                hint="try again later, or send fewer rows at once",
            )
        self._watch_deadline(request.deadline_s)
        self._idle.clear()
        if not self.batcher.running and self._wakeup is None:
            # Not at once: the requests that the loop is about to bring in this turn come along.
            self._wakeup = self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Starts the next batch, if the runtime is idle and waiting for more does not pay."""
        self._wakeup = None
        if self.batcher.running:
            return
        turn = self.batcher.turn(self._clock.monotonic(), at_once=self._closing)
        if turn.wait_s > 0:
            self._wakeup = self._loop.call_later(turn.wait_s, self._dispatch)
            return
        self._expire(turn.expired)
        if turn.batch:
            self._observer.taken(turn.sojourn_s)
            self._runner.put(turn.batch)
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
        overran = now_s - self.batcher.began_s > self._run_s_max
        late = [each for each in self.batcher.running if each.deadline_s <= now_s]
        self._expire(late, waited=False, overran=overran)
        self._expire(self.batcher.queue.take_expired(now_s))
        pending = [request.deadline_s for request in self.batcher.running if not request.future.done()]
        soonest_s = now_s + DEADLINE_CHECK_S + DEADLINE_CHECK_S_PER_REQUEST * len(self.batcher.queue)
        self._watch_deadline(max(soonest_s, min([*pending, self.batcher.queue.first_deadline_s()])))

    def _expire(self, requests: list[PendingRequest], *, waited: bool = True, overran: bool = False) -> None:
        now_s = self._clock.monotonic()
        for request in requests:
            if request.deadline_s <= now_s or request.due_s >= request.deadline_s:
                message = "the deadline passed before the model answered"
                self._fail(request, DeadlineExceeded(message, overran=overran, waited=waited))
            else:
                self._fail(
                    request,
                    Refused("it could not be answered in time", reason="too_late", hint="try again later"),
                )

    def _ran(self, batch: FinishedBatch) -> None:
        """In the runner's thread. A loop that has closed wants no results."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._finished, batch)

    def _finished(self, batch: FinishedBatch) -> None:
        """Hands each caller its rows. In the event loop."""
        run = _observed(batch)
        self._observer.batch(run)
        if self._ended_s is not None:
            self.batcher.followed(batch.started_s - self._ended_s)
        self.batcher.ran(batch.rows, run.seconds if batch.outputs is not None else None)
        if batch.outputs is not None:
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
        self._ended_s = batch.ended_s if self.batcher.running else None
        # The loop comes to this when it has come to all who wait for these answers.
        self._loop.call_soon(self._delivered, batch.ended_s)

    def _delivered(self, ended_s: float) -> None:
        self.batcher.delivered(self._clock.monotonic() - ended_s)

    def _answer(self, request: PendingRequest, rows: BatchRows, now_s: float) -> None:
        if not request.future.done():
            try:
                answer = request.take(rows, now_s)
            except ValueError as error:  # outputs that were to have one shape, and have not
                self._fail(request, ModelFailed(f"the parts of its answer do not fit together: {error}"))
                return
            if answer is not None:
                request.future.set_result(answer)
                self._observer.answered(answer.stop - answer.start, now_s - request.arrived_s, now_s)

    def _fail(self, request: PendingRequest, error: PenstockError) -> None:
        if not request.future.done():
            request.future.set_exception(error)
            self._observer.failed(error, self._clock.monotonic() - request.arrived_s)
            whole = request.whole
            if whole.queued:  # nobody waits for what is left of it
                self.batcher.queue.release(whole)
                whole.tensors = {}


def _observed(batch: FinishedBatch) -> BatchRun:
    """Further parts of a request are no further requests, but wait like any."""
    started_s = batch.started_s
    return BatchRun(
        sum([not request.begun for request in batch.requests]),
        batch.rows,
        started_s - batch.requests[0].waiting_since_s,
        sum([started_s - request.waiting_since_s for request in batch.requests]),
        batch.ended_s - started_s,
    )


def _shape_key(tensors: Tensors) -> ShapeKey:
    return tuple(array.shape[1:] for array in tensors.values())
