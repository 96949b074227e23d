"""A `serve` process: `python -m penstock.app.worker`, started and spoken to by its supervisor."""

import asyncio
import contextlib
import gc
import logging
import os
import socket
import sys
from collections.abc import Coroutine

import uvloop

import penstock
from penstock.app.feature_serving import features_of
from penstock.app.idle import IdleWatch
from penstock.app.instance import SupervisedInstance
from penstock.app.jobs import make_jobs
from penstock.app.known_limits import declared_by
from penstock.app.limits import LimitsFollower, make_limits, make_rights, open_buckets
from penstock.app.loader import Loader
from penstock.app.loading import load_app
from penstock.app.reconciler import Reconciler
from penstock.app.supervised import (
    ORPHAN_DRAIN_S,
    REPORT_EVERY_S,
    WorkerChannel,
    begin,
    end_process,
    open_channel,
    supervised,
)
from penstock.core.clock import Clock, SystemClock
from penstock.core.errors import ConfigurationError, ModelFailed, PenstockError
from penstock.core.memory import collect_seldom, give_back_memory, resident_bytes
from penstock.observe.metrics import MetricSet
from penstock.observe.process import add_process_metrics, processor_s
from penstock.serving.admission.rate_limits import RateLimits
from penstock.serving.admission.rates.buckets import BucketTable
from penstock.serving.cache.prediction_cache import PredictionCache
from penstock.serving.plane import DataPlane
from penstock.serving.protocols.grpc.server import GrpcConfig, GrpcServer
from penstock.serving.protocols.http.application import HttpApplication, HttpConfig
from penstock.serving.pulse import Pulse
from penstock.serving.server import HttpServer
from penstock.supervision.messages import (
    Answer,
    Applied,
    Drain,
    InstanceReady,
    LoadedModel,
    Ready,
    Report,
    Retire,
    Sample,
    Start,
    ToWorker,
    Wanted,
)

__all__ = ["main"]

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 2.0
JOBS_MARGIN_S = 1.0
"""In which jobs that take longer are given back."""


class _Worker:
    """Serves an app's models on a socket that it shares, until it is told to drain or its supervisor ends."""

    def __init__(
        self,
        start: Start,
        listener: socket.socket,
        buckets: BucketTable,
        channel: WorkerChannel,
        clock: Clock,
    ) -> None:
        app, file = load_app(start.app)
        if not app.declarations and not app.has_streams and not start.settings.server.model_control:
            raise ConfigurationError(
                f"{file}: app {app.name!r} declares no models and no streams",
                hint='add one: app.model("name"), or app.stream("name", schema=...)',
            )
        self._start = start
        self._settings = start.settings
        self._app = app
        self._declared = declared_by(app)
        self._channel = channel
        self._metrics = MetricSet()
        add_process_metrics(self._metrics)
        limits = make_limits(app, self._settings, self._metrics, clock, buckets)
        self._limits = LimitsFollower(app, self._settings, limits)
        self._plane = self._data_plane(limits, clock)
        self._pulse = Pulse(self._plane, clock)
        self._features = features_of(app, self._settings, self._metrics, clock)
        self._loader = Loader(app, file, self._settings, clock, self._features)
        self._reconciler = Reconciler(app, self._loader, self._plane, self._settings, clock)
        self._instance = SupervisedInstance(
            app,
            self._loader,
            self._plane,
            channel.send,
            model_control=self._settings.server.model_control,
            failure=self._reconciler.failure,
        )
        self._jobs = make_jobs(app.name, self._settings, self._plane, self._instance, self._metrics, clock)
        self._http, self._grpc = self._servers(listener, clock)
        self._monotonic = clock.monotonic
        self._linger_s = 0.0
        self._drain_s = start.settings.server.drain_s
        self._background: set[asyncio.Task[None]] = set()

    def _servers(self, listener: socket.socket, clock: Clock) -> tuple[HttpServer, GrpcServer | None]:
        grpc = self._grpc_server(clock) if self._start.grpc_port >= 0 else None
        return self._http_server(listener, clock), grpc

    def _data_plane(self, limits: RateLimits, clock: Clock) -> DataPlane:
        return DataPlane(
            self._metrics,
            clock,
            sheds=self._settings.admission.enabled,
            limits=limits,
            rights=make_rights(self._app, self._settings, limits, self._metrics),
            cache=PredictionCache(self._settings.cache.bytes_max, self._metrics),
        )

    def _http_server(self, listener: socket.socket, clock: Clock) -> HttpServer:
        server = self._settings.server
        config = HttpConfig(
            name="penstock",
            version=penstock.__version__,
            request_timeout_s=server.request_timeout_s,
            body_bytes_max=server.body_bytes_max,
            compress_bytes_min=server.compress_bytes_min,
            cors_origins=server.cors_origins,
        )
        application = HttpApplication(self._plane, self._instance, self._metrics, config, self._jobs)
        return HttpServer(application, listener, server, clock, self._metrics)

    def _grpc_server(self, clock: Clock) -> GrpcServer:
        server = self._settings.server
        config = GrpcConfig(
            name="penstock",
            version=penstock.__version__,
            host=server.host,
            port=self._start.grpc_port,
            shared=True,
            message_bytes_max=server.body_bytes_max,
            receiving_bytes_max=server.receiving_bytes_max,
            request_timeout_s=server.request_timeout_s,
            receive_timeout_s=server.receive_timeout_s,
            keep_alive_s=server.keep_alive_s,
        )
        return GrpcServer(self._plane, self._instance, self._metrics, clock, config)

    async def run(self, drain: asyncio.Event) -> None:
        """Loads, serves until `drain` is set, finishes what was taken on. Raises what keeps it from that."""
        loading = asyncio.ensure_future(self._load())
        told = asyncio.ensure_future(drain.wait())
        try:
            await asyncio.wait((loading, told), return_when=asyncio.FIRST_COMPLETED)
            if drain.is_set():
                return
            await loading
            self._keep(self._report_for_ever())
            following = (
                asyncio.ensure_future(self._reconciler.run(self._settings.registry.poll_s)),
                asyncio.ensure_future(self._limits.run(self._settings.registry.poll_s)),
                asyncio.ensure_future(self._jobs.run()),
            )
            await drain.wait()
            for each in following:
                each.cancel()
            await asyncio.wait(following)
        finally:
            loading.cancel()
            with contextlib.suppress(asyncio.CancelledError, PenstockError):
                await loading
            await self._drain()

    def hear(self, message: ToWorker) -> None:
        """Does what the supervisor says."""
        match message:
            case Sample(request):
                self._channel.send(self._report(request))
            case InstanceReady(ready):
                self._instance.others_ready = ready
            case Drain(linger_s):
                self._linger_s = linger_s
            case Retire():
                self._plane.refuse()
                self._http.retire()
                if self._grpc is not None:
                    self._grpc.retire()
                self._channel.send(self._report())
            case Answer():
                self._instance.answered(message)
            case Wanted():
                self._keep(self._apply(message))

    def orphaned(self) -> None:
        """The supervisor is gone, and nobody restarts or replaces this process: it ends soon."""
        self._drain_s = min(self._drain_s, ORPHAN_DRAIN_S)

    async def _load(self) -> None:
        """Everything that is wanted, then accepts."""
        await self._limits.start()
        await self._reconciler.start(self._start.wanted, self._start.standing)
        if self._grpc is not None:
            self._grpc.bind()
            await self._grpc.start()
        await self._http.start()
        self._plane.accept()
        self._pulse.start()
        collect_seldom()
        self._channel.send(self._report())
        self._channel.send(
            Ready(tuple(self._lines()), self._start.wanted.revision, streams=self._app.has_streams)
        )

    def _lines(self) -> list[str]:
        served = [
            f"  {each.model}  version {each.version}  on {each.platform}" for each in self._plane.deployments()
        ]
        return [f"penstock {penstock.__version__}  app {self._app.name}", *served]

    async def _apply(self, wanted: Wanted) -> None:
        try:
            await self._reconciler.order(wanted)
            self._channel.send(Applied(revision=wanted.revision))
        except Exception as failure:
            error = failure
            if not isinstance(error, PenstockError):
                log.exception("an order of a client")
                error = ModelFailed(f"it raised {type(failure).__name__}: {failure}")
            self._channel.send(
                Applied(
                    revision=wanted.revision,
                    error=type(error).__name__,
                    message=error.message,
                    hint=error.hint,
                )
            )

    async def _report_for_ever(self) -> None:
        idle = IdleWatch(self._monotonic(), processor_s())
        while True:
            await asyncio.sleep(REPORT_EVERY_S)
            try:
                if idle.fell_idle(self._monotonic(), processor_s()):
                    # Large bodies leave holes in the heap: freed, and the allocator's for ever otherwise.
                    await self._plane.rest()
                    gc.collect()
                    await asyncio.to_thread(give_back_memory)
                    idle.rested(processor_s())
                self._plane.check()
                self._channel.send(self._report())
            except Exception:
                # Missing for good, reports would end a process that answers.
                log.exception("a report to the supervisor")

    def _report(self, request: int | None = None) -> Report:
        models = [
            LoadedModel(
                model=each.model,
                version=each.version,
                platform=each.platform,
                default=self._plane.default(each.model) is each,
                memory_bytes=each.memory_bytes,
                fault=each.fault,
                pid=each.pid,
            )
            for each in self._plane.deployments()
        ]
        return Report(
            request=request,
            ready=self._plane.ready,
            connections=self._http.connections,
            resident_bytes=resident_bytes(),
            models=tuple(models),
            problems=self._problems(),
            metrics=self._metrics.snapshot(),
            statistics=self._plane.statistics(),
            declared=self._declared,
        )

    def _problems(self) -> dict[str, str]:
        of_features = self._features.problems() if self._features is not None else {}
        return self._plane.faults() | self._reconciler.problems | of_features

    async def _drain(self) -> None:
        drain_s = self._drain_s
        self._pulse.stop()
        finishing = [self._http.stop(self._linger_s), self._jobs.finish(max(0.0, drain_s - JOBS_MARGIN_S))]
        if self._grpc is not None:
            finishing.append(self._grpc.stop(drain_s))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                await asyncio.gather(*finishing)
        self._http.abort()
        if self._grpc is not None:
            self._grpc.abort()
        # Everybody was answered, or given up: what still runs runs for nobody.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._plane.close()
                await self._reconciler.close()
                await self._jobs.close()
        for task in self._background:
            task.cancel()
        self._loader.cancel()
        self._loader.close()
        if self._features is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await asyncio.to_thread(self._features.close)
        self._limits.close()
        self._channel.send(self._report())
        await self._channel.flush()

    def _keep(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def main() -> None:
    # gRPC's own core logs what clients send as it is, control characters included.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    descriptor, lifeline, listening, shared = (int(number) for number in sys.argv[1:5])
    supervised(lifeline, (descriptor, lifeline, listening, shared))
    listener = socket.socket(fileno=listening)
    listener.setblocking(False)
    buckets = open_buckets(shared)

    async def life() -> int:
        channel = await open_channel(descriptor)
        return await begin(
            channel, "worker", lambda start: _Worker(start, listener, buckets, channel, SystemClock())
        )

    end_process(uvloop.run(life()))


if __name__ == "__main__":
    main()
