"""Reads what is known of many keys at once, and what of that has changed."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import NamedTuple

import msgspec

from penstock.features.embedded.online_file import (
    MARK,
    NO_TABLE,
    OnlineFile,
    changes,
    digests,
    number_of,
    table,
)
from penstock.features.online import Answer, News, Progress, Seen
from penstock.features.view import FeatureView

__all__ = ["EmbeddedReader"]

KEYS_AT_ONCE_MAX = 4_096
KEYS_AT_FIRST = 64
"""Of a view of which nothing was read yet."""
BYTES_AT_ONCE = 16 * 1024 * 1024
PROGRESS = (
    "SELECT json_group_array(json_array(partition, as_of_ms, next_offset, heard_ms))"
    " FROM progress WHERE view = number"
)
_decode_progress = msgspec.json.Decoder(tuple[Progress, ...]).decode
_decode_sizes = msgspec.json.Decoder(list[int | None]).decode
_decode_keys = msgspec.msgpack.Decoder(list[bytes]).decode


class EmbeddedReader:
    """Opens the file when there is one. Its connection is made anew after an error, and where the file is
    another by now.
    """

    def __init__(self, file: OnlineFile) -> None:
        self._file = file
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self._source = 0
        """Which connection it is: 0 for none."""
        self._sources = 0
        self._told: dict[str, _Told] = {}
        self._numbers: dict[str, int] = {}
        self._sizes: dict[int, int] = {}
        """Of each table, the bytes of the largest record that was read of late."""

    def read(self, view: FeatureView, keys: Sequence[bytes]) -> Answer:
        try:
            connection = self._connected()
            if connection is not None:
                return self._read(connection, view, keys)
        except sqlite3.Error as error:
            self.close()
            raise self._file.failure(error, "nothing was read") from error
        return _nothing(keys, self._source)

    def news(self, view: FeatureView, since: Seen | None) -> News:
        try:
            connection = self._connected()
            if connection is not None:
                return self._news(connection, view, since)
        except sqlite3.Error as error:
            self.close()
            raise self._file.failure(error, "nothing was read") from error
        return _no_view(self._source, since)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        self._source = 0
        self._told.clear()
        self._numbers.clear()
        self._sizes.clear()
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _connected(self) -> sqlite3.Connection | None:
        found = self._file.inode()
        if found != self._inode:
            self.close()
        if found is not None and self._connection is None:
            self._connection = self._file.connect_to_read()
            self._inode = found
            self._sources += 1
            self._source = self._sources
        return self._connection

    def _news(self, connection: sqlite3.Connection, view: FeatureView, since: Seen | None) -> News:
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        told = self._told.get(view.topic)
        if told is not None and told.version == version and told.nothing.seen == since:
            return told.nothing
        news = self._looked_up(connection, view, since)
        self._told[view.topic] = _Told(version, news._replace(changed=()))
        return news

    def _looked_up(self, connection: sqlite3.Connection, view: FeatureView, since: Seen | None) -> News:
        for _ in range(2):
            number = self._number(connection, view)
            if number is None:
                break
            with suppress(_Dropped):
                return _changed(connection, self._at(number), since)
            del self._numbers[view.topic]
        return _no_view(self._source, since)

    def _number(self, connection: sqlite3.Connection, view: FeatureView) -> int | None:
        number = self._numbers.get(view.topic)
        if number is None:
            number = number_of(connection, view)
            if number is not None:
                self._numbers[view.topic] = number
        return number

    def _read(self, connection: sqlite3.Connection, view: FeatureView, keys: Sequence[bytes]) -> Answer:
        for _ in range(2):
            number = self._number(connection, view)
            if number is None:
                break
            with suppress(_Dropped):
                return self._read_whole(connection, number, keys)
            del self._numbers[view.topic]  # it was defined anew meanwhile
        return _nothing(keys, self._source)

    def _at(self, number: int) -> Seen:
        """Where the number of the change is still to be read."""
        return Seen(self._source, number, 0)

    def _read_whole(self, connection: sqlite3.Connection, number: int, keys: Sequence[bytes]) -> Answer:
        """As they all are at one time."""
        if len(keys) <= 1:
            return _read_some(connection, self._at(number), keys)
        connection.execute("BEGIN")
        try:
            return self._read_all(connection, number, keys)
        finally:
            if connection.in_transaction:
                connection.execute("COMMIT")

    def _read_all(self, connection: sqlite3.Connection, number: int, keys: Sequence[bytes]) -> Answer:
        """In parts, each of as many keys as have so many bytes together."""
        records: list[bytes | None] = []
        first: Answer | None = None
        start, at_most = 0, KEYS_AT_ONCE_MAX
        while start < len(keys):
            size = self._sizes.get(number)
            count = min(at_most, KEYS_AT_FIRST if size is None else max(BYTES_AT_ONCE // size, 1))
            try:
                some = _read_some(connection, self._at(number), keys[start : start + count])
            except sqlite3.DataError:
                # More than SQLite gives at once: they have grown since.
                if count == 1:
                    raise
                at_most = count // 2
                continue
            largest = max([len(each) for each in some.records if each is not None], default=0)
            # What is not there any more is forgotten by and by.
            self._sizes[number] = max(largest, (size or 0) * 7 // 8, 1)
            first = first or some
            records += some.records
            start += count
        assert first is not None, "there are keys"
        return first._replace(records=records)


class _Dropped(Exception):
    """The table of a view is there no more."""


class _Told(NamedTuple):
    """What was told of a view last, and of which version of the data: that nothing has changed since."""

    version: int
    nothing: News


def _nothing(keys: Sequence[bytes], source: int) -> Answer:
    return Answer([None] * len(keys), (), Seen(source, 0, 0))


def _no_view(source: int, since: Seen | None) -> News:
    seen = Seen(source, 0, 0)
    return News(() if seen == since else None, (), seen)


def _read_some(connection: sqlite3.Connection, at: Seen, keys: Sequence[bytes]) -> Answer:
    """All of it in one row: for each row that there is, SQLite's client lets go of the interpreter's lock and
    waits for it again, which a busy event loop makes milliseconds of.
    """
    asked = 1 << (len(keys) - 1).bit_length() if keys else 1
    padding = [None] * (asked - len(keys))
    with _noticing():
        found = connection.execute(_query(at.view, asked), (at.view, *digests(keys), *padding)).fetchone()
    data, sizes, told, change = found
    if told is None:
        raise _Dropped
    progress = _decode_progress(told)
    return Answer(_cut(data, _decode_sizes(sizes), keys), progress, at._replace(change=change))


@contextmanager
def _noticing() -> Iterator[None]:
    """That a view's tables are there no more."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if NO_TABLE in str(error):
            raise _Dropped from error
        raise


def _changed(connection: sqlite3.Connection, at: Seen, since: Seen | None) -> News:
    """Of the view that it is `at` by now, but for the number of the change."""
    follows = since is not None and since[:2] == at[:2]
    after = since.change if since is not None and follows else None
    with _noticing():
        rows = connection.execute(_news_query(at.view, since=follows), (at.view, after)).fetchall()
    if not rows:
        raise _Dropped
    told, last, _ = rows[-1]
    progress = _decode_progress(told)
    if since is None or not follows:
        return News(None, progress, at._replace(change=last))
    if last is None:
        return News((), progress, since)
    seen = at._replace(change=last)
    if rows[0][1] != since.change + 1 or any(keys is None for *_, keys in rows):
        return News(None, progress, seen)
    return News([key for *_, keys in rows for key in _decode_keys(keys)], progress, seen)


@lru_cache(maxsize=1024)
def _query(number: int, asked: int) -> str:
    asked_for = ",".join(["(?)"] * asked)
    return (
        "SELECT CAST(group_concat(record, '') AS BLOB), json_group_array(length(record)),"  # noqa: S608
        f" (SELECT ({PROGRESS}) FROM views WHERE number = ?), ({_last(number)})"
        f" FROM (VALUES {asked_for}) LEFT JOIN {table(number)} ON digest = column1"
    )


@lru_cache(maxsize=64)
def _news_query(number: int, *, since: bool) -> str:
    """The view's progress beside each of the changes since, or beside the last of all."""
    found = f"LEFT JOIN {changes(number)} ON change > ? ORDER BY change"
    if not since:
        found = f"LEFT JOIN (SELECT ({_last(number)}) AS change, NULL AS keys WHERE ? IS NULL)"
    return f"SELECT told, change, keys FROM (SELECT ({PROGRESS}) AS told FROM views WHERE number = ?) {found}"  # noqa: S608


def _last(number: int) -> str:
    return f"SELECT ifnull(max(change), 0) FROM {changes(number)}"  # noqa: S608


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
        own = data.startswith(key, begin - len(key)) and data[begin : begin + 1] == MARK
        records.append(data[begin + 1 : start] if own else None)
    return records
