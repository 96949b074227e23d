"""A worker over a log in a folder, turn by turn."""

import json
from collections.abc import Callable
from pathlib import Path
from threading import Event

import numpy as np
import polars as pl
import pytest

import penstock as ps
from penstock.core.clock import ManualClock
from penstock.core.errors import CorruptState
from penstock.log.embedded.limits import LogLimits
from penstock.log.opening import open_log
from penstock.log.port import Log
from penstock.log.records import Records, TopicPartition
from penstock.streams.batch_size import BatchSizeConfig
from penstock.streams.letter_box import LetterBox, StoredLetter
from penstock.streams.restoring import Restorer
from penstock.streams.stage import Stage
from penstock.streams.state import Snapshot, mark_of
from penstock.streams.suspect_folder import SuspectFolder
from penstock.streams.suspicion import Suspect
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
    def __init__(
        self,
        folder: Path,
        app: ps.App,
        batch: BatchSizeConfig | None = None,
        record_bytes_max: int = RECORD_BYTES_MAX,
    ) -> None:
        self.clock = ManualClock()
        self.log: Log = open_log("", folder, self.clock, LogLimits(record_bytes_max=record_bytes_max))
        self.planned: Topology = topology(app.streams.graph, {})
        self.log.admin.ensure_topics(self.planned.topics)
        self.folder = folder
        self.config = WorkerConfig(
            group="app",
            identity="one",
            folder=folder / "streams",
            batch=batch or BatchSizeConfig(),
            snapshot_every_s=10,
            tick_s=0.0,
        )

    def produce(self, values: list[bytes], partition: int = 0, topic: str = "events") -> None:
        times_ms = np.full(len(values), START_MS, dtype=np.int64)
        producer = self.log.producer()
        producer.append(TopicPartition(topic, partition), Records(values=values, times_ms=times_ms)).result()
        producer.close()

    def letters(self, topic: str = "events") -> list[StoredLetter]:
        return list(LetterBox(self.log).letters(topic))

    def replay(self, *values: bytes, topic: str = "events") -> int:
        """All that were not replayed; mended, if there are values."""
        mended = (lambda: iter(values)) if values else None
        return LetterBox(self.log).replay(topic, lambda stored: not stored.replayed, mended)

    def run(self, turns: int = 20, seconds: float = 0.25, then: Callable[[], object] | None = None) -> None:
        """Each time a new worker, on what the one before has left."""
        self.worker = StreamWorker(self.config, self.planned.by_source, self.log, self.clock)
        self.worker.run(Turns(self.clock, turns, seconds, then))

    def values(self, topic: str, partition: int = 0) -> list[bytes]:
        return list(self.log.admin.read(TopicPartition(topic, partition), 0, records_max=1000).records.values)


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


def counted(tmp_path: Path) -> tuple[Running, Restorer, TopicPartition]:
    """A window's count of three batches, after each of which a snapshot was taken."""
    app, stream = declared()
    stream.window(key="key", over="1h").agg(n=ps.count()).into("out")
    running = Running(tmp_path, app)
    for key in "abc":
        running.produce([event(key)])
        running.run(20, seconds=6.0)
    running.produce([event("d")])
    running.run(8, seconds=0.1)
    return running, Restorer(running.log.admin, tmp_path / "streams" / "snapshots"), TopicPartition("events", 0)


def test_where_changes_cannot_be_applied_to_a_snapshot_an_older_one_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, restorer, source = counted(tmp_path)
    (plan,) = running.planned.stages
    kept = [snapshot.offset for snapshot in restorer.snapshots(plan, 0).newest_first()]
    assert len(kept) == 2
    applied = Stage.apply_changes
    tried: list[Stage] = []

    def damaged(stage: Stage, changes: bytes) -> None:
        if stage not in tried:
            tried.append(stage)
        if stage is tried[0]:
            raise CorruptState("these do not fit")
        applied(stage, changes)

    monkeypatch.setattr(Stage, "apply_changes", damaged)
    restored = restorer.restore(plan, source, 4)
    assert len(tried) == 2
    assert restored.stage.next_offset == 4
    assert [each.keys for each in restored.stage.statistics().operators.values()] == [4]  # type: ignore[attr-defined]


def test_a_snapshot_whose_changes_are_others_is_of_another_log(tmp_path: Path) -> None:
    running, restorer, source = counted(tmp_path)
    (plan,) = running.planned.stages
    folder = restorer.snapshots(plan, 0)
    newest, older = folder.newest_first()
    folder.write(Snapshot(offset=newest.offset, state=older.state, mark=mark_of(b"of another log")))
    restored = restorer.restore(plan, source, 4)
    assert restored.stage.next_offset == 4
    assert [snapshot.offset for snapshot in folder.newest_first()] == [older.offset]


def test_what_retention_let_go_of_before_it_was_read_is_told(tmp_path: Path) -> None:
    app, stream = declared()
    stream.into("out")
    running = Running(tmp_path, app)
    running.produce([event("a")])
    running.run(20)
    for key in "bcd":
        running.produce([event(key)])
    running.log.admin.truncate(TopicPartition("events", 0), 3)
    again = Running(tmp_path, app)
    again.run(20)
    assert [json.loads(value)["key"] for value in again.values("out")] == ["a", "d"]
    assert [each.expired for each in again.worker.status] == [2]


def test_windows_that_do_not_fit_into_the_log_when_they_close_stop_their_partition_alone(
    tmp_path: Path,
) -> None:
    app, stream = declared(partitions=2, key="key", idle="1s")
    view = stream.window(key="key", gap="2s").agg(n=ps.count())
    view.closed.with_columns(long=pl.col("key").str.replace_all("x", "x" * 300)).into("out")
    running = Running(tmp_path, app)
    running.produce([event("x" * 20)])
    running.produce([event("b")], partition=1)
    running.run(60)
    assert [json.loads(value)["key"] for value in running.values("out")] == ["b"]
    assert {each.partition: each.state for each in running.worker.status} == {0: "stuck", 1: "running"}


def no_threes(frame: pl.DataFrame) -> pl.DataFrame:
    if (frame["value"] == 3).any():
        raise ValueError("no threes")
    return frame


VALUED = {"key": pl.String, "at": pl.Int64, "value": pl.Int64}


def joined_and_mapped(**options: object) -> ps.App:
    """Rows cross twice before the function: to their key, and to the join."""
    app = ps.App("app")
    stream = app.stream("events", schema=VALUED, time="at", partitions=2, **options)  # type: ignore[arg-type]
    users = app.table("users", schema={"key": pl.String, "name": pl.String}, key="key")
    stream.repartition("key").join_table(users).map(no_threes).into("out")
    return app


def test_a_dead_letter_of_a_later_stage_is_of_the_event_itself_and_goes_back_to_its_topic(
    tmp_path: Path,
) -> None:
    running = Running(tmp_path, joined_and_mapped(lateness="1h"), record_bytes_max=100_000)
    running.produce([b'{"key": "a", "name": "Anna"}'], topic="users")
    running.run(20)
    running.produce([event("a", value=1)], 0)
    running.produce([b"no json", event("a", value=2), b' {"key":"a", "at":%d,"value":3}' % START_MS], 1)
    running.run(40)
    unreadable, letter = (stored.letter for stored in running.letters())
    assert (unreadable.reason, unreadable.value, unreadable.offset) == ("undecodable", b"no json", 0)
    assert (letter.source, letter.offset) == (TopicPartition("events", 1), 2)
    assert letter.value == b' {"key":"a", "at":%d,"value":3}' % START_MS
    assert letter.row is not None
    assert json.loads(letter.row) == {"key": "a", "at": START_MS, "value": 3, "name": "Anna"}
    assert (letter.reason, letter.stage) == ("raised", "events.join.users")
    assert running.replay(event("a", value=5), event("a", value=4)) == 2
    running.run(40)
    out = [json.loads(value) for value in running.values("out")]
    assert sorted(row["value"] for row in out) == [1, 2, 4, 5]
    assert {row["name"] for row in out} == {"Anna"}
    assert {each.state for each in running.worker.status} == {"running"}
    assert all(stored.replayed for stored in running.letters())


def test_an_event_that_its_topic_has_kept_no_longer_is_the_row_that_it_had_become(tmp_path: Path) -> None:
    app = ps.App("app")
    stream = app.stream("events", schema=VALUED, time="at")
    other = app.stream("others", schema={"key": pl.String, "at": pl.Int64}, time="at")
    stream.join(other, key="key", before="1h", after="1h").map(no_threes).into("out")
    running = Running(tmp_path, app)
    running.produce([event("a", value=3)])
    running.run(20)
    running.log.admin.truncate(TopicPartition("events", 0), 1)
    running.produce([event("a")], topic="others")
    running.run(20)
    (letter,) = (stored.letter for stored in running.letters())
    assert (letter.source, letter.offset) == (TopicPartition("events", 0), 0)
    assert json.loads(letter.value)["value"] == 3
    assert "penstock-event-gone" in letter.headers


def test_what_no_stage_wrote_between_stages_becomes_a_dead_letter(tmp_path: Path) -> None:
    running = Running(tmp_path, joined_and_mapped(), record_bytes_max=100_000)
    (topic,) = (
        plan.source for plan in running.planned.stages if plan.source.endswith("users") and plan.internal
    )
    running.produce([b'{"key": "a"}'], topic=topic)
    running.produce([event("a", value=1)])
    running.run(60)
    (letter,) = (stored.letter for stored in running.letters(topic))
    assert (letter.reason, letter.value) == ("undecodable", b'{"key": "a"}')
    assert "is no record of a stage" in letter.detail
    assert {each.state for each in running.worker.status} == {"running"}
    assert [json.loads(value)["value"] for value in running.values("out")] == [1]
    running.replay(topic=topic)
    running.run(40)
    assert {each.state for each in running.worker.status} == {"running"}


def test_a_replayed_event_that_is_too_late_does_not_vanish(tmp_path: Path) -> None:
    app = ps.App("app")
    stream = app.stream("events", schema=VALUED, time="at", lateness="1s")
    stream.map(no_threes).into("out")
    running = Running(tmp_path, app)
    running.produce([event("a", value=3), event("a", START_MS + 60_000, value=1)])
    running.produce([event("late", value=2)])
    running.run(20)
    assert running.replay(event("a", value=4)) == 1
    running.run(20)
    first, second = (stored.letter for stored in running.letters())
    assert (first.reason, second.reason, second.value) == ("raised", "late", event("a", value=4))
    assert "59.000 s before the watermark" in second.detail
    assert running.replay(event("a", START_MS + 60_000, value=5)) == 1
    running.run(20)
    assert [json.loads(value)["value"] for value in running.values("out")] == [1, 5]
    assert len(running.letters()) == 2


def test_late_events_have_their_own_way_where_there_is_one(tmp_path: Path) -> None:
    app = ps.App("app")
    stream = app.stream("events", schema=VALUED, time="at", lateness="1s")
    stream.map(no_threes).into("out")
    stream.late.into("late")
    running = Running(tmp_path, app)
    running.produce([event("a", value=3), event("a", START_MS + 60_000, value=1)])
    running.run(20)
    running.replay(event("a", value=4))
    running.run(20)
    assert running.values("late") == [event("a", value=4).replace(b": ", b":").replace(b", ", b",")]
    assert len(running.letters()) == 1


def test_parts_of_suspects_say_nothing_of_what_a_whole_batch_takes(tmp_path: Path) -> None:
    app, stream = declared()
    stream.into("out")
    running = Running(tmp_path, app, BatchSizeConfig(rows_min=64))
    suspect = Suspect(topic="events", partition=0, begin=0, end=64, count=64, detail="it ended", ends=1)
    SuspectFolder(running.folder / "streams/suspects").keep(suspect)
    running.produce([event("a")] * 200)
    running.run(10)
    assert 0 < len(running.values("out")) < 64
    assert running.worker._size.rows == 64
    running.run(60)
    assert len(running.values("out")) == 200
    assert running.worker._size.rows > 64, "whole ones do"


def test_time_goes_on_for_a_partition_beside_one_that_is_suspected_and_one_that_is_busy(tmp_path: Path) -> None:
    app, stream = declared(partitions=3, key="key", idle="1s")
    stream.window(key="key", over="1s").agg(count=ps.count()).closed.into("out", partitions=1)
    running = Running(tmp_path, app, BatchSizeConfig(rows_min=64))
    suspect = Suspect(topic="events", partition=0, begin=0, end=40, count=40, detail="it ended", ends=1)
    SuspectFolder(running.folder / "streams/suspects").keep(suspect)
    running.produce([event("a")] * 40)
    running.produce([event("c")], partition=2)

    class Busy(Turns):
        def is_set(self) -> bool:
            running.produce([event("b")], partition=1)
            return super().is_set()

    running.worker = StreamWorker(running.config, running.planned.by_source, running.log, running.clock)
    running.worker.run(Busy(running.clock, 50, 0.25))
    assert [json.loads(value)["key"] for value in running.values("out")] == ["c"]
    assert {each.partition: bool(each.suspects) for each in running.worker.status}[0]
