"""How fast the embedded log makes events durable, beside what bare SQLite and a bare file take in the same run.

`python -m benchmarks.streams.subjects.log_writes --events FILE --folder FOLDER --count N`
"""

import argparse
import asyncio
import json
import os
import shutil
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import numpy as np

from benchmarks.harness.report import median
from penstock.core.clock import SystemClock
from penstock.log.async_producer import AsyncProducer
from penstock.log.opening import open_log
from penstock.log.port import Producer, TopicSpec
from penstock.log.records import Records, TopicPartition

FRAME = 500
IN_FLIGHT_MAX = 64
"""Frames appended and not yet durable."""
FRAMES_A_COMMIT = 32
"""Of bare SQLite and the bare file: about as many as the log's writer finds waiting."""
PRODUCERS = 64
TARGET = TopicPartition("departures", 0)


def records(values: list[bytes]) -> Records:
    return Records(values=values, times_ms=np.full(len(values), 1_357_000_000_000, dtype=np.int64))


def produce_frames(producer: Producer, values: list[bytes]) -> float:
    """Events a second, until all of them are durable."""
    frames = [records(values[begin : begin + FRAME]) for begin in range(0, len(values), FRAME)]
    waiting: deque[Future[int]] = deque()
    begun_s = time.perf_counter()
    for frame in frames:
        waiting.append(producer.append(TARGET, frame))
        if len(waiting) == IN_FLIGHT_MAX:
            waiting.popleft().result()
    for future in waiting:
        future.result()
    return len(values) / (time.perf_counter() - begun_s)


def produce_singles(producer: Producer, value: bytes, producers: int, seconds: float) -> float:
    """Appends of one record a second, each producer waiting until its own is durable."""
    counts = [0] * producers
    record = records([value])
    end_s = time.perf_counter() + seconds

    def run(number: int) -> None:
        while time.perf_counter() < end_s:
            producer.append(TARGET, record).result()
            counts[number] += 1

    threads = [threading.Thread(target=run, args=(number,)) for number in range(producers)]
    begun_s = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - begun_s)


def produce_singles_in_loop(producer: Producer, value: bytes, producers: int, seconds: float) -> float:
    """Likewise, with the producers as tasks of one event loop."""
    record = records([value])

    async def run(tasks: AsyncProducer, end_s: float) -> int:
        count = 0
        while time.perf_counter() < end_s:
            await tasks.append(TARGET, record)
            count += 1
        return count

    async def run_all() -> int:
        tasks = AsyncProducer(producer)
        end_s = time.perf_counter() + seconds
        return sum(await asyncio.gather(*(run(tasks, end_s) for _ in range(producers))))

    begun_s = time.perf_counter()
    return asyncio.run(run_all()) / (time.perf_counter() - begun_s)


def bare_sqlite(folder: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS frames (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")
    return connection


def insert_frames(connection: sqlite3.Connection, values: list[bytes], frame: int, frames: int) -> float:
    """Events a second into bare SQLite: the bytes of each frame in a row, some frames a transaction."""
    begun_s = time.perf_counter()
    for begin in range(0, len(values), frame * frames):
        connection.execute("BEGIN IMMEDIATE")
        for at in range(begin, min(begin + frame * frames, len(values)), frame):
            connection.execute("INSERT INTO frames (body) VALUES (?)", (b"".join(values[at : at + frame]),))
        connection.execute("COMMIT")
    return len(values) / (time.perf_counter() - begun_s)


def write_frames(file: int, values: list[bytes], frame: int, frames: int) -> float:
    """Events a second into a bare file, synced as often as bare SQLite commits."""
    begun_s = time.perf_counter()
    for begin in range(0, len(values), frame * frames):
        os.write(file, b"".join(values[begin : begin + frame * frames]))
        os.fdatasync(file)
    return len(values) / (time.perf_counter() - begun_s)


def repeated(repeats: int, measures: dict[str, Callable[[], float]]) -> dict[str, float | None]:
    """The median of each, all of them in turn."""
    seen: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(repeats):
        for name, measure in measures.items():
            seen[name].append(measure())
    return {name: median(values) for name, values in seen.items()}


def main() -> None:
    options = arguments()
    values = options.events.read_bytes().split(b"\n", options.count)[: options.count]
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    file = os.open(options.folder / "bare", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    bare = bare_sqlite(options.folder)
    few = values[: options.singles]
    with open_log("", options.folder, SystemClock()) as log:
        log.admin.ensure_topics([TopicSpec(name=TARGET.topic)])
        producer = log.producer()
        produce_frames(producer, values[: FRAME * IN_FLIGHT_MAX])
        seconds = options.seconds
        medians = repeated(
            options.repeats,
            {
                "produce": lambda: produce_frames(producer, values),
                "sqlite": lambda: insert_frames(bare, values, FRAME, FRAMES_A_COMMIT),
                "file": lambda: write_frames(file, values, FRAME, FRAMES_A_COMMIT),
                "singles": lambda: produce_singles(producer, values[0], PRODUCERS, seconds),
                "singles_in_loop": lambda: produce_singles_in_loop(producer, values[0], PRODUCERS, seconds),
                "singles_lone": lambda: produce_singles(producer, values[0], 1, seconds),
                "singles_sqlite_grouped": lambda: insert_frames(bare, few, 1, PRODUCERS),
                "singles_sqlite_lone": lambda: insert_frames(bare, few, 1, 1),
                "singles_file_lone": lambda: write_frames(file, few, 1, 1),
            },
        )
        producer.close()
    os.close(file)
    bare.close()
    shutil.rmtree(options.folder)
    print(json.dumps(medians))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--singles", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=1.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
