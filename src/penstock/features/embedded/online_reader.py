"""Reads what is known of many keys at once."""

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache

import msgspec

from penstock.features.embedded.online_file import MARK, NO_TABLE, OnlineFile, digests, number_of, table
from penstock.features.online import Answer, Progress
from penstock.features.view import FeatureView

__all__ = ["EmbeddedReader"]

KEYS_AT_ONCE_MAX = 4_096
KEYS_AT_FIRST = 64
"""Of a view of which nothing was read yet."""
BYTES_AT_ONCE = 16 * 1024 * 1024
_decode_progress = msgspec.json.Decoder(tuple[Progress, ...]).decode
_decode_sizes = msgspec.json.Decoder(list[int | None]).decode


class EmbeddedReader:
    """Opens the file when there is one. Its connection is made anew after an error, and where the file is
    another by now.
    """

    def __init__(self, file: OnlineFile) -> None:
        self._file = file
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
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
        return _nothing(keys)

    def close(self) -> None:
        connection, self._connection = self._connection, None
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
        return self._connection

    def _read(self, connection: sqlite3.Connection, view: FeatureView, keys: Sequence[bytes]) -> Answer:
        for _ in range(2):
            number = self._numbers.get(view.topic)
            if number is None:
                number = number_of(connection, view)
                if number is None:
                    return _nothing(keys)
                self._numbers[view.topic] = number
            with suppress(_Dropped):
                return self._read_whole(connection, number, keys)
            del self._numbers[view.topic]  # it was defined anew meanwhile
        return _nothing(keys)

    def _read_whole(self, connection: sqlite3.Connection, number: int, keys: Sequence[bytes]) -> Answer:
        """As they all are at one time."""
        if len(keys) <= 1:
            return _read_some(connection, number, keys)
        connection.execute("BEGIN")
        try:
            return self._read_all(connection, number, keys)
        finally:
            if connection.in_transaction:
                connection.execute("COMMIT")

    def _read_all(self, connection: sqlite3.Connection, number: int, keys: Sequence[bytes]) -> Answer:
        """In parts, each of as many keys as have so many bytes together."""
        records: list[bytes | None] = []
        progress: tuple[Progress, ...] = ()
        start, at_most = 0, KEYS_AT_ONCE_MAX
        while start < len(keys):
            size = self._sizes.get(number)
            count = min(at_most, KEYS_AT_FIRST if size is None else max(BYTES_AT_ONCE // size, 1))
            try:
                some = _read_some(connection, number, keys[start : start + count])
            except sqlite3.DataError:
                # More than SQLite gives at once: they have grown since.
                if count == 1:
                    raise
                at_most = count // 2
                continue
            largest = max([len(each) for each in some.records if each is not None], default=0)
            # What is not there any more is forgotten by and by.
            self._sizes[number] = max(largest, (size or 0) * 7 // 8, 1)
            progress = some.progress if not start else progress
            records += some.records
            start += count
        return Answer(records, progress)


class _Dropped(Exception):
    """The table of a view is there no more."""


def _nothing(keys: Sequence[bytes]) -> Answer:
    return Answer([None] * len(keys), ())


def _read_some(connection: sqlite3.Connection, number: int, keys: Sequence[bytes]) -> Answer:
    """All of it in one row: for each row that there is, SQLite's client lets go of the interpreter's lock and
    waits for it again, which a busy event loop makes milliseconds of.
    """
    asked = 1 << (len(keys) - 1).bit_length() if keys else 1
    padding = [None] * (asked - len(keys))
    parameters = (number, *digests(keys), *padding)
    try:
        data, sizes, told = connection.execute(_query(number, asked), parameters).fetchone()
    except sqlite3.OperationalError as error:
        if NO_TABLE in str(error):
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
        f" FROM (VALUES {asked_for}) LEFT JOIN {table(number)} ON digest = column1"
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
        own = data.startswith(key, begin - len(key)) and data[begin : begin + 1] == MARK
        records.append(data[begin + 1 : start] if own else None)
    return records
