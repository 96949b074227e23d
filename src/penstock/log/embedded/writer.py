"""What writes to the log in a process: all that waits becomes one transaction, synced once.

A thread of its own writes what is queued. Who would be alone in the queue, and finds nobody writing, does
without it: handing work to another thread and back takes as long as the write itself.
"""

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from penstock.core.clock import Clock
from penstock.core.errors import PenstockError, StorageFailed
from penstock.log.embedded.checkpoints import Checkpoints
from penstock.log.embedded.database import Database, storage_failure
from penstock.log.embedded.doorbell import ring_all
from penstock.log.embedded.frames import insert_frames
from penstock.log.embedded.limits import LogLimits
from penstock.log.embedded.pending import Append, PartitionRun
from penstock.log.embedded.retention import retain
from penstock.log.embedded.topics import Catalog
from penstock.log.embedded.turns import TurnFuture, settle
from penstock.log.embedded.write_lock import WriteLock
from penstock.log.records import TopicPartition

__all__ = ["Session", "Writer", "WriterStatistics"]

T = TypeVar("T")

log = logging.getLogger(__name__)

GATHER_S = 0.0003
"""So long the writer's thread waits for one more of those who waited for the last group."""
GATHER_TRIES_MAX = 8
"""So often at most: 2.4 ms."""


@dataclass(slots=True)
class Session:
    """What a piece of work has within a transaction. `rings`: whether waiting consumers shall look."""

    connection: sqlite3.Connection
    catalog: Catalog
    now_ms: int
    now_s: float
    rings: bool = False


@dataclass(frozen=True, kw_only=True)
class WriterStatistics:
    """Since it was opened: transactions that were committed, that failed, and records appended by producers."""

    commits: int = 0
    failures: int = 0
    records: int = 0
    queued_rows: int = 0
    queued_bytes: int = 0


@dataclass(slots=True)
class _Work:
    run: Callable[[Session], Any]
    future: TurnFuture[Any]
    rows: int
    size_bytes: int


class Writer:
    """Thread-safe. What one piece of work raises as a `PenstockError` undoes that piece alone; when the
    transaction fails, all that is in it fails with `StorageFailed`, and the connection is made anew.
    """

    def __init__(self, database: Database, catalog: Catalog, clock: Clock, limits: LogLimits) -> None:
        self._database = database
        self._catalog = catalog
        self._clock = clock
        self._limits = limits
        self._queue: deque[Append | _Work] = deque()
        self._let_go = self._awaited = 0
        """Threads that waited for the last group, and how many appends the writer's waits for now."""
        self._rows = self._bytes = 0
        lock = threading.Lock()
        self._arrived = threading.Condition(lock)
        self._room = threading.Condition(lock)
        self._closing = False
        self._busy = False
        """Whether somebody writes; only who has set it uses the connection and the lock."""
        self._connection: sqlite3.Connection | None = None
        self._commits = self._failures = self._records = 0
        self._retained_s = clock.monotonic()
        self._lock = WriteLock(database.folder)
        self._checkpoints = Checkpoints(database)
        self._thread = threading.Thread(target=self._run, name="penstock-log-writer", daemon=True)
        self._thread.start()

    def append(self, append: Append) -> None:
        """Puts it in the queue, once there is room. Its future has the outcome, of a full queue too."""
        if not self._put(append):
            append.future.set_exception(
                StorageFailed(
                    f"{append.rows} records for {append.source} were not appended: what waits to be written is"
                    f" at its limit, and has been for {self._limits.wait_s_max:.0f} s",
                    hint="the disk is too slow for what is appended, or another process keeps the log locked",
                )
            )

    def call(self, run: Callable[[Session], T], *, rows: int = 0, size_bytes: int = 0) -> T:
        """Does the work within the next transaction; its result, once that is durable.

        Raises what it raises, and `StorageFailed` where nothing of it was written.
        """
        work = _Work(run, TurnFuture(), rows, size_bytes)
        if self._write_here(work):
            return cast("T", work.future.result())
        taken = self._put(work)
        if taken:
            with suppress(TimeoutError):
                return cast("T", work.future.result(self._limits.wait_s_max))
        if taken and not work.future.cancel():
            return cast("T", work.future.result())  # its turn has come just now
        raise StorageFailed(
            f"log {self._database.path}: nothing was written: its turn did not come within"
            f" {self._limits.wait_s_max:.0f} s",
            hint="another process keeps the log locked: end it, if it is stopped or hangs",
        )

    def statistics(self) -> WriterStatistics:
        with self._arrived:
            return WriterStatistics(
                commits=self._commits,
                failures=self._failures,
                records=self._records,
                queued_rows=self._rows,
                queued_bytes=self._bytes,
            )

    def close(self) -> None:
        """Waits until what is queued is written, for as long as a write may wait for its turn."""
        with self._arrived:
            self._closing = True
            self._arrived.notify()
        self._checkpoints.close()
        self._thread.join(self._limits.wait_s_max)
        if self._thread.is_alive():
            log.warning("log %s: closed while writes still wait for their turn", self._database.path)

    def _put(self, item: Append | _Work) -> bool:
        with self._arrived:
            if self._closing:
                raise StorageFailed(f"log {self._database.path} is closed", hint="open it anew")
            if not self._fits(item) and not self._room.wait_for(
                lambda: self._fits(item), self._limits.wait_s_max
            ):
                return False
            self._queue.append(item)
            self._rows += item.rows
            self._bytes += item.size_bytes
            if len(self._queue) >= self._awaited:
                self._arrived.notify()
        return True

    def _fits(self, item: Append | _Work) -> bool:
        return not self._queue or (
            self._rows + item.rows <= self._limits.queue_rows_max
            and self._bytes + item.size_bytes <= self._limits.queue_bytes_max
        )

    def _run(self) -> None:
        while group := self._take():
            try:
                steps = _steps(group)
                with self._lock:
                    written = self._write(group, steps)
                self._settle(*written)
                self._retain()
            except Exception as error:  # a fault of ours must not leave everybody waiting
                log.exception("log %s: a write failed", self._database.path)
                _fail(group, error)
            self._done(group)
        if self._connection is not None:
            self._connection.close()
        self._lock.close()

    def _take(self) -> list[Append | _Work]:
        with self._arrived:
            while self._busy or not (self._queue or self._closing):
                self._arrived.wait()
            self._gather()
            group = list(self._queue)
            self._queue.clear()
            self._busy = bool(group)
        return group

    def _gather(self) -> None:
        """Waits a moment for those whom the last group has let go on, as long as they come back one soon after
        the other: else one of them would have a commit to itself, and all others wait for the next.
        """
        self._awaited, self._let_go = self._let_go, 0
        for _ in range(GATHER_TRIES_MAX):
            count = len(self._queue)
            if self._closing or count >= self._awaited:
                break
            self._arrived.wait(GATHER_S)
            if len(self._queue) == count:
                break
        self._awaited = 0

    def _write_here(self, work: _Work) -> bool:
        """Writes it in this thread where nobody writes and nothing waits. Whether it did."""
        with self._arrived:
            if self._busy or self._queue or self._closing:
                return False
            self._busy = True
        try:
            if not self._lock.try_enter():
                return False  # the thread waits for its turn, and this one for as long as it may
            try:
                written = self._write([work], [work])
            finally:
                self._lock.leave()
            self._settle(*written)
            self._retain()
        finally:
            self._done([])
        return True

    def _done(self, group: list[Append | _Work]) -> None:
        with self._arrived:
            self._busy = False
            if self._queue or self._closing:
                self._arrived.notify()
            self._rows -= sum(item.rows for item in group)
            self._bytes -= sum(item.size_bytes for item in group)
            self._room.notify_all()

    def _write(self, group: list[Append | _Work], steps: list["_Runs | _Work"]) -> "_Written":
        """One transaction, under the lock. What became of whom, and whether to ring."""
        try:
            written = self._transact(steps)
        except (sqlite3.Error, OSError) as error:
            # What a failed sync has left in the page cache cannot be known: this connection is not used again.
            self._discard()
            self._failures += 1
            _fail(group, self._failure(error))
            return [], False
        except BaseException:
            self._discard()
            raise
        self._commits += 1
        self._checkpoints.wrote(sum(item.size_bytes for item in group))
        return written

    def _settle(self, outcomes: "_Outcomes", rings: bool) -> None:
        if rings:
            ring_all(self._database.folder)
        self._let_go = settle(outcomes)

    def _transact(self, steps: list["_Runs | _Work"]) -> "_Written":
        connection = self._connected()
        outcomes: _Outcomes = []
        session = Session(
            connection, self._catalog, int(self._clock.now().timestamp() * 1000), self._clock.monotonic()
        )
        connection.execute("BEGIN IMMEDIATE")
        for step in steps:
            if isinstance(step, _Work):
                # Not before: whoever waits too long for its turn may take it back until here.
                if step.future.set_running_or_notify_cancel():
                    outcomes.append((step.future, _attempt(step.run, session)))
                continue
            for source, run in step.items():
                outcomes += self._insert(session, source, run)
        connection.execute("COMMIT")
        return outcomes, session.rings

    def _insert(self, session: Session, source: TopicPartition, run: PartitionRun) -> "_Outcomes":
        try:
            partition = self._catalog.id_of(session.connection, source)
        except PenstockError as error:
            return [(future, error) for future, _ in run.shares]
        bases = insert_frames(session.connection, partition, source, run.frames, session.now_ms)
        self._records += bases[-1] - bases[0]
        session.rings = True
        return [(future, bases[0] + distance) for future, distance in run.shares]

    def _retain(self) -> None:
        now_s = self._clock.monotonic()
        if now_s - self._retained_s < self._limits.retention_every_s:
            return
        if not self._lock.try_enter():
            return  # after the next write, then
        self._retained_s = now_s
        try:
            connection = self._connected()
            connection.execute("BEGIN IMMEDIATE")
            more = retain(connection, int(self._clock.now().timestamp() * 1000))
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            self._discard()
            log.warning("%s", self._failure(error))
            return
        finally:
            self._lock.leave()
        if more:
            self._retained_s = float("-inf")  # with the next write

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._database.connect()
        return self._connection

    def _discard(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _failure(self, error: sqlite3.Error | OSError) -> StorageFailed:
        if isinstance(error, sqlite3.Error):
            return storage_failure(error, self._database.path)
        return StorageFailed(f"log {self._database.path}: nothing was written: {error}")


_Runs = dict[TopicPartition, PartitionRun]
_Outcomes = list[tuple[TurnFuture[Any], Any]]
_Written = tuple[_Outcomes, bool]


def _steps(group: list[Append | _Work]) -> list["_Runs | _Work"]:
    """The appends between two pieces of other work by partition, and that work, in order."""
    steps: list[_Runs | _Work] = []
    runs: _Runs | None = None
    for item in group:
        if isinstance(item, _Work):
            steps.append(item)
            runs = None
        elif item.future.set_running_or_notify_cancel():
            if runs is None:
                runs = {}
                steps.append(runs)
            runs.setdefault(item.source, PartitionRun()).add(item)
    for step in steps:
        if not isinstance(step, _Work):
            for run in step.values():
                run.close()
    return steps


def _attempt(run: Callable[[Session], Any], session: Session) -> Any:
    session.connection.execute("SAVEPOINT work")
    try:
        result = run(session)
    except PenstockError as error:
        session.connection.execute("ROLLBACK TO work")
        result = error
    session.connection.execute("RELEASE work")
    return result


def _fail(group: list[Append | _Work], error: Exception) -> None:
    for item in group:
        if not item.future.done() and (item.future.running() or item.future.set_running_or_notify_cancel()):
            item.future.set_exception(error)
