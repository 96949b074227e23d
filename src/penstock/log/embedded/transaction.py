"""Transactions: kept in memory until they are committed, and then written at once."""

from collections.abc import Mapping

from penstock.core.errors import Fenced, TooLarge
from penstock.log.embedded.consumer import LogParts
from penstock.log.embedded.frames import insert_frames
from penstock.log.embedded.groups import EmbeddedMembership
from penstock.log.embedded.pending import Append, PartitionRun
from penstock.log.embedded.writer import Session
from penstock.log.port import Membership
from penstock.log.records import Records, TopicPartition

__all__ = ["EmbeddedTransaction", "EmbeddedTransactionalProducer"]


class EmbeddedTransactionalProducer:
    """For one thread at a time."""

    def __init__(self, identity: str, parts: LogParts) -> None:
        self._identity = identity
        self._parts = parts
        self._epoch = parts.writer.call(lambda session: _next_epoch(session, identity))
        self._open: EmbeddedTransaction | None = None

    def begin(self) -> "EmbeddedTransaction":
        assert self._open is None or self._open.ended, "one transaction at a time"
        self._open = EmbeddedTransaction(self._identity, self._epoch, self._parts)
        return self._open

    def close(self) -> None:
        if self._open is not None and not self._open.ended:
            self._open.abort()


class EmbeddedTransaction:
    def __init__(self, identity: str, epoch: int, parts: LogParts) -> None:
        self._identity = identity
        self._epoch = epoch
        self._parts = parts
        self._runs: dict[TopicPartition, PartitionRun] = {}
        self._offsets: list[tuple[dict[TopicPartition, int], EmbeddedMembership]] = []
        self._rows = self._bytes = 0
        self.ended = False

    def append(self, target: TopicPartition, records: Records) -> None:
        assert not self.ended, "the transaction has ended"
        append = Append.of(target, records, self._parts.limits)
        bytes_max = self._parts.limits.append_bytes_max
        if self._bytes + append.size_bytes > bytes_max:
            raise TooLarge(
                f"a transaction of more than {bytes_max} bytes is too large for the log",
                hint="commit more often: take fewer records at a time",
            )
        self._rows += append.rows
        self._bytes += append.size_bytes
        self._runs.setdefault(target, PartitionRun()).add(append)

    def commit_offsets(self, offsets: Mapping[TopicPartition, int], membership: Membership) -> None:
        assert not self.ended, "the transaction has ended"
        assert isinstance(membership, EmbeddedMembership), "the membership is of a consumer of this log"
        self._offsets.append((dict(offsets), membership))

    def commit(self) -> dict[TopicPartition, int]:
        assert not self.ended, "the transaction has ended"
        self.ended = True
        for run in self._runs.values():
            run.close()
        return self._parts.writer.call(self._write, rows=self._rows, size_bytes=self._bytes)

    def abort(self) -> None:
        self.ended = True
        self._runs.clear()
        self._offsets.clear()

    def _write(self, session: Session) -> dict[TopicPartition, int]:
        _check_epoch(session, self._identity, self._epoch)
        next_offsets = {}
        for target, run in self._runs.items():
            partition = session.catalog.id_of(session.connection, target)
            bases = insert_frames(session.connection, partition, target, run.frames, session.now_ms)
            next_offsets[target] = bases[-1]
            session.rings = True
        # After the appends, as an offset may be behind one of them. If it fails, all is rolled back.
        for offsets, membership in self._offsets:
            self._parts.groups.commit(session, offsets, membership)
        return next_offsets


def _next_epoch(session: Session, identity: str) -> int:
    session.connection.execute(
        "INSERT INTO identities VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET epoch = epoch + 1", (identity,)
    )
    (epoch,) = session.connection.execute("SELECT epoch FROM identities WHERE name = ?", (identity,)).fetchone()
    return int(epoch)


def _check_epoch(session: Session, identity: str, epoch: int) -> None:
    row = session.connection.execute("SELECT epoch FROM identities WHERE name = ?", (identity,)).fetchone()
    if row != (epoch,):
        raise Fenced(
            f"nothing was committed: another producer has opened the identity {identity} since",
            hint="one at a time can use an identity: give each worker its own, or end this one",
        )
