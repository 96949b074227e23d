"""Copying what was committed from the write-ahead log into the database file, beside those who write.

SQLite has the writer do it whose commit passes a mark, and everybody else waits meanwhile: 16 MB and two syncs,
which the slowest commits consist of. Here a thread of its own copies while others write (a passive checkpoint),
and then, under the writers' lock, what has come since, which is little. So all is copied, and the next writer
begins the write-ahead log from its start again.
"""

import logging
import sqlite3
import threading
from contextlib import closing

from penstock.log.embedded.database import Database
from penstock.log.embedded.write_lock import WriteLock

__all__ = ["Checkpoints"]

log = logging.getLogger(__name__)

BYTES = 16 * 1024 * 1024
"""Written by this process between two checkpoints; where several write, each does its own."""
COMMIT_BYTES = 24 * 1024
"""What a commit writes beside the records: pages of the tables that tell where they are."""
COPY = "PRAGMA wal_checkpoint(PASSIVE)"
CLOSE_S_MAX = 15.0


class Checkpoints:
    """One for each writer of a log. `wrote` is for one thread at a time; the work is done in another, which
    begins with the first checkpoint.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._bytes = 0
        self._due = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    def wrote(self, size_bytes: int) -> None:
        """A transaction with so many bytes of records was committed."""
        self._bytes += size_bytes + COMMIT_BYTES
        if self._bytes < BYTES:
            return
        self._bytes = 0
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="penstock-log-checkpoints", daemon=True)
            self._thread.start()
        self._due.set()

    def close(self) -> None:
        if self._thread is not None:
            self._closing = True
            self._due.set()
            self._thread.join(CLOSE_S_MAX)

    def _run(self) -> None:
        while self._due.wait():
            self._due.clear()
            if self._closing:
                return
            # What fails here is tried again after as many bytes more; far beyond, the writer does it itself.
            try:
                self._checkpoint()
            except (sqlite3.Error, OSError) as error:
                log.warning("log %s: a checkpoint failed: %s", self._database.path, error)

    def _checkpoint(self) -> None:
        with closing(self._database.connect()) as connection, closing(WriteLock(self._database.folder)) as lock:
            connection.execute(COPY)
            # What it tells is as of its beginning: that nothing has come since is certain under the lock only.
            with lock:
                connection.execute(COPY)
