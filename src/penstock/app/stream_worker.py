"""A `stream` process: `python -m penstock.app.stream_worker`, started and spoken to by its supervisor.

The engine has a thread of its own; the event loop listens to the supervisor and tells it how things stand, also
while a long batch is under way.
"""

import asyncio
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from penstock.app.declarations import App
from penstock.app.loading import load_app
from penstock.app.stream_metrics import StreamMetrics
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
from penstock.core.errors import ConfigurationError
from penstock.core.failpoints import FAILPOINT_VARIABLE, failpoints_of
from penstock.core.memory import collect_seldom, resident_bytes
from penstock.core.rng import unique_token
from penstock.core.settings import Settings
from penstock.features.embedded import EmbeddedOnlineStore
from penstock.log.opening import open_from_settings
from penstock.observe.metrics import MetricSet
from penstock.observe.process import add_process_metrics
from penstock.serving.features.counts import FeatureCounts
from penstock.streams.batch_size import BatchSizeConfig
from penstock.streams.checking import check_folders, check_state
from penstock.streams.feature_views.history_output import HistorySink
from penstock.streams.gathering import FolderSink
from penstock.streams.graph import Graph
from penstock.streams.lease import lease_for
from penstock.streams.topology import Topology, topology
from penstock.streams.worker import StreamWorker
from penstock.streams.worker_config import WorkerConfig
from penstock.supervision.messages import Ready, Report, Sample, Start, ToWorker

if TYPE_CHECKING:
    from penstock.app.scoring import ScoringModels

__all__ = ["main"]

log = logging.getLogger(__name__)


class _StreamProcess:
    """Works on an app's streams until it is told to drain or its supervisor ends."""

    def __init__(self, start: Start, channel: WorkerChannel, clock: Clock) -> None:
        app, file = load_app(start.app)
        if not app.has_streams:
            raise ConfigurationError(f"{file}: app {app.name!r} declares no streams")
        self._channel = channel
        self._drain_s = start.settings.server.drain_s
        self._log = open_from_settings(_with_long_lease(start.settings), clock)
        online = app.streams.graph.online = EmbeddedOnlineStore(Path(start.settings.home))
        self._topology = self._planned(app.streams.graph)
        for name in app.streams.graph.unused:
            log.warning("nothing of stream %r goes anywhere (hint: send it on with into())", name)
        self._metrics = MetricSet()
        add_process_metrics(self._metrics)
        looked_up = app.streams.looked_up
        looked_up.bind(online, clock, FeatureCounts(tuple(looked_up.views.values()), self._metrics, clock))
        self._told = StreamMetrics(self._metrics, self._topology)
        failpoints = failpoints_of(os.environ.get(FAILPOINT_VARIABLE))
        config = _worker_config(app.name, start)
        self._scoring = self._scoring_models(app, file, start.settings, clock)
        self._worker = StreamWorker(
            config, self._topology.by_source, self._log, clock, failpoints, self._topology.feeds
        )
        self._stop = threading.Event()
        self._fault: BaseException | None = None

    def _planned(self, graph: Graph) -> Topology:
        """The stages, and the topics that they need made where they are missing.

        Raises `ConfigurationError` for what cannot work with what is there.
        """
        admin = self._log.admin
        existing = {info.spec.name: info.spec.partitions for info in admin.topics()}
        planned = topology(graph, existing)
        sinks = [sent.sink for sent in graph.outputs.values()]
        check_folders(sink.folder for sink in sinks if isinstance(sink, FolderSink | HistorySink))
        check_state(admin, graph.app, planned.stages)
        admin.ensure_topics(planned.wanted(existing))
        return planned

    def _scoring_models(self, app: App, file: Path, settings: Settings, clock: Clock) -> "ScoringModels | None":
        """The models that streams are scored by, if any are."""
        if not app.streams.scorer.declared:
            return None
        # All that serves models comes with it, which a worker without any does without.
        from penstock.app.scoring import ScoringModels

        return ScoringModels(app, file, settings, self._metrics, clock)

    async def run(self, drain: asyncio.Event) -> None:
        """Works until `drain` is set. Raises what ended the engine before that."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def work() -> None:
            try:
                self._worker.run(self._stop)
            except BaseException as error:
                self._fault = error
            loop.call_soon_threadsafe(ended.set)

        if self._scoring is not None:
            await self._scoring.start()
        collect_seldom()
        thread = threading.Thread(target=work, name="streams", daemon=True)
        thread.start()
        self._channel.send(self._report())
        self._channel.send(Ready(tuple(self._lines()), 0))
        reporting = asyncio.ensure_future(self._report_for_ever())
        told = asyncio.ensure_future(drain.wait())
        over = asyncio.ensure_future(ended.wait())
        await asyncio.wait((told, over), return_when=asyncio.FIRST_COMPLETED)
        self._stop.set()
        # What it has begun it commits, and tells the group that it leaves.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_s):
                await over
        for task in (reporting, told, over):
            task.cancel()
        if self._scoring is not None and ended.is_set():
            await self._scoring.close()
        self._channel.send(self._report())
        await self._channel.flush()
        if self._fault is not None:
            raise self._fault
        if not thread.is_alive():
            self._log.close()

    def hear(self, message: ToWorker) -> None:
        """Does what the supervisor says."""
        if isinstance(message, Sample):
            self._channel.send(self._report(message.request))

    def orphaned(self) -> None:
        self._drain_s = min(self._drain_s, ORPHAN_DRAIN_S)

    async def _report_for_ever(self) -> None:
        while True:
            await asyncio.sleep(REPORT_EVERY_S)
            self._channel.send(self._report())

    def _report(self, request: int | None = None) -> Report:
        worker = self._worker
        streams = worker.status
        self._told.tell(streams)
        problems = {f"{each.topic}/{each.partition}": each.problem for each in streams if each.problem}
        if worker.problem is not None:
            problems["streams"] = worker.problem
        ready = not problems
        if self._scoring is not None:
            ready = ready and not self._scoring.faults
            problems |= {f"model {model}": problem for model, problem in self._scoring.problems.items()}
        return Report(
            request=request,
            ready=ready,
            connections=0,
            resident_bytes=resident_bytes(),
            models=(),
            problems=problems,
            metrics=self._metrics.snapshot(),
            statistics=(),
            streams=streams,
        )

    def _lines(self) -> Iterator[str]:
        for stage in self._topology.stages:
            count = f"{stage.partitions} partitions" if stage.partitions > 1 else "1 partition"
            ends = ", ".join(output.name for output in stage.outputs)
            yield f"  stream {stage.name}  from topic {stage.source}, {count}{f'  {ends}' if ends else ''}"
        if self._scoring is not None:
            yield from self._scoring.lines()
        for feed in self._topology.feeds:
            yield f"  feed {feed.name}  from {feed.source.title} to topic {feed.target}"


def _with_long_lease(settings: Settings) -> Settings:
    """One dies by its timer, or by its supervisor, before its lease is over; whoever is dead has none."""
    lease_s = lease_for(settings.log.lease_s, settings.stream.function_timeout_s)
    return msgspec.structs.replace(settings, log=msgspec.structs.replace(settings.log, lease_s=lease_s))


def _worker_config(app: str, start: Start) -> WorkerConfig:
    settings = start.settings.stream
    return WorkerConfig(
        group=app,
        # Its own: a worker that replaces another stands beside it for a while.
        identity=f"{app}.{start.number}.{unique_token(4)}",
        folder=Path(start.settings.home) / "streams" / app,
        batch=BatchSizeConfig(
            target_ms=settings.batch_ms,
            rows_min=min(100, settings.rows_max),
            rows_max=settings.rows_max,
            bytes_max=settings.bytes_max,
        ),
        snapshot_bytes=settings.snapshot_bytes,
        snapshot_every_s=settings.snapshot_every_s,
        timeout_s=settings.function_timeout_s,
        own_process=True,
    )


def main() -> None:
    descriptor, lifeline = (int(number) for number in sys.argv[1:3])
    supervised(lifeline, (descriptor, lifeline))

    async def life() -> int:
        channel = await open_channel(descriptor)
        return await begin(
            channel, "stream worker", lambda start: _StreamProcess(start, channel, SystemClock())
        )

    end_process(asyncio.run(life()))


if __name__ == "__main__":
    main()
