"""Reading frames within one view of the database, which a writer never waits for."""

import sqlite3
import threading
from bisect import bisect_right
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import accumulate

import numpy as np

from penstock.core.errors import CorruptRecords
from penstock.log.embedded.database import Database
from penstock.log.embedded.frames import frames_from
from penstock.log.records import Fetched, Records, TopicPartition, concatenated, cut

__all__ = ["Budget", "Cursor", "Reader"]


class Reader:
    """A connection that reads, for one thread at a time; others wait for it."""

    def __init__(self, database: Database) -> None:
        """Raises `StorageFailed`."""
        self._database = database
        self._lock = threading.RLock()
        with database.failures("it could not be opened"):
            self._connection = database.connect()

    @contextmanager
    def view(self) -> Iterator[sqlite3.Connection]:
        """All that is read within sees one state of the log. Raises `StorageFailed`."""
        with self._lock, self._database.failures("it could not be read"):
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                with suppress(sqlite3.Error):
                    self._connection.execute("COMMIT")

    def close(self) -> None:
        with self._lock:
            self._connection.close()


class Budget:
    """What a poll may still bring."""

    def __init__(self, records_max: int, bytes_max: int) -> None:
        assert records_max >= 1, "a poll brings at least one record"
        self.records = records_max
        self.bytes = bytes_max
        self._first = True

    def take(self, records: Records, start: int) -> int:
        """How many of the records from `start` on still fit; the first of all does always."""
        count = min(len(records) - start, self.records)
        part = cut(records, start, start + count)
        size_bytes = part.size_bytes
        if size_bytes > self.bytes:
            sizes = map(len, part.values)
            if part.keys is not None:
                sizes = map(int.__add__, sizes, (0 if key is None else len(key) for key in part.keys))
            totals = list(accumulate(sizes))
            count = max(bisect_right(totals, self.bytes), int(self._first and count > 0))
            size_bytes = totals[count - 1] if count else 0
            self.records = count  # no more than these: the bytes are used up
        self.records -= count
        self.bytes -= size_bytes
        self._first = self._first and not count
        return count


class Cursor:
    """A position in a partition, and what was decoded beyond it because a frame did not fit into a poll."""

    def __init__(self, source: TopicPartition, partition: int, position: int) -> None:
        self.source = source
        self.partition = partition
        self.position = position
        self._ahead: tuple[int, Records] | None = None

    def seek(self, offset: int) -> None:
        self.position = offset

    def fetch(self, connection: sqlite3.Connection, budget: Budget) -> Fetched | None:
        """What is there from the position on, which is kept by the log, as far as the budget goes.

        Raises `CorruptRecords` where the very next frame is damaged.
        """
        start = self.position
        parts: list[Records] = []
        with closing(self._frames(connection)) as frames:
            while budget.records > 0:
                try:
                    base, records = next(frames)
                except StopIteration:
                    break
                except CorruptRecords:
                    if parts:
                        break  # what came before it is good; the next poll says so
                    raise
                skipped = self.position - base
                count = budget.take(records, skipped)
                if count == 0:
                    break
                parts.append(cut(records, skipped, skipped + count))
                self.position += count
                self._ahead = (base, records) if skipped + count < len(records) else None
        if not parts:
            return None
        return Fetched(
            source=self.source,
            offsets=np.arange(start, self.position, dtype=np.int64),
            records=concatenated(parts),
            next_offset=self.position,
        )

    def _frames(self, connection: sqlite3.Connection) -> Generator[tuple[int, Records], None, None]:
        position = self.position
        if self._ahead is not None:
            base, records = self._ahead
            if base <= position < base + len(records):
                yield base, records
                position = base + len(records)
        yield from frames_from(connection, self.partition, self.source, position)
