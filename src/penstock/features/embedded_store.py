"""The online store of one machine: an SQLite file that stream processes write and serve processes read.

A record stands under 64 bits of its key's digest: a tree of integers is half as deep as one of keys, and its
inner pages hold no records, which halves the time of a read (measured). The key stands before its record. Two
keys with the same 64 bits, of which there is one pair among millions of keys once in a million stores, would
take each other's place, and the one that has lost it is missing.
"""

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec

from penstock.core.durable_files import make_folder
from penstock.core.errors import ConfigurationError, Fenced, StorageFailed
from penstock.features.online import (
    OFFSET_BITS,
    Answer,
    Progress,
    Record,
    Update,
    fingerprint_of,
    pack_record,
)
from penstock.features.view import FeatureView

__all__ = ["EmbeddedOnlineStore"]

FILE = Path("features", "online.db")
APPLICATION_ID = 0x50534F4E
VERSION = 1
WRITE_BUSY_S_MAX = 15.0
READ_BUSY_S_MAX = 0.2
CHECKPOINT_PAGES = 4_000
CACHE_KIB = 32 * 1024
KEYS_AT_ONCE_MAX = 4_096
FILLED: Final = -1
_VIEWS = """
CREATE TABLE views (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
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
_TOLD = (
    "INSERT INTO progress VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
    " as_of_ms = max(as_of_ms, excluded.as_of_ms), next_offset = max(next_offset, excluded.next_offset),"
    " heard_ms = max(heard_ms, excluded.heard_ms), available_ms = max(available_ms, excluded.available_ms)"
)
_MARK = b"\xc1"
"""Between a key and its record: a byte that MessagePack does not have."""
_NO_TABLE = "no such table"
_decode_progress = msgspec.json.Decoder(tuple[Progress, ...]).decode
_decode_sizes = msgspec.json.Decoder(list[int | None]).decode


class EmbeddedOnlineStore:
    """An `OnlineStore` in the home folder. A reader makes no file: without one, nothing is known yet."""

    def __init__(self, home: Path) -> None:
        self.path = home / FILE

    def writer(self, view: FeatureView) -> "_Writer":
        """Raises `ConfigurationError` for a file that a newer Penstock made, or that is another's."""
        try:
            make_folder(self.path.parent)
        except OSError as error:
            raise StorageFailed(
                f"the folder of the online features, {self.path.parent}, cannot be made: {error.strerror}",
                hint="choose another place (the setting home), or mend that",
            ) from error
        with self._failures("nothing was written"):
            connection = _connect_to_write(self.path)
            try:
                _make_tables(connection, self.path)
                return _Writer(self, connection, view, _number_for(connection, view))
            except BaseException:
                connection.close()
                raise

    def reader(self) -> "_Reader":
        return _Reader(self)

    def views(self) -> list[FeatureView]:
        if not self.path.exists():
            return []
        with self._failures("nothing was read"), closing(self.connect_to_read()) as connection:
            found = _rows(connection, "SELECT definition FROM views ORDER BY name")
        return [msgspec.msgpack.decode(definition, type=FeatureView) for (definition,) in found]

    def size(self, view: FeatureView) -> int:
        if not self.path.exists():
            return 0
        with self._failures("nothing was read"), closing(self.connect_to_read()) as connection:
            number = _number_of(connection, view)
            if number is None:
                return 0
            (count,) = connection.execute(f"SELECT count(*) FROM {_table(number)}").fetchone()  # noqa: S608
        return int(count)

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

    @contextmanager
    def _failures(self, undone: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self.failure(error, undone) from error

    def failure(self, error: sqlite3.Error, undone: str) -> StorageFailed:
        return StorageFailed(
            f"online features {self.path}: {undone}: {error}",
            hint="look at the disk and at who may write there; a damaged file can be moved away, and is filled"
            " anew by `penstock features backfill`",
        )


class _Writer:
    def __init__(
        self, store: EmbeddedOnlineStore, connection: sqlite3.Connection, view: FeatureView, number: int
    ) -> None:
        self._store = store
        self._connection = connection
        self._view = view
        self._number = number
        same_topic = f"position >> {OFFSET_BITS} = excluded.position >> {OFFSET_BITS}"
        insert = f"INSERT INTO {_table(number)} VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET"  # noqa: S608
        replaced = "position = excluded.position, record = excluded.record"
        self._put = f"{insert} {replaced} WHERE NOT ({same_topic} AND position > excluded.position)"
        self._fill = f"{insert} {replaced} WHERE position = {FILLED}"

    def put(self, partition: int, updates: Sequence[Update], progress: Progress) -> None:
        base = partition << OFFSET_BITS
        last = {each.key: each for each in updates}
        rows = sorted(
            (_digest(each.key), base + each.offset, _kept(each, base + each.offset)) for each in last.values()
        )
        available_ms = max((each.available_ms for each in updates), default=0)
        told = (partition, progress.as_of_ms, progress.next_offset, progress.heard_ms, available_ms)
        with self._transaction() as connection:
            if updates:
                self._begin_anew_where_topic_did(connection, partition, updates[0])
            connection.executemany(self._put, rows)
            connection.execute(_TOLD, (self._number, *told))

    def fill(self, updates: Sequence[Update]) -> int:
        rows = sorted((_digest(each.key), FILLED, _kept(each, FILLED)) for each in updates)
        with self._transaction() as connection:
            before = connection.total_changes
            connection.executemany(self._fill, rows)
            return connection.total_changes - before

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._connection.close()

    def _begin_anew_where_topic_did(
        self, connection: sqlite3.Connection, partition: int, first: Update
    ) -> None:
        """A topic that was made anew begins at offset 0 again, with records later than all that were seen. One
        that is read again gives nothing but what was.
        """
        found = connection.execute(
            "SELECT next_offset, available_ms FROM progress WHERE view = ? AND partition = ?",
            (self._number, partition),
        ).fetchone()
        if found is None or first.offset >= found[0] or first.available_ms <= found[1]:
            return
        of_partition = f"WHERE position >> {OFFSET_BITS} = ?"
        connection.execute(f"DELETE FROM {_table(self._number)} {of_partition}", (partition,))  # noqa: S608
        connection.execute("DELETE FROM progress WHERE view = ? AND partition = ?", (self._number, partition))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                if _number_of(connection, self._view) != self._number:
                    raise Fenced(
                        f"feature view {self._view.name!r} was defined anew, and this process has the old one",
                        hint="restart it with the app file that holds now",
                    )
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._store.failure(error, "nothing was written") from error


class _Reader:
    """Opens the file when there is one. Its connection is made anew after an error, and where the file is
    another by now.
    """

    def __init__(self, store: EmbeddedOnlineStore) -> None:
        self._store = store
        self._connection: sqlite3.Connection | None = None
        self._file = (0, 0)
        self._numbers: dict[str, int] = {}

    def read(self, view: FeatureView, keys: Sequence[bytes]) -> Answer:
        try:
            connection = self._connected()
            if connection is not None:
                return self._read(connection, view, keys)
        except sqlite3.Error as error:
            self.close()
            raise self._store.failure(error, "nothing was read") from error
        return _nothing(keys)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        self._numbers.clear()
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _connected(self) -> sqlite3.Connection | None:
        try:
            found = os.stat(self._store.path)
        except FileNotFoundError:
            self.close()
            return None
        except OSError as error:
            self.close()
            raise StorageFailed(f"online features {self._store.path}: {error.strerror}") from error
        if self._connection is not None and self._file != (found.st_dev, found.st_ino):
            self.close()
        if self._connection is None:
            self._connection = self._store.connect_to_read()
            self._file = (found.st_dev, found.st_ino)
        return self._connection

    def _read(self, connection: sqlite3.Connection, view: FeatureView, keys: Sequence[bytes]) -> Answer:
        for _ in range(2):
            number = self._numbers.get(view.name)
            if number is None:
                number = _number_of(connection, view)
                if number is None:
                    return _nothing(keys)
                self._numbers[view.name] = number
            with suppress(_Dropped):
                return _read_all(connection, number, keys)
            del self._numbers[view.name]  # it was defined anew meanwhile
        return _nothing(keys)


class _Dropped(Exception):
    """The table of a view is there no more."""


def _nothing(keys: Sequence[bytes]) -> Answer:
    return Answer([None] * len(keys), ())


def _read_all(connection: sqlite3.Connection, number: int, keys: Sequence[bytes]) -> Answer:
    if len(keys) <= KEYS_AT_ONCE_MAX:
        return _read_some(connection, number, keys)
    records: list[bytes | None] = []
    progress: tuple[Progress, ...] | None = None
    for start in range(0, len(keys), KEYS_AT_ONCE_MAX):
        some = _read_some(connection, number, keys[start : start + KEYS_AT_ONCE_MAX])
        records += some.records
        progress = some.progress if progress is None else progress
    return Answer(records, progress or ())


def _read_some(connection: sqlite3.Connection, number: int, keys: Sequence[bytes]) -> Answer:
    """All of it in one row: for each row that there is, SQLite's client lets go of the interpreter's lock and
    waits for it again, which a busy event loop makes milliseconds of.
    """
    asked = 1 << (len(keys) - 1).bit_length() if keys else 1
    padding = [None] * (asked - len(keys))
    parameters = (number, *map(_digest, keys), *padding)
    try:
        data, sizes, told = connection.execute(_query(number, asked), parameters).fetchone()
    except sqlite3.OperationalError as error:
        if _NO_TABLE in str(error):
            raise _Dropped from error
        raise
    if told is None:
        raise _Dropped
    return Answer(_cut(data, _decode_sizes(sizes), keys), _decode_progress(told))


@lru_cache(maxsize=1024)
def _query(number: int, asked: int) -> str:
    asked_for = ",".join(["(?)"] * asked)
    progress = (
        "SELECT json_group_array(json_array(partition, as_of_ms, next_offset, heard_ms))"
        " FROM progress WHERE view = number"
    )
    return (
        "SELECT CAST(group_concat(record, '') AS BLOB), json_group_array(length(record)),"  # noqa: S608
        f" (SELECT ({progress}) FROM views WHERE number = ?)"
        f" FROM (VALUES {asked_for}) LEFT JOIN {_table(number)} ON digest = column1"
    )


def _cut(data: bytes | None, sizes: list[int | None], keys: Sequence[bytes]) -> list[bytes | None]:
    """The keys' records of what SQLite gave one after the other."""
    if data is None:
        return [None] * len(keys)
    records: list[bytes | None] = []
    start = 0
    for key, size in zip(keys, sizes, strict=False):  # it was asked for more, which are none
        if size is None:
            records.append(None)
            continue
        begin, start = start + len(key), start + size
        own = data.startswith(key, begin - len(key)) and data[begin : begin + 1] == _MARK
        records.append(data[begin + 1 : start] if own else None)
    return records


def _kept(update: Update, position: int) -> bytes:
    record = pack_record(Record(position, update.available_ms, update.timeline))
    return update.key + _MARK + record


def _digest(key: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little", signed=True)


def _table(number: int) -> str:
    return f"records_{number}"


def _number_of(connection: sqlite3.Connection, view: FeatureView) -> int | None:
    """Of the view as it is defined here; None where it is defined otherwise, or not at all."""
    query = "SELECT number FROM views WHERE name = ? AND fingerprint = ?"
    found = _rows(connection, query, view.name, fingerprint_of(view))
    return int(found[0][0]) if found else None


def _rows(connection: sqlite3.Connection, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    """None of a file that somebody is about to make."""
    try:
        return connection.execute(query, parameters).fetchall()
    except sqlite3.OperationalError as error:
        if _NO_TABLE in str(error):
            return []
        raise


def _number_for(connection: sqlite3.Connection, view: FeatureView) -> int:
    """Likewise; made where there is none."""
    definition = msgspec.msgpack.encode(view)
    connection.execute("BEGIN IMMEDIATE")
    number = _number_of(connection, view)
    if number is None:
        for (old,) in connection.execute("SELECT number FROM views WHERE name = ?", (view.name,)).fetchall():
            connection.execute(f"DROP TABLE {_table(old)}")
            connection.execute("DELETE FROM progress WHERE view = ?", (old,))
            connection.execute("DELETE FROM views WHERE number = ?", (old,))
        number = connection.execute(
            "INSERT INTO views (name, fingerprint, definition) VALUES (?, ?, ?)",
            (view.name, fingerprint_of(view), definition),
        ).lastrowid
        assert number is not None, "a row that was inserted has a number"
        connection.execute(
            f"CREATE TABLE {_table(number)} (digest INTEGER PRIMARY KEY, position INTEGER NOT NULL,"
            " record BLOB NOT NULL)"
        )
    else:
        connection.execute("UPDATE views SET definition = ? WHERE number = ?", (definition, number))
    connection.execute("COMMIT")
    return number


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
