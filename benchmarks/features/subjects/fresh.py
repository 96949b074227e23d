"""From producing an event to reading the features that it makes, at a steady rate of single events.

`python -m benchmarks.features.subjects.fresh --folder FOLDER --rate N --seconds S` runs the app on one core,
and produces and reads on another. Now and then an event has a key that no other has: it is timed.
"""

import argparse
import json
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import compress
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.features.subjects.online_read import Strict
from benchmarks.harness.cores import Cores, pinned
from benchmarks.harness.penstock import Server
from benchmarks.harness.processes import Service, free_ports
from penstock.app.loading import load_app
from penstock.core.clock import SystemClock
from penstock.features.embedded import EmbeddedOnlineStore
from penstock.features.reader import ViewReader
from penstock.log.opening import open_log
from penstock.log.port import Log
from penstock.log.records import Records, TopicPartition

APP = Path(__file__).parents[1] / "fresh_app.py"
SOURCE = TopicPartition("departures", 0)
KEYS = 1000
PROBE_EVERY = 50
TICK_S = 0.001
WARM_SHARE = 0.25
LAST_S_MAX = 30.0
READY_S_MAX = 60.0


def key_of(number: int) -> str:
    return f"probe-{number}" if number % PROBE_EVERY == 0 else f"key-{number % KEYS}"


def produce(log: Log, count: int, rate: float, begin_s: float) -> None:
    """Each event by itself when it is due or as soon after as can be; none waits until others are durable."""
    encode = msgspec.json.Encoder().encode
    producer = log.producer()
    waiting: deque[Future[int]] = deque()
    sent = 0
    while sent < count:
        due = min(count, int((time.perf_counter() - begin_s) * rate))
        now_ms = int(time.time() * 1000)
        times = np.array([now_ms], np.int64)
        while sent < due:
            value = encode({"origin": key_of(sent), "delay": float(sent % 90), "at": now_ms})
            waiting.append(producer.append(SOURCE, Records(values=[value], times_ms=times)))
            sent += 1
        while waiting and waiting[0].done():
            waiting.popleft().result()
        time.sleep(TICK_S)
    producer.close()


def read(reader: ViewReader, count: int, rate: float, begin_s: float) -> dict[int, float]:
    """By number of the event when its features could be read."""
    seen: dict[int, float] = {}
    outstanding: list[int] = []
    following = 0
    until_s = begin_s + count / rate + LAST_S_MAX
    while len(seen) < -(-count // PROBE_EVERY) and time.perf_counter() < until_s:
        sent = min(count, int((time.perf_counter() - begin_s) * rate))
        outstanding += range(following, sent, PROBE_EVERY)
        following = outstanding[-1] + PROBE_EVERY if outstanding and outstanding[-1] >= following else following
        if outstanding:
            reading = reader.read([[key_of(number) for number in outstanding]])
            now_s = time.perf_counter()
            found = (reading.positions >= 0).tolist()
            assert (reading.columns[0][found] == 1).all(), "each of these keys has one event"
            seen |= dict.fromkeys(compress(outstanding, found), now_s)
            outstanding = [number for number in outstanding if number not in seen]
        time.sleep(TICK_S)
    return seen


@contextmanager
def serving(folder: Path, core: int) -> Iterator[None]:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "penstock", "run", str(APP), "--port", str(port)]
    environment = {"PENSTOCK_HOME": str(folder / "home")}
    log, cores = folder / "run.log", frozenset({core})
    with Service(command, cores=cores, log=log, folder=folder, environment=environment) as service:
        Server(service, home=folder / "home", port=port, grpc_port=-1, workers=2).wait_until_ready()
        yield


def wait_until_joined(log: Log) -> None:
    """Returns once the worker has the source's partition."""
    give_up_s = time.perf_counter() + READY_S_MAX
    while not any(SOURCE in member.partitions for member in log.admin.members("fresh")):
        assert time.perf_counter() < give_up_s, "the worker has not joined its group"
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    (options.folder / "home").mkdir(parents=True)
    cores, count = Cores.available(), round(options.rate * options.seconds)
    app, _ = load_app(str(APP))
    view = app.streams.features["congestion"].view
    home = options.folder / "home"
    with (
        pinned(cores.load),
        serving(options.folder, cores.server),
        open_log("", home, SystemClock()) as log,
    ):
        wait_until_joined(log)
        store = EmbeddedOnlineStore(home).reader()
        reader = ViewReader(view, store, lambda: int(time.time() * 1000), Strict())
        begin_s = time.perf_counter() + 0.1
        thread = threading.Thread(target=produce, args=(log, count, options.rate, begin_s))
        thread.start()
        seen = read(reader, count, options.rate, begin_s)
        thread.join()
    shutil.rmtree(options.folder)
    wanted = range(0, count, PROBE_EVERY)
    missing = [number for number in wanted if number not in seen]
    assert not missing, f"{len(missing)} of {len(wanted)} events came into no features"
    counted = [number for number in wanted if number >= count * WARM_SHARE]
    took_ms = np.array([seen[number] - (begin_s + number / options.rate) for number in counted]) * 1e3
    quantiles = {f"p{name}_ms": float(np.percentile(took_ms, name)) for name in (50, 99)}
    print(json.dumps({**quantiles, "max_ms": float(took_ms.max()), "probes": len(counted)}))


if __name__ == "__main__":
    main()
