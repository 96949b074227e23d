"""The database file of an embedded log: how it is opened and made, and what its failures mean."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from penstock.core.durable_files import make_folder, sync_folder
from penstock.core.errors import ConfigurationError, StorageFailed
from penstock.log.embedded.schema import APPLICATION_ID, TABLES, VERSION
from penstock.log.embedded.write_lock import WriteLock

__all__ = ["Database", "storage_failure"]

FILE_NAME = "log.db"
BUSY_S_MAX = 15.0
CHECKPOINT_PAGES = 32_000
"""Of 4 KiB. With so many in the write-ahead log, whoever commits copies them into the file, should
`Checkpoints` not have done it long before.
"""
JOURNAL_BYTES_KEPT = 64 * 1024 * 1024
CACHE_KIB = 8 * 1024
_UNDONE = "nothing was written"
_MEND = "mend that, then try again; what was there before still stands"
_HINTS = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space, then try again; what was there still stands",
    sqlite3.SQLITE_IOERR: "the disk is full, past a limit, or fails: look at it before you try again",
    sqlite3.SQLITE_CORRUPT: "the file is damaged: restore it from a backup, or move it away to begin a new log",
    sqlite3.SQLITE_NOTADB: "the file is something else, or damaged: move it away, or restore it from a backup",
    sqlite3.SQLITE_BUSY: f"another process kept it locked for {BUSY_S_MAX:.0f} s: try again, or end that one",
    sqlite3.SQLITE_READONLY: "check who may write the file, its folder and the disk",
    sqlite3.SQLITE_CANTOPEN: "check that the folder exists and who may read and write it",
}


class Database:
    """One file in a folder. It hands out connections; each is for one thread at a time and not for a fork."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / FILE_NAME

    @classmethod
    def open(cls, folder: Path) -> "Database":
        """The log in a folder, both made where they are not there.

        Raises `StorageFailed` where they cannot be, or are damaged; `ConfigurationError` for a log that a
        newer Penstock made, or a database that is no log.
        """
        database = cls(folder)
        try:
            make_folder(folder)
            lock = WriteLock(folder)
        except OSError as error:
            raise StorageFailed(
                f"the folder of the log, {folder}, cannot be made or written: {error.strerror}",
                hint="choose another place (the setting home), or mend that",
            ) from error
        try:
            if database._is_ready():
                return database
            with database.failures("it could not be opened"), lock:
                connection = database.connect()
                try:
                    _prepare(connection, database.path)
                finally:
                    connection.close()
        finally:
            lock.close()
        return database

    def _is_ready(self) -> bool:
        """Whether it is there as it should be: then a process that was stopped while it writes is in no way."""
        try:
            with closing(sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=rw", uri=True)) as connection:
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                (application,) = connection.execute("PRAGMA application_id").fetchone()
        except sqlite3.Error:
            return False  # why, is found out by opening it
        return (version, application) == (VERSION, APPLICATION_ID)

    def connect(self) -> sqlite3.Connection:
        """Raises `sqlite3.Error`: call it within `failures`."""
        connection = sqlite3.connect(
            self.path, timeout=BUSY_S_MAX, isolation_level=None, check_same_thread=False
        )
        try:
            if connection.execute("PRAGMA journal_mode=WAL").fetchone() != ("wal",):
                raise sqlite3.OperationalError(
                    "the write-ahead log cannot be used: is it a network file system?"
                )
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit={JOURNAL_BYTES_KEPT}")
            connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def failures(self, undone: str = _UNDONE) -> Iterator[None]:
        """Makes SQLite's errors `StorageFailed`; `undone` says what has not happened."""
        try:
            yield
        except sqlite3.Error as error:
            raise storage_failure(error, self.path, undone) from error


def storage_failure(error: sqlite3.Error, path: Path, undone: str = _UNDONE) -> StorageFailed:
    """What an error of SQLite means to the person who can mend it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return StorageFailed(f"log {path}: {undone}: {error}", hint=_HINTS.get(code, _MEND))


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application != APPLICATION_ID:
        raise ConfigurationError(f"{path} is a database, but no log of Penstock", hint="choose another home")
    if version > VERSION:
        raise ConfigurationError(
            f"{path} was made by a newer Penstock: its version is {version}, and this one knows {VERSION}",
            hint="upgrade Penstock, or use the log with the one that made it",
        )
    if version == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    for table in TABLES:
        connection.execute(table)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={VERSION}")
    connection.execute("COMMIT")
    sync_folder(path.parent)
