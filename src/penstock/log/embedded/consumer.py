"""One member of a group: what it has, where it is in that, and how it hears of changes."""

import logging
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from penstock.core.clock import Clock
from penstock.core.errors import CorruptRecords, StorageFailed
from penstock.core.rng import unique_token
from penstock.log.embedded.database import Database
from penstock.log.embedded.doorbell import POLL_S_MAX, Doorbell
from penstock.log.embedded.frames import extent_of
from penstock.log.embedded.groups import EmbeddedMembership, Groups, owned
from penstock.log.embedded.limits import LogLimits
from penstock.log.embedded.reader import Budget, Cursor, Reader
from penstock.log.embedded.topics import Catalog
from penstock.log.embedded.writer import Writer
from penstock.log.port import Membership, RebalanceListener
from penstock.log.records import Fetched, TopicPartition

__all__ = ["ConsumerStatistics", "EmbeddedConsumer", "LogParts"]

log = logging.getLogger(__name__)

RENEWALS_A_LEASE = 4


@dataclass(frozen=True, slots=True)
class LogParts:
    """What the parts of an open log stand on together."""

    database: Database
    catalog: Catalog
    writer: Writer
    groups: Groups
    clock: Clock
    limits: LogLimits


@dataclass(frozen=True, kw_only=True)
class ConsumerStatistics:
    """Since it was made. `expired_records` were let go of by retention before this consumer came to them."""

    polls: int = 0
    records: int = 0
    expired_records: int = 0
    rebalances: int = 0
    partitions: int = 0


@dataclass(slots=True)
class _Held:
    """A partition that this member has."""

    cursor: Cursor
    epoch: int
    paused: bool = False


class EmbeddedConsumer:
    """For one thread at a time, but for `renew`. Its lease is renewed by polls and by what it commits, too."""

    def __init__(self, group: str, parts: LogParts) -> None:
        """Raises `StorageFailed`."""
        self._group = group
        self._parts = parts
        self._reader = Reader(parts.database)
        self._token = unique_token()
        try:
            self._doorbell = Doorbell(parts.database.folder, self._token)
        except OSError as error:
            self._reader.close()
            raise StorageFailed(
                f"no consumer could be made in {parts.database.folder}: {error.strerror}",
                hint="check who may write there, and how much room is left",
            ) from error
        self._topics: tuple[str, ...] = ()
        self._listener: RebalanceListener | None = None
        self._group_id = self._member_id = 0
        self._generation = -1
        self._renewed_s = 0.0
        self._held: dict[int, _Held] = {}
        self._turn = 0
        self._polls = self._records = self._expired = self._rebalances = 0
        self._closed = False

    def subscribe(self, topics: Collection[str], listener: RebalanceListener) -> None:
        assert self._listener is None, "a consumer subscribes once"
        self._topics = tuple(sorted(set(topics)))
        self._join()
        self._listener = listener

    def poll(self, *, records_max: int, bytes_max: int, timeout_s: float) -> list[Fetched]:
        assert self._listener is not None, "a consumer subscribes before it polls"
        self._polls += 1
        fetched = self._look(records_max, bytes_max)
        if fetched or timeout_s <= 0:
            return fetched
        return self._wait(records_max, bytes_max, timeout_s)

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        for source in partitions:
            self._of(source).paused = True

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        for source in partitions:
            self._of(source).paused = False

    def seek(self, source: TopicPartition, offset: int) -> None:
        assert offset >= 0, "offsets begin at 0"
        self._of(source).cursor.seek(offset)

    def committed(self, source: TopicPartition) -> int | None:
        with self._reader.view() as connection:
            partition = self._parts.catalog.id_of(connection, source)
            row = connection.execute(
                "SELECT next FROM offsets JOIN groups ON groups.id = group_id WHERE name = ? AND partition = ?",
                (self._group, partition),
            ).fetchone()
        return None if row is None else int(row[0])

    def renew(self) -> None:
        parts = self._parts
        now_s = parts.clock.monotonic()
        if self._closed or now_s - self._renewed_s < parts.limits.lease_s / RENEWALS_A_LEASE:
            return
        self._renewed_s = now_s
        group_id, member_id = self._group_id, self._member_id
        try:
            parts.writer.call(lambda session: parts.groups.renew(session, group_id, member_id))
        except StorageFailed as error:
            # A full disk is no reason not to read; nobody can take the lease over there either.
            log.warning("group %s: a lease was not renewed: %s", self._group, error)

    def membership(self) -> Membership:
        epochs = {held.cursor.source: held.epoch for held in self._held.values()}
        return EmbeddedMembership(self._group_id, self._member_id, self._group, epochs)

    def statistics(self) -> ConsumerStatistics:
        return ConsumerStatistics(
            polls=self._polls,
            records=self._records,
            expired_records=self._expired,
            rebalances=self._rebalances,
            partitions=len(self._held),
        )

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            if self._listener is not None:
                self._listen_to_the_end(self._listener)
        finally:
            self._doorbell.close()
            self._reader.close()

    def _listen_to_the_end(self, listener: RebalanceListener) -> None:
        self._sync()
        if self._held:
            listener.revoked([held.cursor.source for held in self._held.values()])
            self._held.clear()
        group_id, member_id = self._group_id, self._member_id
        # Where that cannot be written, its doorbell is gone, and the next member to look forgets it.
        with suppress(StorageFailed):
            self._parts.writer.call(lambda session: self._parts.groups.leave(session, group_id, member_id))

    def _join(self) -> None:
        parts = self._parts
        self._group_id, self._member_id = parts.writer.call(
            lambda session: parts.groups.join(
                session, self._group, self._token, self._topics, parts.limits.lease_s
            )
        )
        self._generation = -1
        self._renewed_s = parts.clock.monotonic()

    def _wait(self, records_max: int, bytes_max: int, timeout_s: float) -> list[Fetched]:
        deadline_s = self._parts.clock.monotonic() + timeout_s
        left_s = timeout_s
        self._doorbell.listen()
        try:
            while True:
                fetched = self._look(records_max, bytes_max)
                left_s = min(left_s, deadline_s - self._parts.clock.monotonic())
                if fetched or left_s <= 0:
                    return fetched
                if not self._doorbell.wait(left_s):
                    # By what was waited, too: a clock that stands still is no reason to wait for ever.
                    left_s -= min(left_s, POLL_S_MAX)
        finally:
            self._doorbell.hush()

    def _look(self, records_max: int, bytes_max: int) -> list[Fetched]:
        self.renew()
        self._sync()
        return self._fetch(Budget(records_max, bytes_max))

    def _sync(self) -> None:
        """Hears of what has changed in the group, until nothing has."""
        listener = self._listener
        assert listener is not None, "it has subscribed"
        while True:
            with self._reader.view() as connection:
                (generation,) = connection.execute(
                    "SELECT generation FROM groups WHERE id = ?", (self._group_id,)
                ).fetchone()
                if generation == self._generation:
                    return
                now = owned(connection, self._group_id, self._member_id)
            self._rebalances += 1
            gone = [
                partition
                for partition, held in self._held.items()
                if now is None or partition not in now or now[partition].epoch != held.epoch
            ]
            if gone:
                listener.lost([self._held.pop(partition).cursor.source for partition in gone])
            if now is None:
                if self._closed:
                    return
                self._join()
                continue
            leaving = {partition: each.epoch for partition, each in now.items() if not each.staying}
            if leaving:
                self._let_go(leaving, listener)
                continue
            self._generation = generation
            self._take_on({partition: each.epoch for partition, each in now.items()}, listener)

    def _let_go(self, leaving: dict[int, int], listener: RebalanceListener) -> None:
        told = [self._held[partition].cursor.source for partition in leaving if partition in self._held]
        if told:
            listener.revoked(told)
        group_id, member_id = self._group_id, self._member_id
        self._parts.writer.call(
            lambda session: self._parts.groups.release(session, group_id, member_id, leaving)
        )
        for partition in leaving:
            self._held.pop(partition, None)

    def _take_on(self, epochs: dict[int, int], listener: RebalanceListener) -> None:
        new = epochs.keys() - self._held.keys()
        if not new:
            return
        sources = []
        with self._reader.view() as connection:
            for partition in sorted(new):
                source = self._parts.catalog.source_of(connection, partition)
                row = connection.execute(
                    "SELECT next FROM offsets WHERE group_id = ? AND partition = ?", (self._group_id, partition)
                ).fetchone()
                begins = extent_of(connection, partition).begins if row is None else row[0]
                self._held[partition] = _Held(Cursor(source, partition, begins), epochs[partition])
                sources.append(source)
        listener.assigned(sources)

    def _fetch(self, budget: Budget) -> list[Fetched]:
        held = [each.cursor for each in self._held.values() if not each.paused]
        if not held:
            return []
        fetched: list[Fetched] = []
        self._turn = (self._turn + 1) % len(held)
        with self._reader.view() as connection:
            for cursor in held[self._turn :] + held[: self._turn]:
                extent = extent_of(connection, cursor.partition)
                self._skip_expired(cursor, extent.begins)
                if cursor.position >= extent.ends:
                    continue
                try:
                    found = cursor.fetch(connection, budget)
                except CorruptRecords:
                    if fetched:
                        break  # these first: it is its turn soon enough
                    raise
                if found is not None:
                    fetched.append(found)
                    self._records += len(found.records)
                if budget.records <= 0:
                    break
        return fetched

    def _skip_expired(self, cursor: Cursor, begins: int) -> None:
        if cursor.position >= begins:
            return
        self._expired += begins - cursor.position
        log.warning(
            "group %s goes on at offset %d of %s: %d records before it were let go of before it came to them",
            *(self._group, begins, cursor.source, begins - cursor.position),
        )
        cursor.seek(begins)

    def _of(self, source: TopicPartition) -> _Held:
        found = next((held for held in self._held.values() if held.cursor.source == source), None)
        assert found is not None, f"{source} is assigned to this consumer"
        return found
