"""The pipeline from the log and back into it, exactly once: how long a worker takes for what lies in a topic.

`python -m benchmarks.streams.subjects.log_pipeline --events FILE --model FILE --count N --folder FOLDER`
"""

import argparse
import json
import os
import shutil
import threading
import time
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.streams.peers.contest import Results, checksum
from penstock.core.clock import SystemClock
from penstock.core.memory import collect_seldom
from penstock.log.opening import open_log
from penstock.log.port import Log
from penstock.log.records import Records, TopicPartition
from penstock.streams.topology import topology
from penstock.streams.worker import StreamWorker
from penstock.streams.worker_config import WorkerConfig

FRAME = 500
SOURCE, TARGET = TopicPartition("departures", 0), TopicPartition("predictions", 0)
WAIT_S = 0.01
RUN_S_MAX = 240.0


class Prediction(msgspec.Struct):
    flight_id: int
    departures: int
    mean_delay: float
    worst_delay: int
    probability: float


def worker_of(log: Log, folder: Path, model: Path) -> StreamWorker:
    """Of the app, its topics made."""
    os.environ["BENCH_MODEL_ONNX"] = str(model)
    from benchmarks.streams.subjects.app import app

    planned = topology(app.streams.graph, {})
    log.admin.ensure_topics(planned.topics)
    config = WorkerConfig(group=app.name, identity="worker", folder=folder / "streams")
    return StreamWorker(config, planned.by_source, log, SystemClock())


def produce(log: Log, values: list[bytes]) -> None:
    producer = log.producer()
    futures = []
    for begin in range(0, len(values), FRAME):
        frame = values[begin : begin + FRAME]
        times_ms = np.full(len(frame), 1_700_000_000_000, dtype=np.int64)
        futures.append(producer.append(SOURCE, Records(values=frame, times_ms=times_ms)))
    for future in futures:
        future.result()
    producer.close()


def wait_until_done(log: Log, thread: threading.Thread, group: str, end: int) -> None:
    """Returns once the group has committed all of the source."""
    give_up_s = time.perf_counter() + RUN_S_MAX
    while not any(lag.source == SOURCE and (lag.committed or 0) >= end for lag in log.admin.lags(group)):
        assert thread.is_alive(), "the worker has ended"
        assert time.perf_counter() < give_up_s, f"the worker had not done it all after {RUN_S_MAX:.0f} s"
        time.sleep(WAIT_S)


def results(log: Log) -> Results:
    """All that is in the target topic."""
    decode = msgspec.json.Decoder(Prediction).decode
    rows: list[tuple[object, ...]] = []
    offset = 0
    while (fetched := log.admin.read(TARGET, offset, records_max=50_000)).records.values:
        rows += map(msgspec.structs.astuple, map(decode, fetched.records.values))
        offset = fetched.next_offset
    return Results(*zip(*rows, strict=True))


def timed_run(worker: StreamWorker, log: Log, values: list[bytes]) -> float:
    """The seconds until the worker has done what was in its topic before it began."""
    produce(log, values)
    collect_seldom()  # as the app's process does
    stop = threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    begun_s = time.perf_counter()
    thread.start()
    try:
        wait_until_done(log, thread, "late", len(values))
        return time.perf_counter() - begun_s
    finally:
        stop.set()
        thread.join()


def prepared() -> tuple[argparse.Namespace, list[bytes]]:
    """What is asked for, and its events; the folder is there and empty."""
    options = arguments()
    with options.events.open("rb") as file:
        values = file.read().split(b"\n", options.count)[: options.count]
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    return options, values


def main() -> None:
    options, values = prepared()
    with open_log("", options.folder, SystemClock()) as log:
        took_s = timed_run(worker_of(log, options.folder, options.model), log, values)
        seen = {"seconds": took_s, "events": len(values), "checksum": checksum(results(log))}
    shutil.rmtree(options.folder)
    print(json.dumps(seen))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("events", "model", "folder"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--count", type=int, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
