"""Several generators, a process each: begun together, watched, and their recordings put together."""

import asyncio
import gc
import multiprocessing
import multiprocessing.connection
import resource
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import uvloop

from penstock.core.clock import Clock, SystemClock
from penstock.core.errors import PenstockError
from penstock.core.rng import seeded
from penstock.drills.surge.generator import Generator, GeneratorUse
from penstock.drills.surge.plan import Plan
from penstock.drills.surge.quantiles import Counts
from penstock.drills.surge.recording import Outcome, Recording
from penstock.drills.surge.schedule import draw_schedule

__all__ = ["Fleet", "FleetResult", "Progress"]

OPENING_S_MAX = 60.0
ENDING_S_MAX = 30.0
START_AFTER_S = 0.2
PROGRESS_S = 0.5
SPARE_FILES = 64


class Progress(NamedTuple):
    """All that came until now."""

    elapsed_s: float
    offered: int
    outcomes: Counts
    """By `Outcome`."""
    shed: dict[str, int]
    latency: Counts


class FleetResult(NamedTuple):
    """What the whole fleet has recorded, and what each process needed."""

    recording: Recording
    use: tuple[GeneratorUse, ...]
    processor_shares: tuple[float, ...]
    connections_failed: int
    stopped: bool
    cut: bool
    """Whether the limit on requests ended it early."""


class _Done(NamedTuple):
    recording: Recording
    use: GeneratorUse
    processor_share: float
    connections_failed: int
    cut: bool


class Fleet:
    """Runs a plan. Ctrl-C ends it early, with what was recorded; a second one ends it for good."""

    def __init__(self, plan: Plan, *, clock: Clock | None = None) -> None:
        self._plan = plan
        self._clock = clock or SystemClock()
        self._channels: list[Any] = []
        self._orders: list[Any] = []
        self._processes: list[Any] = []
        self._stopped = False

    def run(self, watch: Callable[[Progress], None]) -> FleetResult:
        """Blocks until all have ended. Raises `PenstockError` where none could connect, or one died."""
        context = multiprocessing.get_context("spawn")
        try:
            for index in range(self._plan.processes):
                told, telling = context.Pipe(duplex=False)
                orders, ordering = context.Pipe(duplex=False)
                ends = (orders, telling)
                process = context.Process(target=_generate, args=(self._plan, index, *ends), daemon=True)
                process.start()
                for end in ends:
                    end.close()
                self._channels.append(told)
                self._orders.append(ordering)
                self._processes.append(process)
            self._gather("ready", OPENING_S_MAX, lambda _: None)
            at_s = self._clock.monotonic() + START_AFTER_S
            self._tell(("start", at_s))
            latest: dict[int, Progress] = {}

            def note(progress: tuple[int, Progress]) -> None:
                latest[progress[0]] = progress[1]
                watch(_together(list(latest.values())))

            load = self._plan.load
            done = self._gather("done", load.shape.duration_s + load.timeout_s + ENDING_S_MAX, note)
        finally:
            self._end()
        return self._result(done)

    def _gather(self, wanted: str, seconds_max: float, told: Callable[[Any], None]) -> list[Any]:
        """One message of this kind from each."""
        until_s = self._clock.monotonic() + seconds_max
        found: dict[int, Any] = {}
        while len(found) < len(self._channels):
            open_ones = [each for index, each in enumerate(self._channels) if index not in found]
            try:
                for channel in multiprocessing.connection.wait(open_ones, timeout=PROGRESS_S):
                    index = self._channels.index(channel)
                    word, value = self._channels[index].recv()
                    if word == "failed":
                        raise PenstockError(value, hint="is it running, and does it allow so many connections?")
                    if word == wanted:
                        found[index] = value
                    elif word == "progress":
                        told((index, value))
            except KeyboardInterrupt:
                if self._stopped or wanted == "ready":
                    raise
                self._stopped = True
                self._tell(("stop", None))
            except (EOFError, OSError):
                raise PenstockError("a process of the generator died", hint="is there memory for it?") from None
            if self._clock.monotonic() > until_s:
                raise PenstockError(f"the generator was not {wanted} within {seconds_max:.0f} s")
        return list(found.values())

    def _tell(self, message: tuple[str, Any]) -> None:
        for orders in self._orders:
            with suppress(OSError):
                orders.send(message)

    def _end(self) -> None:
        for channel in (*self._channels, *self._orders):
            channel.close()
        for process in self._processes:
            process.join(1.0)
            if process.is_alive():
                process.kill()
                process.join()

    def _result(self, done: Sequence[_Done]) -> FleetResult:
        load = self._plan.load
        whole = Recording(duration_s=load.shape.duration_s, kinds=len(load.mix))
        for each in done:
            whole.merge(each.recording)
        return FleetResult(
            recording=whole,
            use=tuple(each.use for each in done),
            processor_shares=tuple(each.processor_share for each in done),
            connections_failed=sum(each.connections_failed for each in done),
            stopped=self._stopped,
            cut=any(each.cut for each in done),
        )


def _together(parts: list[Progress]) -> Progress:
    shed: dict[str, int] = {}
    for part in parts:
        for reason, count in part.shed.items():
            shed[reason] = shed.get(reason, 0) + count
    return Progress(
        elapsed_s=max(part.elapsed_s for part in parts),
        offered=sum(part.offered for part in parts),
        outcomes=np.sum([part.outcomes for part in parts], axis=0),
        shed=shed,
        latency=np.sum([part.latency for part in parts], axis=0),
    )


# What runs in each process.


def _generate(plan: Plan, index: int, orders: Any, channel: Any) -> None:
    """Two pipes: an event loop that reads one makes it non-blocking, and a recording is too large for that."""
    # Ctrl-C goes to the whole group; the one who watches decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            done = runner.run(_share(plan, index, orders, channel))
        channel.send(("done", done))
    except (OSError, EOFError) as error:
        with suppress(OSError):
            channel.send(("failed", f"{plan.target.host}:{plan.target.port} cannot be reached: {error}"))


async def _share(plan: Plan, index: int, orders: Any, channel: Any) -> _Done:
    load, clock = plan.load, SystemClock()
    connections = len(range(index, plan.connections, plan.processes))
    _allow_files(connections + SPARE_FILES)
    weights = tuple(kind.weight for kind in load.mix)
    schedule = draw_schedule(load.shape, weights, seeded(load.seed), requests_max=load.requests_max)
    own = schedule.share(index, plan.processes)
    if plan.closed_loop:
        own = own._replace(at_s=own.at_s[:0], kind=own.kind[:0], cut=False)
    generator = Generator(plan, own, clock, connections=connections)
    opened = await generator.open()
    # What is here now stays: nothing of it has to be looked through again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    channel.send(("ready", None))
    loop = asyncio.get_running_loop()
    started: asyncio.Future[float] = loop.create_future()
    loop.add_reader(orders.fileno(), _listen, orders, started, generator)
    at_s = await started
    telling = loop.create_task(_tell_progress(channel, generator, clock, at_s))
    used_s = time.process_time()
    use = await generator.run(at_s)
    processor_share = (time.process_time() - used_s) / max(clock.monotonic() - at_s, 1e-3)
    telling.cancel()
    loop.remove_reader(orders.fileno())
    return _Done(generator.recording, use, processor_share, connections - opened, own.cut)


def _listen(orders: Any, started: "asyncio.Future[float]", generator: Generator) -> None:
    try:
        word, value = orders.recv()
    except (EOFError, OSError):
        # Who watches has gone, and nobody wants the figures.
        asyncio.get_running_loop().remove_reader(orders.fileno())
        word, value = "stop", None
        if not started.done():
            started.set_exception(EOFError("nobody watches"))
    if word == "start":
        started.set_result(value)
    elif word == "stop":
        generator.stop()


async def _tell_progress(channel: Any, generator: Generator, clock: Clock, at_s: float) -> None:
    while True:
        await asyncio.sleep(PROGRESS_S)
        recording = generator.recording
        by_label = recording.by_label[:, :, Outcome.SHED].sum(axis=0)
        shed = {name: int(by_label[index]) for index, name in enumerate(recording.labels) if by_label[index]}
        progress = Progress(
            elapsed_s=clock.monotonic() - at_s,
            offered=generator.offered,
            outcomes=recording.counts.sum(axis=(0, 1)),
            shed=shed,
            latency=recording.latency.sum(axis=0),
        )
        with suppress(OSError):
            channel.send(("progress", progress))


def _allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        limit = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
