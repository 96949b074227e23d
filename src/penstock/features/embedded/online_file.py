"""The file of the embedded online store: how it is opened and made, and where things are in it.

A record stands under 64 bits of its key's digest: a tree of integers is half as deep as one of keys, and its
inner pages hold no records, which halves the time of a read (measured). The key stands beside its record. Two
keys with the same 64 bits would take each other's place, and the one that has lost it is missing; among ten
million keys there are two such with a probability of 3 in a million.
"""

import fcntl
import hashlib
import os
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from penstock.core.durable_files import make_folder, sync_folder
from penstock.core.errors import ConfigurationError, StorageFailed
from penstock.features.online import fingerprint_of
from penstock.features.view import FeatureView

__all__ = [
    "NO_TABLE",
    "OnlineFile",
    "changes",
    "digests",
    "number_for",
    "number_of",
    "rows",
    "table",
]

FILE = Path("features", "online.db")
APPLICATION_ID = 0x50534F4E
VERSION = 3
WRITE_BUSY_S_MAX = 15.0
READ_BUSY_S_MAX = 0.2
CHECKPOINT_PAGES = 4_000
CACHE_KIB = 32 * 1024
BESIDE = ("-wal", "-shm")
"""What SQLite keeps beside a database."""
NO_TABLE = "no such table"
_VIEWS = """
CREATE TABLE views (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL UNIQUE,
    fingerprint BLOB NOT NULL,
    definition BLOB NOT NULL
)
"""
_PROGRESS = """
CREATE TABLE progress (
    view INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    as_of_ms INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    heard_ms INTEGER NOT NULL,
    available_ms INTEGER NOT NULL,
    PRIMARY KEY (view, partition)
) WITHOUT ROWID
"""


class OnlineFile:
    """Hands out connections, each for one thread at a time."""

    def __init__(self, home: Path) -> None:
        self.path = home / FILE
        self._name = str(self.path)

    def connect_to_write(self) -> sqlite3.Connection:
        """Makes what is not there. Raises `sqlite3.Error`, `StorageFailed` where there can be no folder, and
        `ConfigurationError` for a file that a newer Penstock made, or that is another's.
        """
        try:
            make_folder(self.path.parent)
        except OSError as error:
            raise StorageFailed(
                f"the folder of the online features, {self.path.parent}, cannot be made: {error.strerror}",
                hint="choose another place (the setting home), or mend that",
            ) from error
        try:
            self._make()
        except OSError as error:
            raise StorageFailed(f"online features {self.path} cannot be made: {error.strerror}") from error
        connection = _connect_to_write(self.path)
        try:
            _make_tables(connection, self.path)
        except BaseException:
            connection.close()
            raise
        return connection

    def connect_to_read(self) -> sqlite3.Connection:
        """Raises `sqlite3.Error`; `OperationalError` where there is no file."""
        # Not mode=ro: the first to open it after the last has closed it makes the index of its journal anew.
        connection = sqlite3.connect(
            f"{self.path.resolve().as_uri()}?mode=rw",
            uri=True,
            timeout=READ_BUSY_S_MAX,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            connection.execute("PRAGMA query_only=ON")
            connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
            _check_file(connection, self.path, empty=True)
        except BaseException:
            connection.close()
            raise
        return connection

    def inode(self) -> tuple[int, int] | None:
        """Which file it is; None where there is none. Raises `StorageFailed`."""
        try:
            found = os.stat(self._name)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageFailed(f"online features {self.path}: {error.strerror}") from error
        return found.st_dev, found.st_ino

    def _make(self) -> None:
        """A file where there is none. The journal of one that was moved away is not that of a new one, and
        would damage it.
        """
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            if not self.path.exists():
                for beside in BESIDE:
                    self.path.with_name(self.path.name + beside).unlink(missing_ok=True)
                self.path.touch()
                sync_folder(self.path.parent)
        finally:
            os.close(folder)

    @contextmanager
    def failures(self, undone: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self.failure(error, undone) from error

    def failure(self, error: sqlite3.Error, undone: str) -> StorageFailed:
        return StorageFailed(
            f"online features {self.path}: {undone}: {error}",
            hint="look at the disk and at who may write there; a damaged file can be moved away, with its -wal"
            " and -shm: a new one begins empty, and knows each key from its next update on, or from `penstock"
            " features backfill --online`",
        )


def digests(keys: Sequence[bytes]) -> tuple[int, ...]:
    """What the keys' records stand under."""
    joined = b"".join([hashlib.blake2b(key, digest_size=8).digest() for key in keys])
    return struct.unpack(f"<{len(keys)}q", joined)


def table(number: int) -> str:
    return f"records_{number}"


def changes(number: int) -> str:
    """Of a view's records, of late: a row for each transaction, numbered without gaps, with the keys, each in
    MessagePack, and how many these are; or NULL where any may have changed.
    """
    return f"changes_{number}"


def number_of(connection: sqlite3.Connection, view: FeatureView) -> int | None:
    """Of the view as it is defined here; None where it is defined otherwise, or not at all."""
    query = "SELECT number FROM views WHERE topic = ? AND fingerprint = ?"
    found = rows(connection, query, view.topic, fingerprint_of(view))
    return int(found[0][0]) if found else None


def rows(connection: sqlite3.Connection, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    """None of a file that somebody is about to make."""
    try:
        return connection.execute(query, parameters).fetchall()
    except sqlite3.OperationalError as error:
        if NO_TABLE in str(error):
            return []
        raise


def number_for(connection: sqlite3.Connection, view: FeatureView) -> int:
    """Likewise; made where there is none. Raises `ConfigurationError` where the topic is another view's."""
    definition = msgspec.msgpack.encode(view)
    connection.execute("BEGIN IMMEDIATE")
    _check_owner(connection, view)
    number = number_of(connection, view)
    if number is None:
        for (old,) in connection.execute("SELECT number FROM views WHERE topic = ?", (view.topic,)).fetchall():
            connection.execute(f"DROP TABLE {table(old)}")
            connection.execute(f"DROP TABLE {changes(old)}")
            connection.execute("DELETE FROM progress WHERE view = ?", (old,))
            connection.execute("DELETE FROM views WHERE number = ?", (old,))
        number = connection.execute(
            "INSERT INTO views (topic, fingerprint, definition) VALUES (?, ?, ?)",
            (view.topic, fingerprint_of(view), definition),
        ).lastrowid
        assert number is not None, "a row that was inserted has a number"
        connection.execute(
            f"CREATE TABLE {table(number)} (digest INTEGER PRIMARY KEY, position INTEGER NOT NULL,"
            " key BLOB NOT NULL, record BLOB NOT NULL)"
        )
        connection.execute(
            f"CREATE TABLE {changes(number)} (change INTEGER PRIMARY KEY, count INTEGER NOT NULL, keys BLOB)"
        )
    else:
        connection.execute("UPDATE views SET definition = ? WHERE number = ?", (definition, number))
    connection.execute("COMMIT")
    return number


def _check_owner(connection: sqlite3.Connection, view: FeatureView) -> None:
    query = "SELECT definition FROM views WHERE topic = ?"
    for (definition,) in connection.execute(query, (view.topic,)).fetchall():
        owner = msgspec.msgpack.decode(definition, type=FeatureView)
        if (owner.app, owner.name) != (view.app, view.name):
            raise ConfigurationError(
                f"feature view {view.name!r} of app {view.app!r} has the topic {view.topic!r}, and so has"
                f" {owner.name!r} of app {owner.app!r} in this home",
                hint="call the view or the app otherwise, or give one of the apps a home of its own",
            )


def _connect_to_write(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=WRITE_BUSY_S_MAX, isolation_level=None, check_same_thread=False)
    try:
        if connection.execute("PRAGMA journal_mode=WAL").fetchone() != ("wal",):
            raise sqlite3.OperationalError("the write-ahead log cannot be used: is it a network file system?")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
    except BaseException:
        connection.close()
        raise
    return connection


def _make_tables(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("BEGIN IMMEDIATE")
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables:
        connection.execute("ROLLBACK")
        _check_file(connection, path, empty=False)
        return
    connection.execute(_VIEWS)
    connection.execute(_PROGRESS)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={VERSION}")
    connection.execute("COMMIT")


def _check_file(connection: sqlite3.Connection, path: Path, *, empty: bool) -> None:
    """`empty`: whether it may be one in which nothing was made yet."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if (application, version) == (APPLICATION_ID, VERSION) or (empty and not application and not version):
        return
    what = "was made by another version of Penstock" if application == APPLICATION_ID else "is another's"
    raise ConfigurationError(f"{path} {what}", hint="choose another home, or move the file away")
