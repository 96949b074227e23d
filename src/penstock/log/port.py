"""What a log does, whichever keeps it: the embedded one on SQLite, or Kafka.

The verbs are those of Kafka's clients (confluent-kafka's `Producer`, `Consumer`, `AdminClient`), so that both
can be stood behind it: a consumer polls within a group and is told which partitions it has and loses; a
transaction holds appends and the offsets that they came from, and is committed whole or not at all. All of it
blocks, may be used from one thread at a time unless it says otherwise, and raises the errors of
`penstock.core.errors`.
"""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from penstock.log.records import Fetched, Records, TopicPartition

__all__ = [
    "Admin",
    "Consumer",
    "GroupLag",
    "GroupMember",
    "Log",
    "Membership",
    "Producer",
    "RebalanceListener",
    "TopicInfo",
    "TopicSpec",
    "Transaction",
    "TransactionalProducer",
]


@dataclass(frozen=True, kw_only=True)
class TopicSpec:
    """A topic as it is wanted. What is older than `retention_s` or beyond `retention_bytes` a partition may
    go, in whole frames and oldest first; None keeps everything.
    """

    name: str
    partitions: int = 1
    retention_s: float | None = None
    retention_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class TopicInfo:
    """A topic as it is: of each partition the first offset that is kept, and the one that comes next."""

    spec: TopicSpec
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    size_bytes: int | None
    """None where the log does not say."""


@dataclass(frozen=True, kw_only=True)
class GroupMember:
    """A consumer of a group, and what it has been given."""

    member: str
    partitions: tuple[TopicPartition, ...]


@dataclass(frozen=True, kw_only=True)
class GroupLag:
    """How far a group is in one partition: `committed` is None where it has never committed."""

    group: str
    source: TopicPartition
    committed: int | None
    end: int
    member: str | None

    @property
    def lag(self) -> int:
        return self.end - (self.committed or 0)


class Producer(Protocol):
    """Appends on their own. Thread-safe: what comes at the same time is committed together."""

    def append(self, target: TopicPartition, records: Records) -> "Future[int]":
        """The offset of the first record, once all of them are durable.

        The future raises `NotFound` without that partition, `TooLarge` for records beyond the log's limit,
        `StorageFailed` where nothing was written (a full disk).
        """
        ...

    def close(self) -> None:
        """Waits until all that was appended is durable, or has failed."""
        ...


class RebalanceListener(Protocol):
    """Told within `poll`, before it returns."""

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """They are this consumer's from now on: it goes on at what the group has committed."""
        ...

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """They will be another's once this returns. What was done can still be committed, and nothing after."""
        ...

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """They are another's already: what was not committed is not this consumer's to commit any more."""
        ...


class Membership(Protocol):
    """Who a consumer is within its group, as a transaction has to prove it. Taken anew for each transaction."""


class Consumer(Protocol):
    """One member of a group. The partitions of what it subscribes to are shared out among all members.

    A member that neither polls, commits nor renews its lease for longer than that loses its partitions.
    """

    def subscribe(self, topics: Collection[str], listener: RebalanceListener) -> None:
        """Raises `NotFound` for a topic that is not there."""
        ...

    def poll(self, *, records_max: int, bytes_max: int, timeout_s: float) -> list[Fetched]:
        """What is there, at most so much and at least one record of whichever partition has any; waits for it
        up to `timeout_s`. Partitions take turns. Only what is committed is seen.

        Raises `CorruptRecords` for a frame whose bytes are damaged; the other partitions can be polled
        further once that one is paused.
        """
        ...

    def pause(self, partitions: Collection[TopicPartition]) -> None: ...

    def resume(self, partitions: Collection[TopicPartition]) -> None: ...

    def seek(self, source: TopicPartition, offset: int) -> None:
        """The next poll begins there. Of a partition that is assigned."""
        ...

    def committed(self, source: TopicPartition) -> int | None: ...

    def renew(self) -> None:
        """The lease goes on: what was polled is being worked on. From any thread, as often as one likes."""
        ...

    def membership(self) -> Membership: ...

    def close(self) -> None:
        """Leaves the group, after `revoked` for what it has."""
        ...


class Transaction(Protocol):
    """Appends and offsets that become seen together, or not at all."""

    def append(self, target: TopicPartition, records: Records) -> None: ...

    def commit_offsets(self, offsets: Mapping[TopicPartition, int], membership: Membership) -> None:
        """Where the group goes on, for partitions that the member has."""
        ...

    def commit(self) -> dict[TopicPartition, int]:
        """Durable once it returns. Of each partition appended to, the offset that comes next.

        Raises `Fenced` where the partitions, or the producer's identity, are another's by now, `StorageFailed`
        where nothing was written.
        """
        ...

    def abort(self) -> None: ...


class TransactionalProducer(Protocol):
    """One at a time of each identity: whoever opens it anew fences the one before."""

    def begin(self) -> Transaction: ...

    def close(self) -> None: ...


class Admin(Protocol):
    """Looking and mending, outside of any group."""

    def ensure_topics(self, specs: Sequence[TopicSpec]) -> None:
        """Makes those that are missing. Raises `Conflict` for one with another number of partitions."""
        ...

    def topics(self) -> tuple[TopicInfo, ...]: ...

    def read(self, source: TopicPartition, offset: int, *, records_max: int) -> Fetched:
        """From `offset` on, or the first that is kept. Raises `NotFound`, `CorruptRecords`."""
        ...

    def offset_at(self, source: TopicPartition, time_ms: int) -> int:
        """The first offset whose record has that time or a later one; the end where none has."""
        ...

    def truncate(self, source: TopicPartition, before: int) -> None:
        """Lets go of what is older than offset `before`, in whole frames."""
        ...

    def lags(self, group: str | None = None) -> tuple[GroupLag, ...]: ...

    def members(self, group: str) -> tuple[GroupMember, ...]: ...

    def reset(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Where a group goes on, while nobody of it is there. Raises `Conflict` where somebody is."""
        ...


class Log(Protocol):
    """The log as a whole; a context that closes it."""

    @property
    def admin(self) -> Admin: ...

    def producer(self) -> Producer: ...

    def transactional(self, identity: str) -> TransactionalProducer: ...

    def consumer(self, group: str) -> Consumer: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
