"""Writes what is known of one view's keys."""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from penstock.core.errors import Fenced
from penstock.features.embedded.online_file import MARK, OnlineFile, digests, number_for, number_of, table
from penstock.features.online import OFFSET_BITS, Progress, Record, Update, pack_record
from penstock.features.view import FeatureView

__all__ = ["EmbeddedWriter"]

FILLED: Final = -1
_TOLD = (
    "INSERT INTO progress VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
    " as_of_ms = max(as_of_ms, excluded.as_of_ms), next_offset = max(next_offset, excluded.next_offset),"
    " heard_ms = max(heard_ms, excluded.heard_ms), available_ms = max(available_ms, excluded.available_ms)"
)


class EmbeddedWriter:
    """Makes what is not there. Raises as `OnlineFile.connect_to_write` does."""

    def __init__(self, file: OnlineFile, view: FeatureView) -> None:
        self._file = file
        self._view = view
        self._connection = file.connect_to_write()
        try:
            number = self._number = number_for(self._connection, view)
        except BaseException:
            self._connection.close()
            raise
        same_topic = f"position >> {OFFSET_BITS} = excluded.position >> {OFFSET_BITS}"
        insert = f"INSERT INTO {table(number)} VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET"  # noqa: S608
        replaced = "position = excluded.position, record = excluded.record"
        self._put = f"{insert} {replaced} WHERE NOT ({same_topic} AND position > excluded.position)"
        self._fill = f"{insert} {replaced} WHERE position = {FILLED}"

    def put(self, partition: int, updates: Sequence[Update], progress: Progress) -> None:
        base = partition << OFFSET_BITS
        last = {each.key: each for each in updates}
        rows = _rows(last.values(), base)
        available_ms = max((each.available_ms for each in updates), default=0)
        told = (partition, progress.as_of_ms, progress.next_offset, progress.heard_ms, available_ms)
        with self._transaction() as connection:
            if updates:
                self._begin_anew_where_topic_did(connection, partition, updates[0])
            connection.executemany(self._put, rows)
            connection.execute(_TOLD, (self._number, *told))

    def fill(self, updates: Sequence[Update]) -> int:
        rows = _rows(updates, None)
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
        connection.execute(f"DELETE FROM {table(self._number)} {of_partition}", (partition,))  # noqa: S608
        connection.execute("DELETE FROM progress WHERE view = ? AND partition = ?", (self._number, partition))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                if number_of(connection, self._view) != self._number:
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
            raise self._file.failure(error, "nothing was written") from error


def _rows(updates: Collection[Update], base: int | None) -> list[tuple[int, int, bytes]]:
    """As they are kept, in the order of the table; without a base they are not of the log."""
    keys = digests([each.key for each in updates])
    positions = [FILLED if base is None else base + each.offset for each in updates]
    records = [_kept(each, position) for each, position in zip(updates, positions, strict=True)]
    return sorted(zip(keys, positions, records, strict=True))


def _kept(update: Update, position: int) -> bytes:
    record = pack_record(Record(position, update.available_ms, update.timeline))
    return update.key + MARK + record
