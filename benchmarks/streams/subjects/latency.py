"""From producing an event to reading its result, with a worker in between, at a steady rate of single events.

`python -m benchmarks.streams.subjects.latency --events FILE --model FILE --folder FOLDER --rate N --seconds S`
runs the worker on one core (`--worker` is that process) and produces and reads on another.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import Future
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks.harness.cores import Cores, pinned
from benchmarks.streams.subjects.log_pipeline import SOURCE, TARGET, worker_of
from penstock.core.clock import SystemClock
from penstock.core.memory import collect_seldom
from penstock.log.opening import open_log
from penstock.log.port import Log, RebalanceListener
from penstock.log.records import Records

TICK_S = 0.001
WARM_SHARE = 0.25
READY_S_MAX = 30.0
LAST_S_MAX = 20.0


class Flight(msgspec.Struct):
    flight_id: int


class Ignored(RebalanceListener):
    """There is one reader: it is told nothing that it has to act on."""

    def assigned(self, partitions: object) -> None: ...

    def revoked(self, partitions: object) -> None: ...

    def lost(self, partitions: object) -> None: ...


def produce(log: Log, values: list[bytes], due_s: npt.NDArray[np.float64]) -> None:
    """Each event by itself when it is due or as soon after as can be; none waits until others are durable."""
    producer = log.producer()
    waiting: deque[Future[int]] = deque()
    sent = 0
    now_ms = np.array([1_700_000_000_000], dtype=np.int64)
    while sent < len(values):
        now_s = time.perf_counter()
        while sent < len(values) and due_s[sent] <= now_s:
            waiting.append(producer.append(SOURCE, Records(values=values[sent : sent + 1], times_ms=now_ms)))
            sent += 1
        while waiting and waiting[0].done():
            waiting.popleft().result()
        time.sleep(TICK_S)
    producer.close()


def read(log: Log, expected: int, end_s: float) -> dict[int, float]:
    """By flight when its result was read."""
    decode = msgspec.json.Decoder(Flight).decode
    consumer = log.consumer("reader")
    consumer.subscribe([TARGET.topic], Ignored())
    seen: dict[int, float] = {}
    while len(seen) < expected and time.perf_counter() < end_s:
        for fetched in consumer.poll(records_max=10_000, bytes_max=1 << 24, timeout_s=0.5):
            now_s = time.perf_counter()
            seen.update((decode(value).flight_id, now_s) for value in fetched.records.values)
    consumer.close()
    return seen


def measure(log: Log, values: list[bytes], rate: float) -> dict[str, float]:
    decode = msgspec.json.Decoder(dict).decode
    kept = [event["flight_id"] for event in map(decode, values) if event["dep_delay"] is not None]
    due_s = time.perf_counter() + 0.1 + np.arange(len(values)) / rate
    thread = threading.Thread(target=produce, args=(log, values, due_s))
    thread.start()
    seen = read(log, len(kept), float(due_s[-1]) + LAST_S_MAX)
    thread.join()
    missing = [flight for flight in kept if flight not in seen]
    assert not missing, (
        f"{len(missing)} of {len(kept)} results had not come {LAST_S_MAX:.0f} s after the last event"
    )
    counted = [flight for flight in kept if flight >= len(values) * WARM_SHARE]
    took_ms = np.array([seen[flight] - due_s[flight] for flight in counted]) * 1e3
    quantiles = {f"p{name}_ms": float(np.percentile(took_ms, float(name))) for name in ("50", "99", "99.9")}
    return {**quantiles, "max_ms": float(took_ms.max()), "events": len(counted)}


def wait_until_ready(log: Log, worker: subprocess.Popen[bytes]) -> None:
    """Returns once the worker has the source's partition."""
    give_up_s = time.perf_counter() + READY_S_MAX
    while not any(SOURCE in member.partitions for member in log.admin.members("late")):
        assert worker.poll() is None, "the worker has ended"
        assert time.perf_counter() < give_up_s, "the worker has not joined its group"
        time.sleep(0.05)


def run_worker(folder: Path, model: Path) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with open_log("", folder, SystemClock()) as log:
        worker = worker_of(log, folder, model)
        collect_seldom()  # as the app's process does
        # A signal wakes only the main thread, so the worker has one of its own.
        thread = threading.Thread(target=worker.run, args=(stop,))
        thread.start()
        thread.join()


def main() -> None:
    options = arguments()
    if options.worker:
        run_worker(options.folder, options.model)
        return
    cores = Cores.available()
    count = round(options.rate * options.seconds)
    with options.events.open("rb") as file:
        values = file.read().split(b"\n", count)[:count]
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    with pinned(cores.load), open_log("", options.folder, SystemClock()) as log:
        worker_of(log, options.folder, options.model)
        with pinned(cores.server):
            worker = subprocess.Popen([sys.executable, "-m", __spec__.name, *sys.argv[1:], "--worker"])
        try:
            wait_until_ready(log, worker)
            seen = measure(log, values, options.rate)
        finally:
            worker.terminate()
            worker.wait()
    shutil.rmtree(options.folder)
    print(json.dumps(seen))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("events", "model", "folder"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=10_000.0)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--worker", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
