"""Scores from the log and into it, exactly once: how long a worker takes for what lies in a topic.

`python -m benchmarks.features.subjects.scored --events FILE --model FILE --count N --folder FOLDER`
"""

import asyncio
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import msgspec

from benchmarks.features.subjects import scored_app
from benchmarks.streams.peers.contest import Results, checksum
from benchmarks.streams.subjects.log_pipeline import TARGET, prepared, timed_run
from penstock.app.scoring import ScoringModels
from penstock.core.clock import SystemClock
from penstock.core.settings import Settings
from penstock.features.embedded import EmbeddedOnlineStore
from penstock.log.opening import open_log
from penstock.log.port import Log
from penstock.observe.metrics import MetricSet
from penstock.streams.topology import topology
from penstock.streams.worker import StreamWorker
from penstock.streams.worker_config import WorkerConfig


class Scored(msgspec.Struct):
    flight_id: int
    departures: int
    mean_delay: float
    worst_delay: int
    probabilities: tuple[float, float]


def push(model: Path, home: Path) -> None:
    command = [sys.executable, "-m", "penstock", "model", "push", "late", str(model), "--alias", "champion"]
    subprocess.run([*command, "--set", f"home={home}"], check=True, capture_output=True)


def models_of(home: Path) -> tuple[ScoringModels, asyncio.AbstractEventLoop]:
    """Loaded, in an event loop of another thread, as in a stream worker's process."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    async def load() -> ScoringModels:
        settings, clock = Settings(home=str(home)), SystemClock()
        models = ScoringModels(scored_app.app, Path(scored_app.__file__), settings, MetricSet(), clock)
        await models.start()
        return models

    return asyncio.run_coroutine_threadsafe(load(), loop).result(), loop


def worker_of(log: Log, home: Path) -> StreamWorker:
    """Of the app, its topics made."""
    graph = scored_app.app.streams.graph
    graph.online = EmbeddedOnlineStore(home)
    planned = topology(graph, {})
    log.admin.ensure_topics(planned.topics)
    config = WorkerConfig(group="late", identity="worker", folder=home / "streams")
    return StreamWorker(config, planned.by_source, log, SystemClock())


def results(log: Log) -> Results:
    """All that is in the target topic."""
    decode = msgspec.json.Decoder(Scored).decode
    rows: list[tuple[object, ...]] = []
    offset = 0
    while (fetched := log.admin.read(TARGET, offset, records_max=50_000)).records.values:
        for value in fetched.records.values:
            row = decode(value)
            window = (row.departures, row.mean_delay, row.worst_delay)
            rows.append((row.flight_id, *window, row.probabilities[1]))
        offset = fetched.next_offset
    return Results(*zip(*rows, strict=True))


def main() -> None:
    options, values = prepared()
    push(options.model, options.folder)
    models, loop = models_of(options.folder)
    with open_log("", options.folder, SystemClock()) as log:
        took_s = timed_run(worker_of(log, options.folder), log, values)
        seen = {"seconds": took_s, "events": len(values), "checksum": checksum(results(log))}
    asyncio.run_coroutine_threadsafe(models.close(), loop).result()
    shutil.rmtree(options.folder)
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
