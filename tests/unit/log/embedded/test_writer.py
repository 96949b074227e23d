"""Groups of appends, work that fails by itself, and commits that fail for all."""

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from penstock.core.clock import ManualClock
from penstock.core.errors import NotFound, StorageFailed
from penstock.log.embedded.database import Database
from penstock.log.embedded.frames import extent_of
from penstock.log.embedded.limits import LogLimits
from penstock.log.embedded.pending import Append
from penstock.log.embedded.topics import Catalog, ensure_topics
from penstock.log.embedded.writer import Session, Writer
from penstock.log.port import TopicSpec
from penstock.log.records import Records, TopicPartition

EVENTS = TopicPartition("events", 0)
LIMITS = LogLimits(wait_s_max=5, queue_rows_max=10)


class FailingConnection(sqlite3.Connection):
    """One with a commit that fails as by a failed sync: the next, where `commits_left` is 1."""

    commits_left = 0

    def execute(self, sql: str, *arguments: object) -> sqlite3.Cursor:  # type: ignore[override]
        if sql == "COMMIT" and FailingConnection.commits_left:
            FailingConnection.commits_left -= 1
        else:
            return super().execute(sql, *arguments)
        if not FailingConnection.commits_left:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error
        return super().execute(sql, *arguments)


class FailingDatabase(Database):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.connections: list[sqlite3.Connection] = []

    def connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, factory=FailingConnection
        )
        self.connections.append(connection)
        return connection


@pytest.fixture
def database(tmp_path: Path) -> FailingDatabase:
    Database.open(tmp_path)
    FailingConnection.commits_left = 0
    return FailingDatabase(tmp_path)


@pytest.fixture
def writer(database: FailingDatabase) -> Iterator[Writer]:
    writer = Writer(database, Catalog(), ManualClock(), LIMITS)
    writer.call(lambda session: ensure_topics(session.connection, [TopicSpec(name="events")]))
    yield writer
    writer.close()


def append(writer: Writer, count: int = 1, target: TopicPartition = EVENTS) -> "Future[int]":
    records = Records(values=[b"x"] * count, times_ms=np.zeros(count, dtype=np.int64))
    made = Append.of(target, records, LIMITS)
    writer.append(made)
    return made.future


def end(session: Session) -> int:
    return extent_of(session.connection, session.catalog.id_of(session.connection, EVENTS)).ends


class Gate:
    """Work that holds the writer up, so that what comes after it is one group."""

    def __init__(self, writer: Writer) -> None:
        self._entered, self._free = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: writer.call(self._wait))
        self._thread.start()
        assert self._entered.wait(5)

    def _wait(self, _session: Session) -> None:
        self._entered.set()
        assert self._free.wait(5)

    def open(self) -> None:
        self._free.set()
        self._thread.join()


def test_what_waits_together_is_committed_together(writer: Writer) -> None:
    before = writer.statistics().commits
    gate = Gate(writer)
    futures = [append(writer) for _ in range(8)]
    gate.open()
    assert [future.result(5) for future in futures] == list(range(8))
    assert writer.statistics().commits == before + 2


def test_producers_that_wait_each_for_its_own_append_all_go_on(writer: Writer) -> None:
    rounds, producers = 30, 16

    def produce() -> None:
        for _ in range(rounds):
            append(writer).result(5)

    threads = [threading.Thread(target=produce) for _ in range(producers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert writer.call(end) == rounds * producers


def test_what_fails_by_itself_leaves_its_neighbours(writer: Writer) -> None:
    gate = Gate(writer)
    good, bad, after = append(writer), append(writer, target=TopicPartition("none", 0)), append(writer)
    gate.open()
    assert (good.result(5), after.result(5)) == (0, 1)
    with pytest.raises(NotFound):
        bad.result(5)


def test_work_that_raises_is_undone(writer: Writer) -> None:
    def half(session: Session) -> None:
        ensure_topics(session.connection, [TopicSpec(name="made")])
        raise NotFound("for this test")

    with pytest.raises(NotFound):
        writer.call(half)
    names = writer.call(lambda session: session.connection.execute("SELECT name FROM topics").fetchall())
    assert names == [("events",)]


def test_a_failed_sync_fails_all_and_the_connection_is_not_used_again(
    writer: Writer, database: FailingDatabase
) -> None:
    append(writer).result(5)
    gate = Gate(writer)
    futures = [append(writer) for _ in range(3)]
    FailingConnection.commits_left = 2
    gate.open()
    assert all(isinstance(future.exception(5), StorageFailed) for future in futures)
    assert writer.statistics().failures == 1
    assert writer.call(end) == 1
    assert len(database.connections) == 2
    with pytest.raises(sqlite3.ProgrammingError):
        database.connections[0].execute("SELECT 1")


def test_a_failed_sync_of_an_append_is_told_and_undone(writer: Writer, database: FailingDatabase) -> None:
    assert append(writer).result(5) == 0
    FailingConnection.commits_left = 1
    with pytest.raises(StorageFailed, match="nothing was written: disk I/O error"):
        append(writer).result(5)
    assert writer.call(end) == 1
    assert append(writer).result(5) == 1
    assert len(database.connections) == 2


def test_a_fault_of_ours_does_not_stop_the_writer(writer: Writer) -> None:
    def broken(_session: Session) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        writer.call(broken)
    gate = Gate(writer)
    outcome: list[BaseException] = []

    def queued() -> None:
        try:
            writer.call(broken)
        except ZeroDivisionError as error:
            outcome.append(error)

    thread = threading.Thread(target=queued)
    thread.start()
    gate.open()
    thread.join(5)
    assert len(outcome) == 1
    assert append(writer).result(5) == 0


def test_whoever_appends_to_a_full_queue_waits(writer: Writer) -> None:
    gate = Gate(writer)
    first = append(writer, 10)
    second: list[Future[int]] = []
    thread = threading.Thread(target=lambda: second.append(append(writer, 1)))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    assert writer.statistics().queued_rows == 10
    gate.open()
    thread.join(5)
    assert (first.result(5), second[0].result(5)) == (0, 10)


def test_a_closed_writer_refuses(writer: Writer) -> None:
    writer.close()
    with pytest.raises(StorageFailed, match="is closed"):
        append(writer)
