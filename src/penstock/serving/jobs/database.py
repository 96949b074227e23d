"""The database of jobs: where it is, how it is made, and whose turn it is to write."""

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import Connection, insert, inspect, select

from penstock.core.clock import Clock
from penstock.core.durable_files import make_folder
from penstock.core.errors import ConfigurationError, StorageFailed
from penstock.log.embedded.write_lock import WriteLock
from penstock.models.registry.database import Database
from penstock.serving.jobs.steady_time import read_steady_time, started_steady_time, this_start
from penstock.serving.jobs.tables import METADATA, REVISIONS

__all__ = ["JobDatabase", "apps_with_jobs", "jobs_exist", "jobs_folder"]

FILE_NAME = "jobs.db"
FOLDER_NAME = "jobs"
REVISION = 1
TURN_S_MAX = 15.0
TURN_POLL_S = 0.0003


def jobs_folder(home: Path, app: str) -> Path:
    """Where an app has its jobs in a home folder: apps that share one share no jobs."""
    return home / FOLDER_NAME / _file_name(app)


def apps_with_jobs(home: Path) -> list[str]:
    """The apps that ever took a job on in this home folder."""
    return sorted(_app(file.parent.name) for file in (home / FOLDER_NAME).glob(f"*/{FILE_NAME}"))


def jobs_exist(folder: Path) -> bool:
    """Whether any job was ever taken on in this folder of jobs."""
    return (folder / FILE_NAME).exists()


def _file_name(app: str) -> str:
    """Letters, digits and hyphens as they are; of all else the bytes."""
    return re.sub(rb"[^A-Za-z0-9-]", lambda found: b"_%02x" % found[0][0], app.encode()).decode()


def _app(file_name: str) -> str:
    return re.sub(rb"_(..)", lambda found: bytes.fromhex(found[1].decode()), file_name.encode()).decode()


class JobDatabase:
    """A file in a folder of jobs. Threads may share it; one at a time writes."""

    def __init__(self, database: Database, lock: WriteLock, clock: Clock, now_us: Callable[[], int]) -> None:
        self._database = database
        self._lock = lock
        self._monotonic = clock.monotonic
        self.now_us = now_us
        """The time that all go by, in microseconds."""

    @classmethod
    def open(cls, folder: Path, clock: Clock) -> "JobDatabase":
        """Makes what is not there. Blocks. Raises `StorageFailed`, and `ConfigurationError` for a database that
        is none of jobs, or a newer Penstock's.
        """
        try:
            _make_private(folder / FILE_NAME)
        except OSError as error:
            raise _unusable(folder, error) from error
        database = Database.open(f"sqlite:///{folder / FILE_NAME}")
        try:
            _make_tables(database)
            now_us = _steady_time(database, clock)
            lock = WriteLock(folder)
        except OSError as error:
            database.close()
            raise _unusable(folder, error) from error
        except BaseException:
            database.close()
            raise
        return cls(database, lock, clock, now_us)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Raises `StorageFailed`."""
        with self._database.reading() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self, undone: str, within_s: float = TURN_S_MAX) -> Iterator[Connection]:
        """A transaction that holds the write lock. SQLite's own is asked for again and again, each time after
        a longer sleep; processes that write often take turns by another one. Raises `StorageFailed`, where its
        turn does not come within that time too.
        """
        self._wait_for_turn(undone, within_s)
        try:
            with self._database.writing(undone) as connection:
                yield connection
        finally:
            self._lock.leave()

    def close(self) -> None:
        self._database.close()
        self._lock.close()

    def _wait_for_turn(self, undone: str, within_s: float) -> None:
        """Not by a lock that waits: one who is stopped while he has it must not stop everybody for ever."""
        until_s = self._monotonic() + within_s
        pause = threading.Event()
        while not self._lock.try_enter():
            if self._monotonic() >= until_s:
                raise StorageFailed(
                    f"{self._database.name}: {undone}: its turn did not come within {within_s:.3g} s",
                    hint="another process keeps it locked: end it, if it is stopped or hangs",
                )
            pause.wait(TURN_POLL_S)


def _steady_time(database: Database, clock: Clock) -> Callable[[], int]:
    start = this_start()
    with database.reading() as connection:
        found = read_steady_time(connection, start, clock)
    if found is not None:
        return found
    with database.writing("its time was not begun") as connection:
        return started_steady_time(connection, start, clock)


def _make_private(file: Path) -> None:
    """What jobs ask, are answered, and where they are told is nobody else's to read. SQLite gives the files
    beside it the same mode.
    """
    make_folder(file.parent)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _unusable(folder: Path, error: OSError) -> StorageFailed:
    return StorageFailed(
        f"the folder of jobs, {folder}, cannot be made or written: {error.strerror}",
        hint="choose another place (the setting home), or mend that",
    )


def _make_tables(database: Database) -> None:
    with database.reading() as connection:
        if inspect(connection).has_table(REVISIONS.name):
            _check_revision(connection, database.name)
            return
    with database.writing("its tables were not made") as connection:
        if inspect(connection).has_table(REVISIONS.name):
            _check_revision(connection, database.name)
            return
        taken = sorted(set(inspect(connection).get_table_names()) & set(METADATA.tables))
        if taken:
            raise ConfigurationError(
                f"{database.name} has tables {', '.join(taken)} that are not of jobs",
                hint="choose another home folder, or move that file away",
            )
        METADATA.create_all(connection, checkfirst=False)
        connection.execute(insert(REVISIONS).values(revision=REVISION))


def _check_revision(connection: Connection, name: str) -> None:
    found = connection.scalar(select(REVISIONS.c.revision))
    if found != REVISION:
        raise ConfigurationError(
            f"{name} is at revision {found}, and this penstock knows {REVISION}",
            hint="upgrade penstock, or use the jobs with the version that made them",
        )
