"""What a stream worker does of feeds: reads what comes next, and appends it with its new position.

Both are one transaction, and so is an offset of the feed's own topic, which proves that it is this worker's: a
row is in the stream's topic exactly once, whoever was killed or fenced meanwhile.
"""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec
import numpy as np

from penstock.core.clock import Clock
from penstock.core.errors import ConfigurationError, Fenced, PenstockError, StorageFailed, TooLarge
from penstock.core.failpoints import Failpoints
from penstock.log.port import Consumer, Log, TransactionalProducer
from penstock.log.records import Records, TopicPartition
from penstock.streams.containment import Containment
from penstock.streams.encoding import Encoder, encoder_of
from penstock.streams.feeds.plan import FeedPlan
from penstock.streams.feeds.reading import Chunk, Reader
from penstock.streams.partition_frames import split_by_key
from penstock.streams.suspicion import AccusedRows
from penstock.streams.worker_config import PartitionStatus, WorkerConfig

__all__ = ["Feeding"]

log = logging.getLogger(__name__)

LAG_RECORDS_MAX = 50_000
"""A feed waits while so many of its records wait for their stage."""
LAG_FRAMES_MAX = 50
"""The same where a record is a frame."""
PAUSE_S_MAX = 300.0
"""A function in which its process has ended (it hung, or crashed) is called again later, after twice as long
each time: all else in that process has to go on meanwhile.
"""
TRUNCATE_EVERY = 1000
"""Positions are let go of, but for the last, after so many."""


class _Kept(msgspec.Struct, frozen=True):
    """A record of a feed's topic."""

    source: str
    position: object


class _Feed:
    """One that this worker has. Its `reader` is None until its position is known."""

    def __init__(self, plan: FeedPlan) -> None:
        self.plan = plan
        self.source = TopicPartition(plan.topic, 0)
        self.encoder: Encoder = encoder_of(plan.format)
        self.reader: Reader | None = None
        self.position: object = None
        self.end = 0
        self.due_s = float("-inf")
        self.rows_max: int | None = None
        self.problem = ""
        self.ends: int | None = None
        """How many processes have ended in its function in a row; None where nobody has looked."""
        self.rows = 0
        self.rows_told = 0


class Feeding:
    """All feeds that a worker has. For the worker's thread."""

    def __init__(
        self,
        plans: Sequence[FeedPlan],
        config: WorkerConfig,
        opened: Log,
        clock: Clock,
        containment: Containment,
        failpoints: Failpoints,
    ) -> None:
        self._plans = {plan.topic: plan for plan in plans}
        self._config = config
        self._log = opened
        self._clock = clock
        self._containment = containment
        self._failpoints = failpoints
        self._feeds: dict[TopicPartition, _Feed] = {}
        self.busy = False
        """Whether there may be more to read at once."""

    @property
    def topics(self) -> Collection[str]:
        return self._plans.keys()

    def assigned(self, source: TopicPartition) -> None:
        self._feeds[source] = _Feed(self._plans[source.topic])

    def revoked(self, source: TopicPartition) -> None:
        self._feeds.pop(source, None)

    def clear(self) -> None:
        self._feeds.clear()

    def forget(self) -> None:
        """What is committed is not known: positions are looked up again."""
        for feed in self._feeds.values():
            feed.reader = None

    def turn(self, producer: TransactionalProducer, consumer: Consumer, rows_max: int) -> None:
        """Each feed whose stage has not too much to do gives its next rows.

        Raises `Fenced`, and `StorageFailed`, after which it is to be told to `forget`.
        """
        now_s = self._clock.monotonic()
        self.busy = False
        if not self._feeds:
            return
        waiting = self._waiting()
        for feed in self._feeds.values():
            if feed.ends is None:
                self._examine(feed, now_s)
            if feed.due_s > now_s:
                continue
            in_frames = feed.plan.format == "arrow"
            room = (LAG_FRAMES_MAX if in_frames else LAG_RECORDS_MAX) - waiting.get(feed.plan.target, 0)
            if room <= 0:
                continue
            asked = min(rows_max, feed.rows_max or rows_max, rows_max if in_frames else room)
            try:
                more = self._feed(feed, asked, producer, consumer)
            except (Fenced, StorageFailed):
                raise
            except PenstockError as error:
                self._stop(feed, error)
                more = False
            if not more:
                feed.due_s = now_s + self._config.feed_poll_s
            self.busy |= more

    def _waiting(self) -> Mapping[str, int]:
        """By topic, how many records its stage has to come to."""
        found: dict[str, int] = {}
        for each in self._log.admin.lags(self._config.group):
            found[each.source.topic] = found.get(each.source.topic, 0) + each.lag
        return found

    def _feed(self, feed: _Feed, asked: int, producer: TransactionalProducer, consumer: Consumer) -> bool:
        """Whether there was anything."""
        if feed.reader is None:
            self._restore(feed, consumer)
        assert feed.reader is not None, "its position is known"
        chunk = self._read(feed, feed.reader, asked)
        if chunk is not None:
            try:
                self._commit(feed, chunk, producer, consumer)
            except TooLarge:
                if not 1 < chunk.frame.height <= asked:
                    raise
                feed.rows_max = chunk.frame.height // 2
        if feed.problem:
            log.warning("feed %s goes on", feed.plan.name)
            feed.problem = ""
        return chunk is not None

    def _examine(self, feed: _Feed, now_s: float) -> None:
        """What its owners before ended of, which is looked into once."""
        found = self._containment.hold_inquest(feed.source, 0).rows
        feed.ends = 0 if found is None else found.ends
        if found is not None:
            pause_s = min(self._config.feed_poll_s * 2.0 ** (found.ends - 1), PAUSE_S_MAX)
            feed.due_s = now_s + pause_s
            feed.problem = (
                f"{found.step} has ended its process {found.ends} times: {found.detail};"
                f" it is called again after {pause_s:g} s"
            )
            log.error("feed %s stands still, all else goes on: %s", feed.plan.name, feed.problem)

    def _read(self, feed: _Feed, reader: Reader, asked: int) -> Chunk | None:
        """What it gives, watched where it is a function of the user."""
        if not reader.calls_function:
            return reader.read(feed.position, asked)
        ends = feed.ends or 0
        topic, partition = feed.source.topic, feed.source.partition
        at = AccusedRows(topic=topic, partition=partition, step=f"source {feed.plan.source.title}", count=1)

        def accuse(detail: str) -> AccusedRows:
            return msgspec.structs.replace(at, ends=1 + ends, detail=detail, sure=True)

        watchdog = self._containment.watchdog
        with watchdog.rows(accuse, at):
            chunk = reader.read(feed.position, asked)
        watchdog.settled()
        if ends:
            self._containment.suspects.clear_rows(feed.source)
            feed.ends = 0
        return chunk

    def _restore(self, feed: _Feed, consumer: Consumer) -> None:
        """The position is the record before the offset that is committed; where somebody has reset that to the
        beginning, it is the beginning.
        """
        committed = consumer.committed(feed.source) or 0
        (begin,) = (info.begins[0] for info in self._log.admin.topics() if info.spec.name == feed.plan.topic)
        feed.position, feed.end = None, committed
        if committed > begin:
            read = self._log.admin.read(feed.source, committed - 1, records_max=1)
            kept = msgspec.json.decode(read.records.values[0], type=_Kept)
            kind = type(feed.plan.source).__name__
            if kept.source != kind:
                raise ConfigurationError(
                    f"feed {feed.plan.name}: its position is of a {kept.source}, not of a {kind}",
                    hint="give the stream another name, or reset the group to the feed topic's beginning",
                )
            feed.position = kept.position
        feed.reader = feed.plan.source.reader(feed.plan.columns)

    def _commit(self, feed: _Feed, chunk: Chunk, producer: TransactionalProducer, consumer: Consumer) -> None:
        now_ms = int(self._clock.now().timestamp() * 1000)
        transaction = producer.begin()
        try:
            for target, records in _records(feed, chunk, now_ms):
                transaction.append(target, records)
            kept = _Kept(type(feed.plan.source).__name__, chunk.position)
            times_ms = np.array([now_ms], dtype=np.int64)
            transaction.append(feed.source, Records(values=[msgspec.json.encode(kept)], times_ms=times_ms))
            # Nobody else appends there while it is this worker's, which the commit proves.
            transaction.commit_offsets({feed.source: feed.end + 1}, consumer.membership())
            self._failpoints.pass_by("feed")
            ends = transaction.commit()
            self._failpoints.pass_by("fed")
        except BaseException:
            transaction.abort()
            raise
        feed.position, feed.end = chunk.position, ends[feed.source]
        feed.rows += chunk.frame.height
        if feed.end % TRUNCATE_EVERY == 0:
            self._log.admin.truncate(feed.source, feed.end - 1)

    def _stop(self, feed: _Feed, error: PenstockError) -> None:
        """It stands still, and is tried again later from its position."""
        feed.reader = None
        if feed.problem != str(error):
            hint = f" (hint: {error.hint})" if error.hint else ""
            log.error("feed %s stands still, all else goes on: %s%s", feed.plan.name, error, hint)
            feed.problem = str(error)

    def status(self, elapsed_s: float) -> Iterator[PartitionStatus]:
        for source, feed in self._feeds.items():
            rows, feed.rows_told = feed.rows - feed.rows_told, feed.rows
            yield PartitionStatus(
                stage=f"{feed.plan.name} feed",
                topic=source.topic,
                partition=source.partition,
                state="stuck" if feed.problem else "running",
                problem=feed.problem,
                rows=feed.rows,
                rows_per_s=rows / elapsed_s if 0 < elapsed_s < float("inf") else 0.0,
            )


def _records(feed: _Feed, chunk: Chunk, now_ms: int) -> Iterator[tuple[TopicPartition, Records]]:
    """The rows as records of the stream's topic. Raises `InvalidInput` for what cannot be one."""
    if not chunk.frame.height:
        return
    plan = feed.plan
    missing = [name for name in plan.key if name not in chunk.frame.columns]
    if missing:
        raise ConfigurationError(
            f"feed {plan.name}: rows of {plan.source.title} have no column {', '.join(missing)}",
            hint="it is the stream's key",
        )
    for partition, rows, keys in split_by_key(chunk.frame, plan.key, plan.partitions):
        values = feed.encoder.encode(rows)
        yield (
            TopicPartition(plan.target, partition),
            Records(
                values=values,
                times_ms=np.full(len(values), now_ms, dtype=np.int64),
                keys=keys if keys is not None and len(keys) == len(values) else None,
            ),
        )
