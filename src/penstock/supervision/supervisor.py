"""The process above the workers: starts them, listens to them, and tells them what to do.

It decides nothing about workers itself (`Pool` does) and answers no request: it does what is said, keeps the
listening socket so that the port outlives every worker, and adds up what workers count.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn

import msgspec

from penstock.core.clock import Clock
from penstock.core.errors import ConfigurationError, PenstockError
from penstock.core.settings import Settings
from penstock.observe.metrics import MetricSet
from penstock.observe.snapshot import MetricFamily
from penstock.supervision.actions import Action, End, Kill, Role, Say, Spawn
from penstock.supervision.exchange import Exchange
from penstock.supervision.messages import (
    Applied,
    Ask,
    Drain,
    Failed,
    FromWorker,
    InstanceReady,
    Ready,
    Report,
    Retire,
    Start,
)
from penstock.supervision.pool import Pool, PoolConfig
from penstock.supervision.processes import WorkerProcess
from penstock.supervision.stand_in import StandIn
from penstock.supervision.status import InstanceStatus, StatusSocket, worker_status

__all__ = ["Supervisor", "SupervisorConfig"]

TICK_S = 0.25
DRAIN_MARGIN_S = 5.0
REPLACED_LINGER_S = 2.0
UNATTENDED_S = 2.0
"""So long may nobody serve before the supervisor tells clients itself: a restart is faster than that."""
START_MARGIN_S = 30.0
SILENCE_S_MIN = 15.0
SILENCE_MARGIN_S = 10.0


class SupervisorConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`command` starts a worker that serves, `stream_command` one for streams; `app` is the app file as the
    user named it.
    """

    app: str
    command: Sequence[str]
    stream_command: Sequence[str]
    version: str
    inherited: tuple[int, ...] = ()


class Supervisor:
    """Supervises the workers of one serve instance."""

    def __init__(
        self,
        config: SupervisorConfig,
        read_settings: Callable[[], Settings],
        listener: socket.socket,
        grpc_port: int,
        *,
        clock: Clock,
        report: Callable[[str], None],
    ) -> None:
        self._config = config
        self._read_settings = read_settings
        self._settings = {0: read_settings()}
        self._last_good: dict[str, str] = {}
        self._generation = 0
        self._listener = listener
        self._grpc_port = grpc_port
        self._clock = clock
        self._report = report
        self._started_at = clock.now()
        self._pool = Pool(_pool_config(self._settings[0]))
        self._processes: dict[int, WorkerProcess] = {}
        self._exchange = Exchange(self._processes, self._answering, self._metrics_of_its_own)
        self._tasks: set[asyncio.Future[None]] = set()
        self._fault: BaseException | None = None
        self._introduced: set[Role] = set()
        self._roles: dict[int, Role] = {}
        self._announced = False
        self._stopping = False
        self._ready = False
        self._failure: PenstockError | None = None
        self._ended = asyncio.Event()
        self._stand_in = StandIn(listener)
        self._attended_s = clock.monotonic()
        self._metrics = MetricSet()
        self._measure()

    async def run(self) -> None:
        """Runs workers until it is told to stop and the last of them has ended.

        Raises what keeps the first workers from starting.
        """
        self._handle_signals()
        status = StatusSocket(self._settings[0].home, self._status)
        await status.open()
        ticking = asyncio.ensure_future(self._tick_forever())
        ticking.add_done_callback(self._done)
        try:
            await self._do(self._pool.start(self._clock.monotonic()))
            await self._ended.wait()
        finally:
            ticking.cancel()
            for process in self._processes.values():
                process.kill()
            await status.close()
            self._listener.close()
        if self._fault is not None:
            raise self._fault
        # Where any worker has come to stand, one that could not start was told of in the log, and started anew.
        if self._failure is not None and self._pool.doomed:
            raise self._failure

    # What is to be done

    async def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Spawn():
                    await self._spawn(action)
                case End(life):
                    # A worker that is replaced has clients who know nothing of it; at the end they were told.
                    self._processes[life].channel.send(Drain(0.0 if self._stopping else REPLACED_LINGER_S))
                case Kill(life):
                    if life in self._processes:
                        self._processes[life].kill()
                case Say(text, error):
                    self._report(f"error: {text}" if error else text)
        self._tell_readiness()
        if self._pool.empty and (self._stopping or self._pool.doomed):
            self._ended.set()

    async def _spawn(self, spawn: Spawn) -> None:
        if self._listener.fileno() < 0:
            # It was told to stop while it started others.
            await self._do(self._pool.exited(spawn.life, "was not started any more", self._clock.monotonic()))
            return
        try:
            process = await self._start(spawn.role)
        except OSError as error:
            cause = f"cannot be started: {error.strerror}"
            await self._do(self._pool.exited(spawn.life, cause, self._clock.monotonic()))
            return
        self._processes[spawn.life] = process
        self._roles[spawn.life] = spawn.role
        process.channel.send(
            Start(
                number=spawn.number,
                app=self._config.app,
                settings=self._settings[spawn.generation],
                grpc_port=self._grpc_port,
                wanted=self._exchange.wanted,
                standing=self._last_good,
            )
        )
        self._keep(self._listen(spawn.life, process))

    async def _start(self, role: Role) -> WorkerProcess:
        if role is Role.STREAM:
            return await WorkerProcess.start(self._config.stream_command, ())
        inherited = (self._listener.fileno(), *self._config.inherited)
        return await WorkerProcess.start(self._config.command, inherited)

    def _keep(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Future[None]") -> None:
        """A supervisor that is at fault itself ends, and its workers with it: half of one would be worse."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fault = error
            self._ended.set()

    # What is heard

    async def _listen(self, life: int, process: WorkerProcess) -> None:
        """One worker's messages, to the end of its process."""
        ended = asyncio.ensure_future(process.ended())
        while (message := await process.channel.receive()) is not None:
            await self._hear(life, process, message)
        how = await ended
        del self._processes[life]
        del self._roles[life]
        if process.report is not None:
            self._exchange.retire(process.report)
        self._exchange.left(life)
        actions = self._pool.exited(life, f"(pid {process.pid}) {how}", self._clock.monotonic())
        if self._pool.doomed and self._failure is None and not self._stopping:
            self._failure = ConfigurationError(
                f"a worker cannot start: it {self._pool.doom}", hint="the log above may say more"
            )
        await self._do(actions)

    async def _hear(self, life: int, process: WorkerProcess, message: FromWorker) -> None:
        now_s = self._clock.monotonic()
        self._pool.heard(life, now_s)
        match message:
            case Report():
                process.report = message
                self._last_good |= {
                    each.model: each.version for each in message.models if each.default and each.fault is None
                }
                self._exchange.reported(life, message)
                self._tell_readiness()
            case Ready():
                await self._came_to_stand(life, process, message)
            case Failed(message=text, hint=hint):
                if not self._announced and self._failure is None:
                    self._failure = ConfigurationError(text, hint=hint)
                told = f"{text}; {hint}" if hint else text
                self._pool.failed(life, f"(pid {process.pid}) cannot start: {told}")
            case Ask():
                self._keep(self._exchange.answer(message, process.channel))
            case Applied():
                self._exchange.applied(life, message)

    async def _came_to_stand(self, life: int, process: WorkerProcess, ready: Ready) -> None:
        role = self._roles[life]
        if role not in self._introduced:
            self._introduced.add(role)
            for line in ready.lines:
                self._report(line)
        if ready.revision != self._exchange.wanted.revision:
            process.channel.send(self._exchange.wanted)  # clients ordered while it was loading
        process.channel.send(InstanceReady(self._ready))
        if role is Role.SERVE:
            workers = self._settings[self._pool.generation_of(life)].stream.workers if ready.streams else 0
            await self._do(self._pool.want_streams(workers, self._clock.monotonic()))
        await self._do(self._pool.ready(life, self._clock.monotonic()))
        if self._answering():
            self._stand_in.stop()
        self._announce()

    def _metrics_of_its_own(self) -> tuple[MetricFamily, ...]:
        return self._metrics.snapshot()

    def _answering(self) -> dict[int, WorkerProcess]:
        serving = self._pool.serving(self._clock.monotonic())
        return {life: self._processes[life] for life in serving if life in self._processes}

    def _announce(self) -> None:
        """Says where it listens, once all of the first workers stand."""
        if self._announced or len(self._answering()) < self._workers_wanted():
            return
        self._announced = True
        grpc = f" and for gRPC on port {self._grpc_port}" if self._grpc_port >= 0 else ""
        self._report(f"listening on {self._url()}{grpc}  (Ctrl-C stops)")

    def _tell_readiness(self) -> None:
        """Ready: somebody answers, and everybody who answers can answer for every model that is wanted."""
        answering = self._answering().values()
        reports = [process.report for process in answering]
        ready = bool(reports) and not self._stopping and all(each is None or each.ready for each in reports)
        if ready != self._ready:
            self._ready = ready
            for process in self._processes.values():
                process.channel.send(InstanceReady(ready))

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            now_s = self._clock.monotonic()
            await self._do(self._pool.tick(now_s))
            if self._answering():
                self._attended_s = now_s
                self._stand_in.stop()
            elif self._announced and not self._stopping and now_s - self._attended_s > UNATTENDED_S:
                await self._stand_in.start()

    def _measure(self) -> None:
        measures = (
            ("penstock_workers_wanted", "Worker processes that there should be.", self._workers_wanted),
            ("penstock_workers_serving", "Worker processes that serve.", lambda: len(self._answering())),
            ("penstock_ready", "Whether every model that is wanted can answer.", lambda: self._ready),
            (
                "penstock_streams_ready",
                "Whether every worker of streams gets on, with all its partitions.",
                lambda: self._status().streams_ready,
            ),
        )
        for name, text, read in measures:
            self._metrics.gauge(name, text, read)
        self._metrics.counter_read(
            "penstock_worker_restarts_total",
            "Workers that were started anew.",
            lambda: sum({view.number: view.restarts for view in self._pool.views()}.values()),
        )

    def _workers_wanted(self) -> int:
        return self._standing.server.workers

    @property
    def _standing(self) -> Settings:
        """The settings that hold: the last ones with which workers came to stand."""
        return self._settings[self._pool.proven_generation]

    # Signals

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop, True)
        loop.add_signal_handler(signal.SIGINT, self._stop, False)
        loop.add_signal_handler(signal.SIGHUP, self._reload)

    def _stop(self, graceful: bool) -> None:
        if self._stopping:
            self._end_now()
        self._stopping = True
        self._keep(self._drain(graceful))

    async def _drain(self, graceful: bool) -> None:
        """Not ready; a grace in which load balancers notice; then nothing new, and an end to what is there."""
        grace_s = self._standing.server.grace_s if graceful and self._announced else 0.0
        if self._announced:
            self._report("stopping: finishing the requests that were taken on")
        for process in self._processes.values():
            process.channel.send(Retire())
        await asyncio.sleep(grace_s)
        self._stand_in.stop()
        self._listener.close()
        await self._do(self._pool.stop(self._clock.monotonic()))

    def _end_now(self) -> NoReturn:
        for process in self._processes.values():
            process.kill()
        os._exit(1)

    def _reload(self) -> None:
        """Reads settings anew; workers with them replace the old ones. What cannot be used changes nothing."""
        if self._stopping or not self._announced:
            return
        try:
            settings = self._read_settings()
        except PenstockError as error:
            hint = f"; {error.hint}" if error.hint else ""
            self._report(f"error: the settings were not read again: {error.message}{hint}")
            return
        for name in ("host", "port", "grpc_port"):
            asked, kept = getattr(settings.server, name), getattr(self._settings[0].server, name)
            if asked != kept:
                self._report(f"server.{name} stays {kept}: changing it to {asked} takes a restart")
        self._generation += 1
        self._settings[self._generation] = settings
        self._report("reading settings and app file again")
        self._keep(self._do(self._pool.reload(_pool_config(settings), self._clock.monotonic())))

    # What it tells

    def _url(self) -> str:
        host = self._settings[0].server.host
        port = self._listener.getsockname()[1]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def _status(self) -> InstanceStatus:
        now_s = self._clock.monotonic()
        workers = []
        for view in self._pool.views():
            process = self._processes.get(view.life) if view.life is not None else None
            pid, report = (process.pid, process.report) if process is not None else (None, None)
            workers.append(worker_status(view, pid, report, now_s))
        return InstanceStatus(
            pid=os.getpid(),
            app=self._config.app,
            version=self._config.version,
            url=self._url() if self._listener.fileno() >= 0 else "",
            grpc_port=self._grpc_port,
            ready=self._ready,
            stopping=self._stopping,
            started_at=self._started_at,
            workers=tuple(workers),
            statistics=self._exchange.statistics(),
        )


def _pool_config(settings: Settings) -> PoolConfig:
    return PoolConfig(
        workers=settings.server.workers,
        start_timeout_s=settings.runtime.start_timeout_s + START_MARGIN_S,
        # For so long a function may hold the interpreter's lock; then the worker ends by itself.
        stream_silence_s=max(SILENCE_S_MIN, settings.stream.function_timeout_s + SILENCE_MARGIN_S),
        drain_timeout_s=settings.server.drain_s + DRAIN_MARGIN_S,
    )
