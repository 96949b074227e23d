"""Writes what is known of one view's keys."""

import logging
import sqlite3
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import TypeVar

import msgspec

from penstock.core.errors import CorruptRecords, Fenced
from penstock.features.embedded.online_file import (
    OnlineFile,
    changes,
    digests,
    number_for,
    number_of,
    table,
)
from penstock.features.embedded.online_sweep import OnlineSweep
from penstock.features.online import (
    BACKFILLED,
    NO_PLACE,
    NO_TIME_MS,
    OFFSET_BITS,
    Progress,
    Record,
    Update,
    pack_record,
    read_record,
)
from penstock.features.view import FeatureView

__all__ = ["EmbeddedWriter"]

log = logging.getLogger(__name__)

T = TypeVar("T")
CHANGES_KEPT = 256
"""Who has not looked for so many transactions takes all to have changed."""
CHANGED_BYTES_MAX = 64 * 1024
"""Of the keys of one transaction: with more, likewise."""
_TOLD = (
    "INSERT INTO progress VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET"
    " as_of_ms = CASE WHEN excluded.next_offset < next_offset OR excluded.as_of_ms <= ?7"
    " THEN as_of_ms ELSE excluded.as_of_ms END,"
    " heard_ms = CASE WHEN excluded.next_offset < next_offset THEN heard_ms ELSE excluded.heard_ms END,"
    " next_offset = max(next_offset, excluded.next_offset),"
    " available_ms = max(available_ms, excluded.available_ms)"
)


class EmbeddedWriter:
    """Makes what is not there, also where the file was moved away meanwhile. Raises as
    `OnlineFile.connect_to_write` does.
    """

    def __init__(self, file: OnlineFile, view: FeatureView) -> None:
        self._file = file
        self._view = view
        self._open()

    def _open(self) -> None:
        self._connection = self._file.connect_to_write()
        try:
            self._inode = self._file.inode()
            number = self._number = number_for(self._connection, self._view)
        except BaseException:
            self._connection.close()
            raise
        same_topic = f"position >> {OFFSET_BITS} = excluded.position >> {OFFSET_BITS}"
        insert = f"INSERT INTO {table(number)} VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET"  # noqa: S608
        replaced = "position = excluded.position, key = excluded.key, record = excluded.record"
        self._put = f"{insert} {replaced} WHERE NOT ({same_topic} AND position > excluded.position)"
        self._fill = f"{insert} {replaced}"
        self._sweep = OnlineSweep(number, self._view)
        kept = changes(number)
        self._change = f"INSERT INTO {kept} SELECT ifnull(max(change), 0) + 1, ?, ? FROM {kept}"  # noqa: S608
        self._shorten = f"DELETE FROM {kept} WHERE change <= (SELECT max(change) FROM {kept}) - {CHANGES_KEPT}"  # noqa: S608
        self._found = f"SELECT position, key, record FROM {table(number)} WHERE digest = ?"  # noqa: S608

    def put(self, partition: int, updates: Sequence[Update], progress: Progress) -> None:
        last = {each.key: each for each in updates}
        rows = _rows(last.values(), partition << OFFSET_BITS)
        available_ms = max((each.available_ms for each in updates), default=0)
        told = (partition, progress.as_of_ms, progress.next_offset, progress.heard_ms, available_ms)

        def work(connection: sqlite3.Connection) -> None:
            changed: list[bytes] | None = []
            if updates:
                anew = self._begin_anew_where_topic_did(connection, partition, updates[0])
                connection.executemany(self._put, self._not_dropped(connection, partition, rows))
                changed = None if anew else list(last)
            connection.execute(_TOLD, (self._number, *told, NO_TIME_MS))
            if self._sweep.due(progress.heard_ms):
                dropped = self._sweep.drop(connection)
                changed = None if changed is None else changed + dropped
            if changed != []:
                self._note(connection, changed)

        self._written(work)

    def fill(self, updates: Sequence[Update]) -> int:
        found = digests([each.key for each in updates])

        def work(connection: sqlite3.Connection) -> int:
            older = [
                each
                for each, digest in zip(updates, found, strict=True)
                if self._gives_way(connection, digest, each)
            ]
            connection.executemany(self._fill, _rows(older, BACKFILLED << OFFSET_BITS))
            self._note(connection, [each.key for each in older])
            return len(older)

        return self._written(work)

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._connection.close()

    def _gives_way(self, connection: sqlite3.Connection, digest: int, update: Update) -> bool:
        """Whether what is known of its key is of history, too, and of no later."""
        found = connection.execute(self._found, (digest,)).fetchone()
        if found is None:
            return True
        position, key, record = found
        if position >= 0:
            return False
        if key != update.key:
            return True  # the other key's digest is the same
        try:
            return read_record(record)[1] <= update.available_ms
        except CorruptRecords:
            return True

    def _begin_anew_where_topic_did(
        self, connection: sqlite3.Connection, partition: int, first: Update
    ) -> bool:
        """A topic that was made anew begins at offset 0 again, with records later than all that were seen. One
        that is read again gives nothing but what was.
        """
        found = connection.execute(
            "SELECT next_offset, available_ms FROM progress WHERE view = ? AND partition = ?",
            (self._number, partition),
        ).fetchone()
        if found is None or first.offset >= found[0] or first.available_ms <= found[1]:
            return False
        of_partition = f"WHERE position >> {OFFSET_BITS} = ?"
        connection.execute(f"DELETE FROM {table(self._number)} {of_partition}", (partition,))  # noqa: S608
        connection.execute("DELETE FROM progress WHERE view = ? AND partition = ?", (self._number, partition))
        return True

    def _not_dropped(
        self, connection: sqlite3.Connection, partition: int, rows: Sequence[tuple[int, int, bytes, bytes]]
    ) -> Sequence[tuple[int, int, bytes, bytes]]:
        """What was put before and comes again is there, or was dropped since and changes nothing."""
        query = "SELECT next_offset FROM progress WHERE view = ? AND partition = ?"
        found = connection.execute(query, (self._number, partition)).fetchone()
        begins = (partition << OFFSET_BITS) + (found[0] if found is not None else 0)
        if all(row[1] >= begins for row in rows):
            return rows
        return [row for row in rows if row[1] >= begins or connection.execute(self._found, row[:1]).fetchone()]

    def _note(self, connection: sqlite3.Connection, keys: Sequence[bytes] | None) -> None:
        """For readers that hold what they have read: these are others now; None for any."""
        if keys is None or sum(map(len, keys)) > CHANGED_BYTES_MAX:
            connection.execute(self._change, (0, None))
        else:
            connection.execute(self._change, (len(keys), b"".join(map(msgspec.msgpack.encode, keys))))
        connection.execute(self._shorten)

    def _written(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Done in the file that is there, in whole: what a moved file was given is written again."""
        try:
            while True:
                if self._file.inode() != self._inode:
                    self._reopen()
                done = self._transacted(work)
                if self._file.inode() == self._inode:
                    return done
        except sqlite3.Error as error:
            raise self._file.failure(error, "nothing was written") from error

    def _reopen(self) -> None:
        log.warning(
            "online features %s: the file was moved or removed; view %r goes on in another, and knows each"
            " key from its next update on (hint: `penstock features backfill --online` fills it)",
            self._file.path,
            self._view.name,
        )
        self.close()
        self._open()

    def _transacted(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            if number_of(connection, self._view) != self._number:
                raise Fenced(
                    f"feature view {self._view.name!r} was defined anew, and this process has the old one",
                    hint="restart it with the app file that holds now",
                )
            done = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return done


def _rows(updates: Collection[Update], base: int) -> list[tuple[int, int, bytes, bytes]]:
    """As they are kept, in the order of the table."""
    rows = []
    for digest, each in zip(digests([each.key for each in updates]), updates, strict=True):
        position = NO_PLACE if each.offset == NO_PLACE else base + each.offset
        record = pack_record(Record(position, each.available_ms, each.timeline))
        rows.append((digest, position, each.key, record))
    rows.sort()
    return rows
