"""One version being served: its runtime behind its queue, and what is counted of it."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

import msgspec

from penstock.core.clock import Clock
from penstock.core.errors import DeadlineExceeded, PenstockError, QuotaExceeded, Refused
from penstock.core.memory import give_back_memory
from penstock.core.signature import Signature
from penstock.core.tensors import Array, Tensors, row_count, slice_rows
from penstock.models.runtimes.runtime import Examine, Runtime
from penstock.observe.metrics import MetricSet
from penstock.serving.admission.admission import Admission, AdmissionStatistics, ShedReason
from penstock.serving.admission.lag import LoopLag
from penstock.serving.batching.batcher import BatchingConfig, DispatcherStatistics
from penstock.serving.batching.dispatcher import Dispatcher
from penstock.serving.batching.outputs import BatchRows
from penstock.serving.batching.pending import Answer, PendingAnswer
from penstock.serving.cache.prediction_cache import CacheConfig, CacheStatistics, VersionCache
from penstock.serving.cached_answers import CachedAnswers
from penstock.serving.fallback.breaker import BreakerConfig, BreakerStatistics, Probe
from penstock.serving.fallback.rungs import Rung
from penstock.serving.features.served_log import ServedRecorder
from penstock.serving.guards import BreakerGate, HealthWatch
from penstock.serving.health import HealthConfig, HealthStatistics
from penstock.serving.inference import Inference
from penstock.serving.laddered import Ladder, LadderObserver
from penstock.serving.measures import Measures
from penstock.serving.statistics import DeploymentStatistics

__all__ = ["Deployment", "ServedModel", "shed"]

QUEUE_ROWS, SHED_RATIO = "penstock_queue_rows", "penstock_shed_ratio"


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """What is to be served: a version under its model's name, with its runtime loaded and warm.

    `example` holds real inputs, a row or more, where the version has some; `timings` are runs of it, by their
    rows, in seconds.
    """

    model: str
    version: str
    platform: str
    runtime: Runtime
    batching: BatchingConfig
    example: Tensors | None = None
    timings: tuple[tuple[int, float], ...] = ()
    fallback: tuple[Rung, ...] = ()
    breaker: BreakerConfig | None = None
    examine: Examine | None = None
    """Raises where the runtime does not give what is known to be right; None: nothing is known."""
    health: HealthConfig | None = None
    """How often that is asked while it serves; None: never."""
    cache: CacheConfig | None = None
    recorder: ServedRecorder | None = None
    """Takes what was answered; None: it is not recorded."""


_SHED: dict[ShedReason, str] = {
    ShedReason.QUEUE_FULL: "as many rows wait for this model as may",
    ShedReason.TOO_LATE: "it could not be answered in time",
    ShedReason.OVERLOAD: "the model is overloaded, and others are more important",
    ShedReason.LOOP_LAG: "the server is overloaded",
    ShedReason.EXPIRED: "the deadline passed before the model was asked",
}


class Deployment:
    """One version being served. `lag` is that of the event loop, `cache` what keeps its answers."""

    def __init__(
        self,
        served: ServedModel,
        metrics: MetricSet,
        clock: Clock,
        lag: LoopLag,
        *,
        sheds: bool = True,
        cache: VersionCache[BatchRows] | None = None,
    ) -> None:
        self.model = served.model
        self.version = served.version
        self.platform = served.platform
        self.signature: Signature = served.runtime.signature
        self.example = served.example
        self.batch_rows_max = served.batching.rows_max
        self.recorder = served.recorder
        self._runtime = served.runtime
        self._metrics = metrics
        self._monotonic = clock.monotonic
        self._objective_s = served.batching.objective_s
        self._conform = self.signature.conform
        self._measures = Measures(metrics, clock, model=served.model, version=served.version)
        self._dispatcher = Dispatcher(served.runtime, served.batching, clock, self._measures)
        for rows, seconds in served.timings:
            self._dispatcher.batcher.ran(rows, seconds)
        self._admission = Admission(self._dispatcher.batcher, lag, objective_s=self._objective_s, enabled=sheds)
        self._measures.on_taken = self._admission.shedder.dequeued
        name = f"version {served.version} of {served.model!r}"
        self._breaker = BreakerGate(served.breaker, clock, name) if served.breaker is not None else None
        self._measures.breaker = self._breaker
        self._rested_s = float("-inf")
        self._health: HealthWatch | None = None
        if served.examine is not None and served.health is not None:
            self._health = HealthWatch(
                served.health, self._resting_after(served.examine), self._dispatcher.examine, clock, name
            )
        self.ladder: Ladder | None = None
        """What answers where this version does not, if its model has that."""
        self._cached = CachedAnswers(cache, clock, self._run, self._measures) if cache is not None else None
        if self._cached is not None and self._health is not None:
            self._health.on_wrong = self._cached.forget
        self._add_gauges()

    @property
    def fault(self) -> str | None:
        """Why it cannot answer now; None: it can."""
        return self._runtime.fault or self.sick

    @property
    def sick(self) -> str | None:
        """Why it answers nobody though its runtime may: it kept failing its checks."""
        return self._health.sick if self._health is not None else None

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

    def due_s(self, arrived_s: float, timeout_s: float | None) -> float:
        """When the answer is due to a caller who gives so much time: None, what is promised for all."""
        return arrived_s + (self._objective_s if timeout_s is None else timeout_s)

    def refusal(
        self, arrived_s: float, timeout_s: float | None, criticality: int, caller: bytes, retry: bool
    ) -> ShedReason | None:
        """Why a request of which only that is known is not taken on, counted; None: it is."""
        due_s = None if timeout_s is None else arrived_s + timeout_s
        reason = self._admission.refusal(self._monotonic(), due_s, criticality, caller, retry)
        if reason is not None:
            self._measures.shed(reason, criticality)
        return reason

    @property
    def told(self) -> LadderObserver:
        """What counts the requests that its ladder answered in its place."""
        return self._measures

    @property
    def caches(self) -> bool:
        """Whether a request may be answered without its model: its head alone does not decide then."""
        return self._cached is not None

    def cap(self, criticality: int) -> ShedReason | None:
        """Why a request is not even looked up, counted; None: it is."""
        reason = self._admission.cap(self._monotonic(), criticality)
        if reason is not None:
            self._measures.shed(reason, criticality)
        return reason

    def refusal_of_all(self, criticality: int) -> ShedReason | None:
        """Why not even the ladder takes a request on, counted: the event loop is too far behind."""
        if not self._admission.behind(self._monotonic(), criticality):
            return None
        self._measures.shed(ShedReason.LOOP_LAG, criticality)
        return ShedReason.LOOP_LAG

    def infer(self, inference: Inference) -> Answer:
        """What will hold the outputs for a request, from this version or, where that is wanted, its ladder.

        Raises `InvalidInput` for inputs that do not fit the signature, `Refused` for what is shed, and what
        the dispatcher raises.
        """
        answer = self._infer(inference)
        if self.recorder is not None:
            answer.future.add_done_callback(partial(self.recorder.answered, inference))
        return answer

    def _infer(self, inference: Inference) -> Answer:
        if inference.falls_back and self.ladder is not None:
            # What is kept goes before every rung, also in a brown-out.
            kept = None
            if self._cached is not None and self.sick is None:
                kept = self._cached.kept(self._conformed(inference))
            return self.ladder.infer(inference) if kept is None else kept
        return self.ask(inference)

    def ask(self, inference: Inference) -> PendingAnswer:
        """What will hold this version's own outputs, from its cache where they are kept. Raises likewise."""
        # What a version gave that fails its checks may be as wrong as what it gives.
        if self._cached is None or self.sick is not None:
            return self._run(inference)
        return self._cached.infer(self._conformed(inference))

    def check_inputs(self, tensors: Mapping[str, Array]) -> int:
        """How many rows there are in what the model takes. Raises `InvalidInput`, counted, for other inputs."""
        try:
            return row_count(self._conform(tensors))
        except PenstockError as error:
            self.refused(error)
            raise

    def _conformed(self, inference: Inference) -> Inference:
        return inference._replace(tensors=self._tensors(inference))

    def _tensors(self, inference: Inference) -> Tensors:
        try:
            return self._conform(inference.tensors)
        except PenstockError as error:
            self.refused(error)
            raise

    def _run(self, inference: Inference) -> PendingAnswer:
        """What will hold what the model gives. Raises likewise."""
        deadline_s, due_s = inference.deadline_s, inference.due_s
        if due_s is None:
            due_s = deadline_s
        elif due_s < deadline_s:
            # Nobody promised its caller a time from the first byte on, and sending it may have taken long.
            due_s = self._monotonic() + self._objective_s
        if not inference.admitted:
            self._admit(inference)
        tensors = self._tensors(inference)
        due_s = self._due_with_rows(due_s, inference, row_count(tensors))
        probe: Probe | None = None
        try:
            if self._health is not None and self._health.sick is not None:
                raise Refused(self._health.sick, reason="unhealthy", hint="name another version, or ask later")
            if self._breaker is not None:
                probe = self._breaker.enter()
            answer = self._dispatcher.submit(
                tensors, inference.arrived_s, deadline_s, due_s, inference.criticality
            )
        except PenstockError as error:
            if self._breaker is not None and probe is not None:
                self._breaker.give_back(probe)
            self.refused(error)
            raise
        if self._breaker is not None and probe is not None:
            self._breaker.watch(probe, answer.future)
        return answer

    def _admit(self, inference: Inference) -> None:
        due_s: float | None = inference.deadline_s
        if inference.due_s is not None and inference.due_s < inference.deadline_s:
            due_s = None  # the objective is what it is promised, not what it named
        reason = self._admission.refusal(
            self._monotonic(), due_s, inference.criticality, inference.caller, inference.retry
        )
        if reason is not None:
            self._measures.shed(reason, inference.criticality)
            raise shed(reason)

    def _due_with_rows(self, due_s: float, inference: Inference, rows: int) -> float:
        """When the answer is due now that its rows are known: what is promised for all is meant for what fits a
        batch. Raises `Refused` where so many cannot be in time.
        """
        beyond_s = self._dispatcher.batcher.beyond_s(rows)
        if not beyond_s:
            return due_s
        if due_s < inference.deadline_s:
            due_s = min(due_s + beyond_s, inference.deadline_s)
        if inference.weighed:
            return due_s
        reason = self._admission.refusal_of_rows(self._monotonic(), due_s, inference.criticality, beyond_s)
        if reason is not None:
            self._measures.shed(reason, inference.criticality)
            raise shed(reason)
        return due_s

    def refused(self, error: PenstockError) -> None:
        """Counts a request for this version that could not be read as inputs, and so never came to `infer`."""
        self._measures.failed(error, 0.0)

    def over_quota(self) -> None:
        """Counts a request that a rate limit refused."""
        self._measures.outcome(QuotaExceeded.__name__)

    def check(self) -> None:
        """Sees to a runtime that has died while nobody asked it, and to its health. Does not block."""
        self._dispatcher.revive()
        if self._health is not None:
            self._health.check(self._runtime.fault, idle=self._dispatcher.idle)

    def beyond_s(self, rows: int) -> float:
        """How much longer so many rows take than what fits a batch, in seconds, as predicted."""
        return self._dispatcher.batcher.beyond_s(rows)

    def rest(self) -> "Future[float] | None":
        """Has its runtime free what it keeps for runs to come; None where it did not run since it last rested,
        or has nothing to be tried with.
        """
        if self.example is None or self.used_s <= self._rested_s:
            return None
        self._rested_s = self.used_s
        return self._dispatcher.examine(self._rest)

    def _rest(self, runtime: Runtime) -> None:
        assert self.example is not None, "it has something to be tried with"
        fixed = self.signature.rows_fixed is not None
        runtime.rest(self._conform(self.example if fixed else slice_rows(self.example, 0, 1)))

    def _resting_after(self, examine: Examine) -> Examine:
        """The examination, after which a runtime that was at rest is so again: it may be on many rows."""

        def examined(runtime: Runtime) -> Iterator[None]:
            yield from examine(runtime) or ()
            if self.example is not None and float("-inf") < self.used_s <= self._rested_s:
                self._rest(runtime)
                give_back_memory()

        return examined

    def tick(self, now_s: float) -> None:
        """Adjusts what is shed. Called every `TICK_S`."""
        self._admission.tick(now_s)
        if self.ladder is not None:
            self.ladder.brown_out.observe(self._admission.ratio, now_s)

    def health_statistics(self) -> HealthStatistics | None:
        """None where it is not checked."""
        return self._health.statistics() if self._health is not None else None

    def breaker_statistics(self) -> BreakerStatistics | None:
        """None where it has no breaker."""
        return self._breaker.statistics() if self._breaker is not None else None

    @property
    def shed_ratio(self) -> float:
        """The share of requests that is shed, from 0 to 0.95."""
        return self._admission.ratio

    def statistics(self) -> DeploymentStatistics:
        return msgspec.structs.replace(
            self._measures.statistics(),
            cache=self._cached.counts() if self._cached is not None else None,
            breaker=self._breaker.counts() if self._breaker is not None else None,
            ladder=self.ladder.statistics() if self.ladder is not None else None,
        )

    def admission_statistics(self) -> AdmissionStatistics:
        return self._admission.statistics()

    def dispatcher_statistics(self) -> DispatcherStatistics:
        return self._dispatcher.statistics()

    def cache_statistics(self) -> CacheStatistics | None:
        """None where no answers are kept."""
        return self._cached.statistics() if self._cached is not None else None

    def _add_gauges(self) -> None:
        for name, meaning, read in (
            (QUEUE_ROWS, "Rows that wait for a runtime.", lambda: self._dispatcher.batcher.queue.rows),
            (SHED_RATIO, "The share of requests that is shed.", lambda: self._admission.ratio),
        ):
            self._metrics.gauge(name, meaning, read, model=self.model, version=self.version)

    async def close(self) -> None:
        """Finishes what was taken on, then frees the runtime."""
        if self._cached is not None:
            self._cached.close()
        # First of all: the same version may be served anew before this one has ended.
        for name in (QUEUE_ROWS, SHED_RATIO):
            self._metrics.remove(name, model=self.model, version=self.version)
        if self.ladder is not None:
            self.ladder.close()
        await self._dispatcher.close()


def shed(reason: ShedReason) -> PenstockError:
    """The error for what is not taken on."""
    if reason is ShedReason.EXPIRED:
        return DeadlineExceeded(_SHED[reason], waited=True)
    hint = "try again later"
    if reason is ShedReason.TOO_LATE:
        hint = "try again later, give it more time, or widen the model's objective"
    return Refused(_SHED[reason], reason=reason.value, hint=hint)
