"""Reads what is known of many keys at once, and what of that has changed."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache

import msgspec

from penstock.core.errors import StorageFailed
from penstock.features.embedded.online_file import (
    NO_TABLE,
    OnlineFile,
    changes,
    digests,
    number_of,
    table,
)
from penstock.features.online import Answer, Progress, Seen
from penstock.features.view import FeatureView

__all__ = ["EmbeddedReader"]

KEYS_AT_ONCE_MAX = 4_096
KEYS_AT_FIRST = 64
"""Of a view of which nothing was read yet."""
_ANYTHING = -1
"""The change since which anything may have changed."""
FILE_S_MAX = 0.02
"""So much later, at most, it is seen that another file took the place of the one that is open."""
BYTES_AT_ONCE = 16 * 1024 * 1024
PROGRESS = (
    "SELECT json_group_array(json_array(partition, as_of_ms, next_offset, heard_ms))"
    " FROM progress WHERE view = number"
)
_decode_progress = msgspec.json.Decoder(tuple[Progress, ...]).decode
_decode_sizes = msgspec.json.Decoder(list[int | None]).decode
_decode_changes = msgspec.json.Decoder(tuple[int, int, int, int | None, int | None]).decode
_decode_keys = msgspec.msgpack.Decoder(list[bytes]).decode


class EmbeddedReader:
    """Opens the file when there is one. Its connection is made anew after an error, and where the file is
    another by now.
    """

    def __init__(self, file: OnlineFile, monotonic: Callable[[], float]) -> None:
        self._file = file
        self._monotonic = monotonic
        self._found_s = 0.0
        """When it was last seen that the file is the one that is open."""
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self._source = 0
        """Which connection it is: 0 for none."""
        self._sources = 0
        self._version = 0
        """Of all data, when it was looked at last: another after each transaction of somebody else."""
        self._read_at: dict[str, tuple[int, Seen]] = {}
        """Of each view's topic, what it was when it was read last, and the version before that."""
        self._numbers: dict[str, int] = {}
        self._sizes: dict[int, int] = {}
        """Of each table, the bytes of the largest record that was read of late."""

    def read(self, view: FeatureView, keys: Sequence[bytes], since: Seen | None = None) -> Answer:
        try:
            # It was just looked whether that is current, and at the file.
            follows = since is not None and since.source == self._source
            connection = self._connection if follows else self._connected()
            if connection is None:
                return _nothing(keys, self._source, since)
            if not follows:
                self._look(connection)
            version = self._version
            answer = self._read(connection, view, keys, since)
        except sqlite3.Error as error:
            raise self._failed(error) from error
        self._read_at[view.topic] = (version, answer.seen)
        return answer

    def look(self) -> None:
        try:
            connection = self._connected(at_most_s=FILE_S_MAX)
            if connection is not None:
                self._look(connection)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def is_current(self, view: FeatureView, seen: Seen) -> bool:
        if self._connection is None:
            return seen == Seen(0, 0, 0)
        return self._read_at.get(view.topic) == (self._version, seen)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        self._source = 0
        self._read_at.clear()
        self._numbers.clear()
        self._sizes.clear()
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _connected(self, *, at_most_s: float = 0.0) -> sqlite3.Connection | None:
        """To the file that is there, or was so long ago."""
        now_s = self._monotonic()
        if self._connection is not None and now_s - self._found_s < at_most_s:
            return self._connection
        self._found_s = now_s
        found = self._file.inode()
        if found != self._inode:
            self.close()
        if found is not None and self._connection is None:
            self._connection = self._file.connect_to_read()
            self._inode = found
            self._sources += 1
            self._source = self._sources
        return self._connection

    def _look(self, connection: sqlite3.Connection) -> None:
        (self._version,) = connection.execute("PRAGMA data_version").fetchone()

    def _failed(self, error: sqlite3.Error) -> StorageFailed:
        self.close()
        return self._file.failure(error, "nothing was read")

    def _number(self, connection: sqlite3.Connection, view: FeatureView) -> int | None:
        number = self._numbers.get(view.topic)
        if number is None:
            number = number_of(connection, view)
            if number is not None:
                self._numbers[view.topic] = number
        return number

    def _read(
        self, connection: sqlite3.Connection, view: FeatureView, keys: Sequence[bytes], since: Seen | None
    ) -> Answer:
        for _ in range(2):
            number = self._number(connection, view)
            if number is None:
                break
            at = Seen(self._source, number, _ANYTHING)
            if since is not None and since[:2] == at[:2]:
                at = since
            with suppress(_Dropped):
                return self._read_whole(connection, at, keys)
            del self._numbers[view.topic]  # it was defined anew meanwhile
        return _nothing(keys, self._source, since)

    def _read_whole(self, connection: sqlite3.Connection, since: Seen, keys: Sequence[bytes]) -> Answer:
        """As they all are at one time."""
        if len(keys) <= min(self._keys_at_once(since.view), KEYS_AT_ONCE_MAX):
            with suppress(sqlite3.DataError):
                return self._read_some(connection, since, keys)
        connection.execute("BEGIN")
        try:
            return self._read_all(connection, since, keys)
        finally:
            if connection.in_transaction:
                connection.execute("COMMIT")

    def _read_all(self, connection: sqlite3.Connection, since: Seen, keys: Sequence[bytes]) -> Answer:
        """In parts, each of as many keys as have so many bytes together."""
        parts: list[Answer] = []
        start, at_most = 0, KEYS_AT_ONCE_MAX
        while start < len(keys):
            count = min(at_most, self._keys_at_once(since.view))
            try:
                some = self._read_some(connection, since, keys[start : start + count])
            except sqlite3.DataError:
                # More than SQLite gives at once: they have grown since.
                if count == 1:
                    raise
                at_most = count // 2
                continue
            parts.append(some)
            start += count
        return _joined(parts)

    def _read_some(self, connection: sqlite3.Connection, since: Seen, keys: Sequence[bytes]) -> Answer:
        some = _read_some(connection, since, keys)
        largest = max([each or 0 for each in some.sizes], default=0)
        # What is not there any more is forgotten by and by.
        self._sizes[since.view] = max(largest, self._sizes.get(since.view, 0) * 7 // 8, 1)
        return some

    def _keys_at_once(self, number: int) -> int:
        size = self._sizes.get(number)
        return KEYS_AT_FIRST if size is None else max(BYTES_AT_ONCE // size, 1)


class _Dropped(Exception):
    """The table of a view is there no more."""


def _nothing(keys: Sequence[bytes], source: int, since: Seen | None) -> Answer:
    seen = Seen(source, 0, 0)
    return Answer(b"", [None] * len(keys), (), seen, () if since == seen else None)


def _joined(parts: Sequence[Answer]) -> Answer:
    """Of one moment, at least one."""
    if len(parts) == 1:
        return parts[0]
    sizes = [size for part in parts for size in part.sizes]
    return parts[0]._replace(joined=b"".join([part.joined for part in parts]), sizes=sizes)


def _read_some(connection: sqlite3.Connection, since: Seen, keys: Sequence[bytes]) -> Answer:
    """All of it in one row: for each row that there is, SQLite's client lets go of the interpreter's lock and
    waits for it again, which a busy event loop makes milliseconds of.
    """
    asked = 1 << (len(keys) - 1).bit_length() if keys else 1
    padding = [None] * (asked - len(keys))
    parameters = (since.view, since.change, *digests(keys), *padding)
    try:
        row = connection.execute(_query(since.view, asked), parameters).fetchone()
    except sqlite3.OperationalError as error:
        if NO_TABLE in str(error):
            raise _Dropped from error
        raise
    data, own_keys, sizes, told, changes_told, changed_keys = row
    if told is None:
        raise _Dropped
    seen, changed = _changed(since, changes_told, changed_keys)
    progress = _decode_progress(told)
    if data is None:
        return Answer(b"", [None] * len(keys), progress, seen, changed)
    there = _decode_sizes(sizes)[: len(keys)]  # it was asked for more, which are none
    # Keys are of a code of which none begins with another: what is equal together is so one by one.
    if own_keys == b"".join([key for key, size in zip(keys, there, strict=True) if size is not None]):
        return Answer(data, there, progress, seen, changed)
    if len(keys) == 1:  # another key with the same digest
        return Answer(b"", [None], progress, seen, changed)
    return _joined([_read_some(connection, since, [key]) for key in keys])


def _changed(since: Seen, told: str, keys: bytes | None) -> tuple[Seen, Sequence[bytes] | None]:
    """What the view is by now, and which keys have changed. `keys` are those that are known, one after the
    other.
    """
    transactions, of_known, count, first, last = _decode_changes(told)
    if not transactions and since.change != _ANYTHING:
        return since, ()
    seen = since._replace(change=last or 0)
    if since.change == _ANYTHING or of_known < transactions or first != since.change + 1:
        return seen, None
    return seen, _decode_keys(b"\xdd" + count.to_bytes(4, "big") + (keys or b""))


@lru_cache(maxsize=1024)
def _query(number: int, asked: int) -> str:
    asked_for = ",".join(["(?)"] * asked)
    changed = f"FROM {changes(number)} WHERE change > ?2"
    transactions = "json_array(count(*), count(keys), ifnull(sum(count), 0), min(change), max(change))"
    return (
        "SELECT CAST(group_concat(record, '') AS BLOB), CAST(group_concat(key, '') AS BLOB),"  # noqa: S608
        f" json_group_array(length(record)), (SELECT ({PROGRESS}) FROM views WHERE number = ?1),"
        f" (SELECT {transactions} {changed}), (SELECT CAST(group_concat(keys, '') AS BLOB) {changed})"
        f" FROM (VALUES {asked_for}) LEFT JOIN {table(number)} ON digest = column1"
    )
