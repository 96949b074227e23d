"""The worker's loop over a real log: what fails is tried again, and what cannot work is set aside."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import penstock as ps
from penstock.core.clock import SystemClock
from penstock.log.opening import open_log
from penstock.log.port import Log
from penstock.log.records import Fetched, Records, TopicPartition
from penstock.streams.intake import Instant
from penstock.streams.stage import Stage, StageResult
from penstock.streams.topology import topology
from penstock.streams.worker import StreamWorker
from penstock.streams.worker_config import WorkerConfig

PATIENCE_S = 30.0


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with open_log("", tmp_path, SystemClock()) as opened:
        yield opened


def declared() -> tuple[ps.App, Any]:
    app = ps.App("working")
    return app, app.stream("numbers", schema={"number": pl.Int64}, partitions=2, idle=None)


@contextmanager
def working(app: ps.App, log: Log, folder: Path) -> Iterator[StreamWorker]:
    planned = topology(app.streams.graph, {})
    log.admin.ensure_topics(planned.topics)
    config = WorkerConfig(group="working", identity="one", folder=folder / "streams", tick_s=0.02)
    worker = StreamWorker(config, planned.by_source, log, SystemClock())
    stop = threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    try:
        yield worker
    finally:
        stop.set()
        thread.join()


def produce(log: Log, numbers: range, partition: int = 0) -> None:
    values = [json.dumps({"number": number}).encode() for number in numbers]
    times_ms = np.arange(len(values), dtype=np.int64)
    producer = log.producer()
    producer.append(TopicPartition("numbers", partition), Records(values=values, times_ms=times_ms)).result()
    producer.close()


def numbers(log: Log, topic: str, partition: int = 0) -> list[int]:
    fetched = log.admin.read(TopicPartition(topic, partition), 0, records_max=10_000)
    return [json.loads(value)["number"] for value in fetched.records.values]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_a_sink_that_cannot_be_reached_is_called_again_until_it_returns(log: Log, tmp_path: Path) -> None:
    app, stream = declared()
    calls: list[tuple[list[int], ps.app.sinks.Batch]] = []  # type: ignore[name-defined]

    def deliver(frame: pl.DataFrame, batch: Any) -> None:
        calls.append((frame["number"].to_list(), batch))
        if len(calls) < 4:
            raise ps.StorageFailed("not there yet")

    stream.into(ps.call(deliver))
    stream.into("out")
    with working(app, log, tmp_path):
        produce(log, range(10))
        wait_for(lambda: numbers(log, "out") == list(range(10)))
    assert [rows for rows, _ in calls] == [list(range(10))] * 4
    batch = calls[-1][1]
    assert (batch.stage, batch.partition, batch.first_offset, batch.last_offset) == ("numbers", 0, 0, 9)


def test_what_waits_for_a_sink_is_told(log: Log, tmp_path: Path) -> None:
    app, stream = declared()

    def deliver(frame: pl.DataFrame) -> None:
        raise ps.StorageFailed("not there yet")

    stream.into(ps.call(deliver))
    with working(app, log, tmp_path) as worker:
        produce(log, range(10))
        wait_for(lambda: sum(each.lag for each in worker.status if each.state == "waiting") == 10)
        told = [each.problem for each in worker.status if each.problem]
    assert [each.endswith("deliver: not there yet") for each in told] == [True]


def test_rows_that_a_sink_raises_on_become_dead_letters_and_the_others_keep_their_order(
    log: Log, tmp_path: Path
) -> None:
    app, stream = declared()
    taken: list[int] = []

    def deliver(frame: pl.DataFrame) -> None:
        numbers = frame["number"].to_list()
        if 3 in numbers or 77 in numbers:
            raise ValueError(f"{len(numbers)} rows")
        taken.extend(numbers)

    stream.into(ps.call(deliver))
    stream.into("out")
    with working(app, log, tmp_path):
        produce(log, range(100))
        wait_for(lambda: len(numbers(log, "out")) == 100 and len(numbers(log, "numbers.dead")) == 2)
    assert taken == [number for number in range(100) if number not in (3, 77)]
    assert numbers(log, "numbers.dead") == [3, 77]
    fetched = log.admin.read(TopicPartition("numbers.dead", 0), 0, records_max=1)
    assert fetched.records.headers is not None
    headers = fetched.records.headers[0]
    assert headers is not None
    assert (headers["penstock-reason"], headers["penstock-detail"]) == (b"raised", b"ValueError: 1 rows")


def test_records_that_a_stage_breaks_on_are_set_aside(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in a function of the user, which is halved by itself: in what nobody thought of."""
    app, stream = declared()
    stream.into("out", partitions=2)
    process = Stage.process

    def breaking(self: Stage, fetched: Fetched, instant: Instant) -> StageResult:
        if any(b" 7}" in value or b" 42}" in value for value in fetched.records.values):
            raise ArithmeticError("nobody thought of it")
        return process(self, fetched, instant)

    monkeypatch.setattr(Stage, "process", breaking)
    with working(app, log, tmp_path):
        produce(log, range(100))
        produce(log, range(200, 250), partition=1)
        wait_for(lambda: len(numbers(log, "out")) == 98 and len(numbers(log, "out", 1)) == 50)
    assert numbers(log, "out") == [number for number in range(100) if number not in (7, 42)]
    assert numbers(log, "numbers.dead") == [7, 42]
    fetched = log.admin.read(TopicPartition("numbers.dead", 0), 0, records_max=1)
    assert fetched.records.headers is not None
    headers = fetched.records.headers[0]
    assert headers is not None
    assert headers["penstock-reason"] == b"raised"
    assert headers["penstock-detail"] == b"ArithmeticError: nobody thought of it"


def test_a_group_that_was_reset_begins_anew(log: Log, tmp_path: Path) -> None:
    app = ps.App("working")
    stream = app.stream("numbers", schema={"number": pl.Int64}, lateness="1h", idle=None)
    stream = stream.with_columns(all=pl.lit("all"))
    view = stream.window(key="all", over="1h").agg(count=ps.count())
    stream.enrich(view).into("counted")
    with working(app, log, tmp_path):
        produce(log, range(10))
        wait_for(lambda: counts(log) == list(range(1, 11)))
    log.admin.reset("working", {TopicPartition("numbers", 0): 4})
    with working(app, log, tmp_path):
        wait_for(lambda: counts(log) == [*range(1, 11), *range(1, 7)])
    with working(app, log, tmp_path):
        produce(log, range(10, 12))
        wait_for(lambda: counts(log) == [*range(1, 11), *range(1, 9)])


def counts(log: Log) -> list[int]:
    fetched = log.admin.read(TopicPartition("counted", 0), 0, records_max=10_000)
    return [json.loads(value)["count"] for value in fetched.records.values]


def test_a_changed_step_stands_still_and_says_so(log: Log, tmp_path: Path) -> None:
    app, stream = declared()
    stream.deduplicate("number", within="1h", name="once").into("out")
    with working(app, log, tmp_path):
        produce(log, range(10))
        wait_for(lambda: len(numbers(log, "out")) == 10)
    app, stream = declared()
    stream.deduplicate("number", within="2h", name="once").into("out")
    with working(app, log, tmp_path) as worker:
        wait_for(lambda: any(each.state == "stuck" for each in worker.status))
        problems = {each.problem for each in worker.status if each.problem}
    assert problems == {"stage 'numbers.by.number': 'once' was changed, and its state is of what it was before"}
