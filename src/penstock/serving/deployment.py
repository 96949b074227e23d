"""One version being served: its runtime behind its queue, and what is counted of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from penstock.core.clock import Clock
from penstock.core.errors import PenstockError
from penstock.core.signature import Signature
from penstock.core.tensors import Array, Tensors
from penstock.models.runtimes.runtime import Runtime
from penstock.observe.metrics import LATENCY_BUCKETS_S, ROWS_BUCKETS, Counter, MetricSet
from penstock.serving.batching.dispatcher import (
    BatchingConfig,
    Dispatcher,
    DispatcherStatistics,
    PendingAnswer,
)
from penstock.serving.batching.observer import BatchRun
from penstock.serving.batching.queue import DEFAULT_PRIORITY
from penstock.serving.statistics import BatchSize, DeploymentStatistics, Durations

__all__ = ["Deployment", "ServedModel"]


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """What is to be served: a version under its model's name, with its runtime loaded and warm.

    `example` holds real inputs, a row or more, where the version has some.
    """

    model: str
    version: str
    platform: str
    runtime: Runtime
    batching: BatchingConfig
    example: Tensors | None = None


class Deployment:
    """One version being served."""

    def __init__(self, served: ServedModel, metrics: MetricSet, clock: Clock) -> None:
        self.model = served.model
        self.version = served.version
        self.platform = served.platform
        self.signature: Signature = served.runtime.signature
        self.example = served.example
        self.batch_rows_max = served.batching.rows_max
        self._runtime = served.runtime
        self._metrics = metrics
        self._conform = self.signature.conform
        self._measures = _Measures(metrics, clock, model=served.model, version=served.version)
        self._dispatcher = Dispatcher(served.runtime, served.batching, clock, self._measures)
        metrics.gauge(
            "penstock_queue_rows",
            "Rows that wait for a runtime.",
            lambda: self._dispatcher.statistics().queue.rows,
            model=served.model,
            version=served.version,
        )

    @property
    def fault(self) -> str | None:
        """Why it cannot answer now; None: it can."""
        return self._runtime.fault

    @property
    def used_s(self) -> float:
        """When it last answered, in monotonic seconds; minus infinity for never."""
        return self._measures.last_s

    @property
    def pid(self) -> int | None:
        """The process that its model runs in, where that is one of its own."""
        return getattr(self._runtime, "pid", None)

    @property
    def memory_bytes(self) -> int:
        """About how much memory its runtime holds."""
        return self._runtime.memory_bytes

    def infer(
        self,
        tensors: Mapping[str, Array],
        arrived_s: float,
        deadline_s: float,
        priority: int = DEFAULT_PRIORITY,
    ) -> PendingAnswer:
        """What will hold the outputs for inputs as they came off the wire. Times are monotonic seconds.

        Raises `InvalidInput` for inputs that do not fit the signature, and what the dispatcher raises.
        """
        try:
            return self._dispatcher.submit(self._conform(tensors), arrived_s, deadline_s, priority)
        except PenstockError as error:
            self.refused(error)
            raise

    def refused(self, error: PenstockError) -> None:
        """Counts a request for this version that could not be read as inputs, and so never came to `infer`."""
        self._measures.failed(error, 0.0)

    def check(self) -> None:
        """Sees to a runtime that has died while nobody asked it. Does not block."""
        self._dispatcher.revive()

    def statistics(self) -> DeploymentStatistics:
        return self._measures.statistics()

    def dispatcher_statistics(self) -> DispatcherStatistics:
        return self._dispatcher.statistics()

    async def close(self) -> None:
        """Finishes what was taken on, then frees the runtime."""
        # First of all: the same version may be served anew before this one has ended.
        self._metrics.remove("penstock_queue_rows", model=self.model, version=self.version)
        await self._dispatcher.close()


class _Measures:
    """What is counted of a deployment. Told of everything in the event loop."""

    def __init__(self, metrics: MetricSet, clock: Clock, *, model: str, version: str) -> None:
        labels = {"model": model, "version": version}
        self._metrics = metrics
        self._clock = clock
        self._labels = labels
        self._failures: dict[str, Counter] = {}
        self._answered = self._outcome("ok")
        self.last_s = float("-inf")
        self._success_s = 0.0
        self._successes = 0
        self._failure_s = 0.0
        self._failed = 0
        self._queue_s = 0.0
        self._ran = 0
        self._answered_rows = 0
        self._batches: dict[int, list[float]] = {}
        """By rows: how many runs, and their seconds."""
        self._rows = metrics.counter("penstock_rows_total", "Rows that were answered.", **labels)
        self._latency_s = metrics.histogram(
            "penstock_request_seconds", "From a request's arrival to its answer.", LATENCY_BUCKETS_S, **labels
        )
        self._wait_s = metrics.histogram(
            "penstock_batch_wait_seconds",
            "How long a batch's first request waited for the runtime.",
            LATENCY_BUCKETS_S,
            **labels,
        )
        self._run_s = metrics.histogram(
            "penstock_batch_run_seconds", "How long the runtime took for a batch.", LATENCY_BUCKETS_S, **labels
        )
        self._batch_rows = metrics.histogram("penstock_batch_rows", "Rows in a batch.", ROWS_BUCKETS, **labels)

    def batch(self, run: BatchRun) -> None:
        self._batch_rows.observe(run.rows)
        self._wait_s.observe(run.first_waited_s)
        self._run_s.observe(run.seconds)
        self._queue_s += run.waited_s
        self._ran += run.requests
        runs = self._batches.get(run.rows)
        if runs is None:
            runs = self._batches[run.rows] = [0.0, 0.0]
        runs[0] += 1
        runs[1] += run.seconds

    def answered(self, rows: int, seconds: float, now_s: float) -> None:
        self._answered.value += 1
        self._rows.value += rows
        self._latency_s.observe(seconds)
        self._successes += 1
        self._success_s += seconds
        self._answered_rows += rows
        self.last_s = now_s

    def failed(self, error: Exception, seconds: float) -> None:
        outcome = type(error).__name__
        counter = self._failures.get(outcome)
        if counter is None:
            counter = self._failures[outcome] = self._outcome(outcome)
        counter.value += 1
        self._failed += 1
        self._failure_s += seconds

    def statistics(self) -> DeploymentStatistics:
        last_s = 0.0
        if self._successes:
            last_s = self._clock.now().timestamp() - (self._clock.monotonic() - self.last_s)
        return DeploymentStatistics(
            model=self._labels["model"],
            version=self._labels["version"],
            last_inference_s=last_s,
            rows=self._answered_rows,
            success=Durations(self._successes, self._success_s),
            failure=Durations(self._failed, self._failure_s),
            queue=Durations(self._ran, self._queue_s),
            batches=tuple(
                BatchSize(rows, Durations(int(count), seconds))
                for rows, (count, seconds) in sorted(self._batches.items())
            ),
        )

    def _outcome(self, outcome: str) -> Counter:
        return self._metrics.counter(
            "penstock_requests_total",
            "Requests by outcome: ok, or the kind of error.",
            **self._labels,
            outcome=outcome,
        )
