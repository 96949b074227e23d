"""The data plane: what stands behind every protocol. It knows tensors, not HTTP or gRPC."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from penstock.core.clock import Clock
from penstock.core.errors import NotFound, PenstockError
from penstock.core.signature import Signature
from penstock.core.tensors import Array
from penstock.models.runtimes.runtime import Runtime
from penstock.observe.metrics import LATENCY_BUCKETS_S, ROWS_BUCKETS, Counter, MetricSet
from penstock.serving.batching.dispatcher import (
    BatchingConfig,
    Dispatcher,
    DispatcherStatistics,
    PendingAnswer,
)

__all__ = ["DataPlane", "Deployment", "ServedModel"]


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """What is to be served: a version under its model's name, with its runtime loaded and warm."""

    model: str
    version: str
    platform: str
    runtime: Runtime
    batching: BatchingConfig


class Deployment:
    """One version being served."""

    def __init__(self, served: ServedModel, metrics: MetricSet, clock: Clock) -> None:
        self.model = served.model
        self.version = served.version
        self.platform = served.platform
        self.signature: Signature = served.runtime.signature
        self._conform = self.signature.conform
        self._measures = _DeploymentMeasures(metrics, model=served.model, version=served.version)
        self._dispatcher = Dispatcher(served.runtime, served.batching, clock, self._measures)
        metrics.gauge(
            "penstock_queue_rows",
            "Rows that wait for a runtime.",
            lambda: self.statistics().queue.rows,
            model=served.model,
            version=served.version,
        )

    def infer(self, tensors: Mapping[str, Array], arrived_s: float, deadline_s: float) -> PendingAnswer:
        """What will hold the outputs for inputs as they came off the wire. Times are monotonic seconds.

        Raises `InvalidInput` for inputs that do not fit the signature, and what the dispatcher raises.
        """
        try:
            return self._dispatcher.submit(self._conform(tensors), arrived_s, deadline_s)
        except PenstockError as error:
            self._measures.failed(error)
            raise

    def statistics(self) -> DispatcherStatistics:
        return self._dispatcher.statistics()

    async def close(self) -> None:
        """Finishes what was taken on, then frees the runtime."""
        await self._dispatcher.close()


class DataPlane:
    """All that is served, by model and version."""

    def __init__(self, metrics: MetricSet, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._deployments: dict[str, dict[str, Deployment]] = {}
        self._accepting = False

    @property
    def ready(self) -> bool:
        """Whether everything that is wanted can answer."""
        return self._accepting

    def accept(self) -> None:
        """All that is wanted has been added: from now on ready."""
        self._accepting = True

    def refuse(self) -> None:
        """Not ready any more."""
        self._accepting = False

    def add(self, served: ServedModel) -> Deployment:
        versions = self._deployments.setdefault(served.model, {})
        assert served.version not in versions, f"{served.model} version {served.version} is served already"
        deployment = versions[served.version] = Deployment(served, self._metrics, self._clock)
        return deployment

    def deployments(self) -> Iterable[Deployment]:
        for versions in self._deployments.values():
            yield from versions.values()

    def find(self, model: str, version: str | None) -> Deployment:
        """The deployment of a version, or (None) of the model's default version.

        Raises `NotFound`, saying what is served.
        """
        versions = self._deployments.get(model)
        if versions is None:
            served = ", ".join(sorted(self._deployments)) or "nothing"
            raise NotFound(f"no model {model!r} is served here", hint=f"served are: {served}")
        if version is None:
            return next(iter(versions.values()))
        if version not in versions:
            raise NotFound(
                f"no version {version!r} of model {model!r} is served here",
                hint=f"served are: {', '.join(versions)}",
            )
        return versions[version]

    def versions(self, model: str) -> list[str]:
        return list(self._deployments.get(model, {}))

    async def close(self) -> None:
        """Not ready any more; every deployment finishes what it took on."""
        self.refuse()
        for deployment in self.deployments():
            await deployment.close()


class _DeploymentMeasures:
    """What is counted of a deployment."""

    def __init__(self, metrics: MetricSet, *, model: str, version: str) -> None:
        labels = {"model": model, "version": version}
        self._metrics = metrics
        self._labels = labels
        self._failures: dict[str, Counter] = {}
        self._answered = self._outcome("ok")
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

    def batch(self, rows: int, waited_s: float, seconds: float) -> None:
        self._batch_rows.observe(rows)
        self._wait_s.observe(waited_s)
        self._run_s.observe(seconds)

    def answered(self, rows: int, seconds: float) -> None:
        self._answered.value += 1
        self._rows.value += rows
        self._latency_s.observe(seconds)

    def failed(self, error: Exception) -> None:
        outcome = type(error).__name__
        counter = self._failures.get(outcome)
        if counter is None:
            counter = self._failures[outcome] = self._outcome(outcome)
        counter.value += 1

    def _outcome(self, outcome: str) -> Counter:
        return self._metrics.counter(
            "penstock_requests_total",
            "Requests by outcome: ok, or the kind of error.",
            **self._labels,
            outcome=outcome,
        )
