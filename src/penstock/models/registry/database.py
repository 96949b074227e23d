"""The registry's database: how SQLite is set up, read and write transactions, and errors made clear.

A write transaction holds the one write lock of the database from its first statement on, so what it reads
stands until it commits. This is the only module that knows SQLite; PostgreSQL comes in here, with an
advisory lock in the same place.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from penstock.core.durable_files import make_folder
from penstock.core.errors import ConfigurationError, PenstockError, StorageFailed

__all__ = ["Database"]

LOCK_WAIT_S_MAX = 15.0
CONNECTIONS_MAX = 8
JOURNAL_ATTEMPTS_MAX = 500
JOURNAL_RETRY_S = 0.01
_WRITES = "penstock_writes"


class Database:
    """A control database. Threads share one; a process that forks opens its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = engine.url.render_as_string(hide_password=True)

    @classmethod
    def open(cls, url: str) -> "Database":
        """The database at an SQLAlchemy `url`, made where it is not there yet (its tables are not).

        Raises `ConfigurationError` for a URL that cannot be used, `StorageFailed` where its folder cannot
        be made.
        """
        path = _sqlite_path(url)
        try:
            make_folder(path.parent)
        except OSError as error:
            raise StorageFailed(
                f"{path.parent}, the folder of the database, cannot be made: {error.strerror}",
                hint="choose another place, or mend that",
            ) from error
        engine = create_engine(
            URL.create("sqlite", database=str(path)),
            connect_args={"timeout": LOCK_WAIT_S_MAX},
            pool_size=CONNECTIONS_MAX,
            max_overflow=0,
            pool_timeout=LOCK_WAIT_S_MAX,
        )
        event.listen(engine, "connect", _set_up)
        event.listen(engine, "begin", _begin)
        return cls(engine)

    @staticmethod
    def exists(url: str) -> bool:
        """Whether there is a database at `url`. Raises `ConfigurationError` for a URL that cannot be used."""
        return _sqlite_path(url).exists()

    def close(self) -> None:
        """Closes all connections."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database. Raises `StorageFailed`."""
        try:
            with self._engine.connect() as connection, connection.begin():
                yield connection
        except SQLAlchemyError as error:
            raise self._failure(error, "it could not be read") from error

    @contextmanager
    def writing(self, undone: str) -> Iterator[Connection]:
        """A transaction that holds the write lock; it commits at the end, rolls back on an error.

        `undone` says what has not happened when it fails. Raises `StorageFailed`, when the lock is not had
        within 15 s too.
        """
        try:
            with self._engine.connect() as connection:
                writer = connection.execution_options(**{_WRITES: True})
                with writer.begin():
                    yield writer
        except SQLAlchemyError as error:
            raise self._failure(error, undone) from error

    def _failure(self, error: SQLAlchemyError, undone: str) -> PenstockError:
        cause = getattr(error, "orig", None) or error
        said = str(cause).partition("\n")[0]
        fallback = "mend that, then try again; what was there before still stands"
        hint = next((hint for sign, hint in _HINTS.items() if sign in said), fallback)
        if "not a database" in said:
            return ConfigurationError(f"{self.name} is not a database: {undone}", hint=hint)
        return StorageFailed(f"{self.name}: {undone}: {said}", hint=hint)


_HINTS = {
    "not a database": "the file is something else, or damaged: name another one, or restore it from a backup",
    "malformed": "the file is damaged: restore it from a backup",
    "locked": f"another process kept it locked for {LOCK_WAIT_S_MAX:.0f} s: try again, or end that process",
    "full": "the disk is full: free some space, then try again; what was there before still stands",
    "readonly": "check who may write the file, its folder and the disk",
    "unable to open": "check that the folder exists and who may read and write it",
    "disk I/O error": "the disk is full, past a limit, or fails: look at it before you try again",
}


def _sqlite_path(text: str) -> Path:
    try:
        url = make_url(text)
    except ArgumentError:
        # What was given may hold a password, so it is not repeated.
        raise ConfigurationError(
            "the URL of the registry's database cannot be read", hint="write sqlite:///path/to/penstock.db"
        ) from None
    if url.drivername not in {"sqlite", "sqlite+pysqlite"}:
        # Not even with its password hidden: one with an @ in it has ended up in the host's name.
        raise ConfigurationError(
            f"the registry's database cannot be {url.drivername}",
            hint="write sqlite:///path/to/penstock.db",
        )
    name = url.render_as_string(hide_password=True)
    if not url.database or url.database == ":memory:" or url.query:
        raise ConfigurationError(
            f"{name}: the registry's database is a file, without options, that other processes can open too",
            hint="write sqlite:///path/to/penstock.db",
        )
    return Path(url.database)


def _set_up(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    # Left to itself the driver begins transactions late and never for a SELECT or DDL; _begin does it.
    connection.isolation_level = None
    _use_write_ahead_log(connection)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    # The change of mode is kept in the file, but several processes that open a new one at once collide in
    # it, and SQLite does not wait there as it does for every other lock.
    for attempt in range(JOURNAL_ATTEMPTS_MAX):
        try:
            if connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
                return
            if connection.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",):
                return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or attempt == JOURNAL_ATTEMPTS_MAX - 1:
                raise
        time.sleep(JOURNAL_RETRY_S)
    raise sqlite3.OperationalError("the write-ahead log cannot be used: is it a network file system?")


def _begin(connection: Connection) -> None:
    # A writer takes the lock at once: a transaction that reads first and writes then can be refused at a
    # point where waiting would not help.
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
