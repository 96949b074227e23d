"""A worker's note and watchdog, over its life; and workers in this process that leave theirs."""

import json
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event

import numpy as np
import polars as pl
import pytest

import penstock as ps
from penstock.core.clock import ManualClock
from penstock.log.opening import open_log
from penstock.log.port import Log
from penstock.log.records import Fetched, Records, TopicPartition
from penstock.streams.containment import Containment
from penstock.streams.topology import topology
from penstock.streams.worker import StreamWorker
from penstock.streams.worker_config import PartitionStatus, WorkerConfig

SOURCE = TopicPartition("events", 0)


def config(folder: Path, identity: str = "one") -> WorkerConfig:
    return WorkerConfig(group="app", identity=identity, folder=folder / "streams", tick_s=0.0)


def notes(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "streams/notes").iterdir())


def some() -> Fetched:
    offsets = np.arange(5, dtype=np.int64)
    records = Records(values=[b"{}"] * 5, times_ms=offsets)
    return Fetched(source=SOURCE, offsets=offsets, records=records, next_offset=5)


def test_a_note_goes_with_a_worker_that_ends_in_peace(tmp_path: Path) -> None:
    containment = Containment(config(tmp_path), ManualClock())
    containment.start()
    assert notes(tmp_path) == ["one.note"]
    containment.watchdog.begin(some())
    containment.watchdog.end()
    containment.stop()
    assert notes(tmp_path) == []


def test_who_lost_its_partitions_accuses_nobody_while_it_lives(tmp_path: Path) -> None:
    """It is still at work on what another has by now."""
    first, second = (Containment(config(tmp_path, name), ManualClock()) for name in ("one", "two"))
    first.start()
    second.start()
    first.watchdog.begin(some())
    assert second.hold_inquest(SOURCE, 0).suspect is None
    first.stop(RuntimeError("it is\nover"))
    assert notes(tmp_path) == ["one.note", "one.words", "two.note"]
    found = second.hold_inquest(SOURCE, 0).suspect
    assert found is not None
    assert (found.begin, found.count, found.ends) == (0, 5, 1)
    assert found.detail == "the engine ended by RuntimeError: it is over"
    assert second.hold_inquest(SOURCE, 0).suspect == found, "that counts once"
    assert notes(tmp_path) == ["two.note"]
    second.stop()


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_that_a_function_forked_does_not_stand_for_its_parent(tmp_path: Path) -> None:
    first, second = (Containment(config(tmp_path, name), ManualClock()) for name in ("one", "two"))
    first.start()
    first.watchdog.begin(some())
    until, closing = os.pipe()
    running, runs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(closing)
        os.write(runs, b"1")
        os.read(until, 1)
        os._exit(0 if first.watchdog.note is None else 1)
    os.read(running, 1)
    first.stop(RuntimeError())
    assert second.hold_inquest(SOURCE, 0).suspect is not None, "the child lives, and holds nothing"
    for end in (closing, until, running, runs):
        os.close(end)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_without_a_folder_there_is_a_warning_and_all_else_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "streams").touch()
    containment = Containment(config(tmp_path), ManualClock())
    containment.start()
    containment.watchdog.begin(some())
    containment.watchdog.end()
    containment.watchdog.settled()
    containment.stop()
    assert "a record that ends this process would not be found" in caplog.text


class Ended(KeyboardInterrupt):
    """The process is no more."""


class Turns(Event):
    def __init__(self, clock: ManualClock, count: int) -> None:
        super().__init__()
        self._clock, self._count = clock, count

    def is_set(self) -> bool:
        self._count -= 1
        self._clock.advance(0.25)
        return self._count < 0


class Ghosts:
    """An app whose function ends the process on some numbers, and workers of it, one after the other. A window
    stands before the function, and another output beside it.
    """

    def __init__(self, folder: Path, log: Log, culprits: dict[int, str]) -> None:
        self.folder, self.log, self.culprits = folder, log, culprits
        self.clock = ManualClock()
        self.kills: set[int] = set()
        """Calls in which somebody kills the process."""
        self.calls = self.ends = 0
        self.status: Sequence[PartitionStatus] = ()
        app = ps.App("app")
        events = app.stream("events", schema={"number": pl.Int64, "group": pl.String}, idle=None)
        counts = events.window(key="group", over="30d").agg(count=ps.count())
        counted = events.enrich(counts)
        counted.into("beside")
        columns = {"number": pl.Int64, "group": pl.String, "count": pl.Int64}
        counted.map(self._ends, schema=columns).into("out")
        self.planned = topology(app.streams.graph, {})
        log.admin.ensure_topics(self.planned.topics)

    def produce(self, count: int) -> None:
        values = [json.dumps({"number": number, "group": "g"}).encode() for number in range(count)]
        producer = self.log.producer()
        producer.append(SOURCE, Records(values=values, times_ms=np.zeros(count, dtype=np.int64))).result()
        producer.close()

    def run(self, turns: int = 120) -> None:
        """Until a worker has come to the end of all its turns."""
        while True:
            identity = f"life {self.ends:02}"
            worker = StreamWorker(config(self.folder, identity), self.planned.by_source, self.log, self.clock)
            try:
                worker.run(Turns(self.clock, turns))
            except Ended as error:
                (self.folder / f"streams/notes/{identity}.words").write_text(str(error))
                continue
            self.status = worker.status
            return

    def rows(self, topic: str) -> list[tuple[int, int]]:
        fetched = self.log.admin.read(TopicPartition(topic, 0), 0, records_max=10_000)
        rows = [json.loads(value) for value in fetched.records.values]
        return [(row["number"], row.get("count", -1)) for row in rows]

    def reasons(self) -> list[tuple[int, bytes]]:
        fetched = self.log.admin.read(TopicPartition("events.dead", 0), 0, records_max=10_000)
        headers = [each["penstock-reason"] for each in fetched.records.headers or () if each is not None]
        return [
            (json.loads(value)["number"], why)
            for value, why in zip(fetched.records.values, headers, strict=True)
        ]

    def _ends(self, frame: pl.DataFrame) -> pl.DataFrame:
        self.calls += 1
        words = {self.culprits[n] for n in frame["number"].to_list() if n in self.culprits}
        if words or self.calls in self.kills:
            self.ends += 1
            assert self.ends < 60, "it is never found"
            raise Ended(next(iter(words), ""))
        return frame


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with open_log("", tmp_path, ManualClock()) as opened:
        yield opened


FATAL = (
    f"Fatal Python error: Aborted\n\nCurrent thread {threading.get_ident():#018x} (most recent call first):\n"
)
HUNG = "Thread 0x0000000000000001 (most recent call first):\n"


@pytest.mark.parametrize(
    ("culprits", "kills"),
    [
        ({}, {1, 3, 4}),
        ({0: FATAL}, set()),
        ({99: HUNG}, {2}),
        ({7: FATAL, 8: "", 60: HUNG}, {1, 5}),
    ],
)
def test_state_and_output_are_those_of_all_records_but_the_culprits(
    tmp_path: Path, log: Log, culprits: dict[int, str], kills: set[int]
) -> None:
    ghosts = Ghosts(tmp_path, log, culprits)
    ghosts.kills = kills
    ghosts.produce(100)
    ghosts.run()
    good = [number for number in range(100) if number not in culprits]
    assert ghosts.rows("out") == [(number, count) for count, number in enumerate(good, start=1)]
    assert ghosts.rows("beside") == ghosts.rows("out"), "a culprit is nowhere, and each other one counts once"
    assert ghosts.reasons() == [(n, b"hung" if words == HUNG else b"crashed") for n, words in culprits.items()]
    assert ghosts.ends <= 6 * len(culprits) + len(kills)
    assert notes(tmp_path) == []
    assert list((tmp_path / "streams/suspects").iterdir()) == []
    assert {each.suspects for each in ghosts.status} == {""}
