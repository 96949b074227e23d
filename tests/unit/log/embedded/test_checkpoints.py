import logging
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from penstock.log.embedded import checkpoints
from penstock.log.embedded.checkpoints import Checkpoints
from penstock.log.embedded.database import Database
from penstock.log.embedded.write_lock import WriteLock


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database.open(tmp_path / "log")


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Counts the checkpoints that have ended."""
    ended = threading.Semaphore(0)
    checkpoint = Checkpoints._checkpoint

    def run(self: Checkpoints) -> None:
        try:
            checkpoint(self)
        finally:
            ended.release()

    monkeypatch.setattr(Checkpoints, "_checkpoint", run)
    return ended


def file_has(database: Database, number: int) -> bool:
    """Whether the file by itself has it, without the write-ahead log."""
    return f"{number:012}".encode() in database.path.read_bytes()


def test_what_was_written_is_copied_into_the_file(database: Database, done: threading.Semaphore) -> None:
    written = Checkpoints(database)
    with closing(database.connect()) as connection:
        connection.execute("INSERT INTO identities VALUES ('000000000001', 1)")
        assert not file_has(database, 1)
        written.wrote(checkpoints.BYTES)
        assert done.acquire(timeout=10)
        assert file_has(database, 1)
    written.close()


def test_it_waits_until_there_is_enough(database: Database, done: threading.Semaphore) -> None:
    written = Checkpoints(database)
    written.wrote(checkpoints.BYTES - 2 * checkpoints.COMMIT_BYTES)
    written.close()
    assert not done.acquire(blocking=False)
    written = Checkpoints(database)
    for _ in range(2):
        written.wrote(checkpoints.BYTES - 2 * checkpoints.COMMIT_BYTES)
    assert done.acquire(timeout=10)
    written.close()


def test_whoever_writes_meanwhile_goes_on(database: Database, done: threading.Semaphore) -> None:
    """A transaction stands open all the while; what was committed before it is copied nevertheless."""
    written = Checkpoints(database)
    with closing(database.connect()) as connection:
        connection.execute("INSERT INTO identities VALUES ('000000000001', 1)")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO identities VALUES ('000000000002', 1)")
        written.wrote(checkpoints.BYTES)
        assert done.acquire(timeout=10)
        assert file_has(database, 1)
        connection.execute("COMMIT")
        assert not file_has(database, 2)
    written.close()


def test_the_write_ahead_log_is_begun_anew(database: Database, done: threading.Semaphore) -> None:
    """However long there is always somebody who writes."""
    written = Checkpoints(database)
    with closing(database.connect()) as connection, closing(WriteLock(database.folder)) as lock:
        for number in range(400):
            with lock:
                connection.execute("INSERT INTO identities VALUES (?, 1)", (f"{number:012}" * 200,))
            if number % 40 == 39:
                written.wrote(checkpoints.BYTES)
                assert done.acquire(timeout=10)
        pages = sum(file.stat().st_size for file in database.folder.glob("*-wal")) // 4096
    written.close()
    assert pages < 400, "ten times 40 of them, where none is used again"


def test_one_that_fails_is_told_and_the_next_is_tried(
    database: Database,
    done: threading.Semaphore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    connect = database.connect

    def fail() -> sqlite3.Connection:
        raise sqlite3.OperationalError("disk I/O error")

    written = Checkpoints(database)
    with closing(connect()) as connection, caplog.at_level(logging.WARNING):
        connection.execute("INSERT INTO identities VALUES ('000000000001', 1)")
        monkeypatch.setattr(database, "connect", fail)
        written.wrote(checkpoints.BYTES)
        assert done.acquire(timeout=10)
        monkeypatch.setattr(database, "connect", connect)
        written.wrote(checkpoints.BYTES)
        assert done.acquire(timeout=10)
        assert file_has(database, 1)
    written.close()
    assert "a checkpoint failed: disk I/O error" in caplog.text
