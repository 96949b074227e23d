"""A worker over a log in a folder, turn by turn."""

import json
from collections.abc import Callable
from pathlib import Path
from threading import Event

import numpy as np
import polars as pl

import penstock as ps
from penstock.core.clock import ManualClock
from penstock.log.embedded.limits import LogLimits
from penstock.log.opening import open_log
from penstock.log.port import Log
from penstock.log.records import Records, TopicPartition
from penstock.streams.batch_size import BatchSizeConfig
from penstock.streams.restoring import Restorer
from penstock.streams.state import Snapshot
from penstock.streams.topology import Topology, topology
from penstock.streams.worker import StreamWorker
from penstock.streams.worker_config import WorkerConfig

START_MS = 1_356_998_400_000
RECORD_BYTES_MAX = 2000


class Turns(Event):
    """Ends a worker's run after so many turns, before each of which time passes; `then` comes late in it."""

    def __init__(
        self, clock: ManualClock, count: int, seconds: float, then: Callable[[], object] | None = None
    ) -> None:
        super().__init__()
        self._clock, self._count, self._seconds, self._then = clock, count, seconds, then
        self._turn = 0

    def is_set(self) -> bool:
        self._turn += 1
        self._clock.advance(self._seconds)
        if self._then is not None and self._turn == 3 * self._count // 4:
            self._then()
        return self._turn > self._count


class Running:
    def __init__(self, folder: Path, app: ps.App, batch: BatchSizeConfig | None = None) -> None:
        self.clock = ManualClock()
        self.log: Log = open_log("", folder, self.clock, LogLimits(record_bytes_max=RECORD_BYTES_MAX))
        self.planned: Topology = topology(app.streams.graph, {})
        self.log.admin.ensure_topics(self.planned.topics)
        self.folder = folder
        config = WorkerConfig(
            group="app",
            identity="one",
            folder=folder / "streams",
            batch=batch or BatchSizeConfig(),
            snapshot_every_s=10,
            tick_s=0.0,
        )
        self.worker = StreamWorker(config, self.planned.by_source, self.log, self.clock)

    def produce(self, values: list[bytes], partition: int = 0) -> None:
        times_ms = np.full(len(values), START_MS, dtype=np.int64)
        producer = self.log.producer()
        producer.append(TopicPartition("events", partition), Records(values=values, times_ms=times_ms)).result()
        producer.close()

    def run(self, turns: int = 20, seconds: float = 0.25, then: Callable[[], object] | None = None) -> None:
        self.worker.run(Turns(self.clock, turns, seconds, then))

    def values(self, topic: str) -> list[bytes]:
        return list(self.log.admin.read(TopicPartition(topic, 0), 0, records_max=1000).records.values)


def event(key: str, at: int = START_MS, **more: object) -> bytes:
    return json.dumps({"key": key, "at": at, **more}).encode()


def declared(**options: object) -> tuple[ps.App, "ps.app.streams.Stream"]:  # type: ignore[name-defined]
    app = ps.App("app")
    schema = {"key": pl.String, "at": pl.Int64}
    return app, app.stream("events", schema=schema, time="at", **options)  # type: ignore[arg-type]


def test_what_does_not_fit_into_the_log_becomes_a_dead_letter_and_the_rest_goes_on(tmp_path: Path) -> None:
    app, stream = declared()
    stream.with_columns(long=pl.col("key").str.replace_all("x", "x" * 300)).into("out")
    running = Running(tmp_path, app)
    running.produce([event("a"), event("b"), event("x" * 20), event("c"), event("d")])
    running.run(40)
    assert [json.loads(value)["key"] for value in running.values("out")] == ["a", "b", "c", "d"]
    assert [json.loads(value)["key"] for value in running.values("events.dead")] == ["x" * 20]


def test_where_not_even_a_dead_letter_fits_one_partition_stands_still(tmp_path: Path) -> None:
    app, stream = declared(partitions=2)
    stream.into("out")
    running = Running(tmp_path, app)
    running.produce([b"{" + b"x" * (RECORD_BYTES_MAX - 50)])
    running.produce([event("b")], partition=1)
    running.run(40)
    assert [json.loads(value)["key"] for value in running.values("out")] == ["b"]
    assert {each.partition: each.state for each in running.worker.status} == {0: "stuck", 1: "running"}


def test_an_owner_commits_where_it_is_before_there_is_any_record(tmp_path: Path) -> None:
    """Else nothing would fence one that is no owner any more."""
    app, stream = declared(partitions=2, idle="1s")
    stream.repartition("key").into("out")
    running = Running(tmp_path, app)
    running.run(30)
    committed = {each.source: each.committed for each in running.log.admin.lags("app")}
    assert committed[TopicPartition("events", 0)] == committed[TopicPartition("events", 1)] == 0


def test_polls_that_are_full_do_not_make_a_partition_idle_that_has_events(tmp_path: Path) -> None:
    app, stream = declared(partitions=5, idle="2s")
    stream.into("out")
    size = len(event("k 00"))
    running = Running(tmp_path, app, BatchSizeConfig(bytes_max=3 * size))
    for partition in range(5):
        running.produce([event(f"k {n:02}") for n in range(90)], partition)
    running.run(20, seconds=3.0)
    assert [each.watermark_ms for each in running.worker.status] == [START_MS] * 5


def test_a_snapshot_is_not_taken_of_what_time_alone_has_changed(tmp_path: Path) -> None:
    app, stream = declared(idle="1s")
    view = stream.window(key="key", gap="2s").agg(n=ps.count())
    view.closed.filter(pl.col("n") > 10).into("out")
    running = Running(tmp_path, app)
    running.produce([event("a"), event("b")])
    # The sessions close, and none of them goes anywhere; a snapshot is due; then something comes.
    running.run(64, then=lambda: running.produce([event("c", START_MS + 60_000)]))
    again = Running(tmp_path, app)
    again.run(20)
    assert [each.problem for each in again.worker.status] == [""]


def test_snapshots_of_another_log_go(tmp_path: Path) -> None:
    app, stream = declared()
    stream.into("out")
    running = Running(tmp_path, app)
    (plan,) = running.planned.stages
    restorer = Restorer(running.log.admin, tmp_path / "snapshots")
    folder = restorer.snapshots(plan, 0)
    folder.write(Snapshot(offset=50, state=b"of another time"))
    restored = restorer.restore(plan, TopicPartition("events", 0), None)
    assert restored.stage.next_offset is None
    assert list(folder.newest_first()) == []
