"""What is counted of a deployment."""

from collections.abc import Callable

from penstock.core.calling import Criticality
from penstock.core.clock import Clock
from penstock.observe.metrics import LATENCY_BUCKETS_S, ROWS_BUCKETS, Counter, MetricSet
from penstock.serving.admission.admission import ShedReason
from penstock.serving.batching.observer import BatchRun
from penstock.serving.guards import BreakerGate
from penstock.serving.statistics import BatchSize, DeploymentStatistics, Durations

__all__ = ["Measures"]


class Measures:
    """What is counted of a deployment. Told of everything in the event loop."""

    def __init__(self, metrics: MetricSet, clock: Clock, *, model: str, version: str) -> None:
        labels = {"model": model, "version": version}
        self._metrics = metrics
        self._clock = clock
        self._labels = labels
        self._failures: dict[str, Counter] = {}
        self._shed: dict[tuple[ShedReason, int], Counter] = {}
        self.breaker: BreakerGate | None = None
        self.on_taken: Callable[[float], object] = float
        """Told how long the newest of each batch had waited."""
        self._answered = self._outcome("ok")
        self.last_s = float("-inf")
        self._success_s = 0.0
        self._successes = 0
        self._failure_s = 0.0
        self._failed = 0
        self._stood_in = 0
        self._stood_in_s = 0.0
        self._taken_back = 0
        self._taken_back_s = 0.0
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
        self.given(rows, seconds, now_s)
        if self.breaker is not None:
            self.breaker.answered(seconds, now_s)

    def given(self, rows: int, seconds: float, now_s: float) -> None:
        """A request was answered by no run of its own, which says nothing of the model."""
        self._answered.value += 1
        self._rows.value += rows
        self._latency_s.observe(seconds)
        self._successes += 1
        self._success_s += seconds
        self._answered_rows += rows
        self.last_s = now_s

    def stood_in(self, rows: int, seconds: float, failed_s: float | None) -> None:
        """Another rung of its ladder answered. Metrics tell what the version did; statistics, as V2 has them,
        what became of requests, so that the failure that it had counted after `failed_s` is none there.
        """
        self._stood_in += 1
        self._stood_in_s += seconds
        self._answered_rows += rows
        if failed_s is not None:
            self._taken_back += 1
            self._taken_back_s += failed_s

    def taken(self, sojourn_s: float) -> None:
        self.on_taken(sojourn_s)

    def shed(self, reason: ShedReason, criticality: int) -> None:
        """A request was not taken on."""
        counter = self._shed.get((reason, criticality))
        if counter is None:
            counter = self._shed[reason, criticality] = self._metrics.counter(
                "penstock_shed_total",
                "Requests that were not taken on, by reason and criticality.",
                **self._labels,
                reason=reason.value,
                criticality=Criticality(criticality).name,
            )
        counter.value += 1
        self._fail("DeadlineExceeded" if reason is ShedReason.EXPIRED else "Refused", 0.0)

    def failed(self, error: Exception, seconds: float) -> None:
        self._fail(type(error).__name__, seconds)
        if self.breaker is not None:
            self.breaker.failed(error, seconds)

    def outcome(self, outcome: str) -> None:
        """A request ended so before anything was done for it."""
        self._fail(outcome, 0.0)

    def not_given(self, error: Exception, seconds: float) -> None:
        """Likewise one that failed."""
        self._fail(type(error).__name__, seconds)

    def _fail(self, outcome: str, seconds: float) -> None:
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
            success=Durations(self._successes + self._stood_in, self._success_s + self._stood_in_s),
            failure=Durations(self._failed - self._taken_back, max(0.0, self._failure_s - self._taken_back_s)),
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
