"""The loop of a stream worker: poll, process, commit; a thin edge around the stages of its partitions.

Everything that a micro-batch comes to is one transaction: output, dead letters, changes of state, offsets. What
fails leaves nothing, and the state in memory, which is ahead then, is brought back from what was committed.
"""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from threading import Event

import msgspec

from penstock.core.clock import Clock
from penstock.core.errors import (
    CorruptRecords,
    DeadlineExceeded,
    Fenced,
    PenstockError,
    StorageFailed,
    TooLarge,
)
from penstock.core.failpoints import Failpoints
from penstock.log.port import Consumer, Log, TransactionalProducer
from penstock.log.records import Fetched, TopicPartition
from penstock.streams.batch_size import BatchSize
from penstock.streams.containment import Containment
from penstock.streams.feeds.feeding import Feeding
from penstock.streams.feeds.plan import FeedPlan
from penstock.streams.intake import Instant
from penstock.streams.lease import LeaseKeeper
from penstock.streams.micro_batch import MicroBatch
from penstock.streams.originals import Originals
from penstock.streams.owned import PAUSE_S, PAUSE_S_MAX, Owned
from penstock.streams.partitions import Partitions
from penstock.streams.plan import StagePlan
from penstock.streams.suspicion import apart, one_by_one, suspect_of
from penstock.streams.worker_config import PartitionStatus, WorkerConfig

__all__ = ["StreamWorker"]

log = logging.getLogger(__name__)

STATUS_EVERY_S = 1.0


class StreamWorker:
    """One member of the app's group. `plans` are the app's stages by their source topics, which are there.

    `run` is for a thread of its own; `status` may be read from others.
    """

    def __init__(
        self,
        config: WorkerConfig,
        plans: Mapping[str, StagePlan],
        opened: Log,
        clock: Clock,
        failpoints: Failpoints | None = None,
        feeds: Sequence[FeedPlan] = (),
    ) -> None:
        self._config = config
        self._log = opened
        self._clock = clock
        self._failpoints = failpoints or Failpoints()
        self._size = BatchSize(config.batch)
        self._containment = Containment(config, clock)
        self._watchdog = self._containment.watchdog
        self._feeding = Feeding(feeds, config, opened, clock, self._containment, self._failpoints)
        self._partitions = Partitions(config, plans, opened, self._containment, self._feeding, self._failpoints)
        self._changes_topics = {topic: plan.changes_topic for topic, plan in plans.items()}
        many = frozenset(plan.events_topic for plan in plans.values() if plan.events_form == "arrow")
        self._originals = Originals(opened.admin, many)
        self._lease = LeaseKeeper(lambda: self._consumer, clock, config.timeout_s)
        self._failures = 0
        self._batch = MicroBatch(self._instant())
        self._new = False
        """Whether it has joined and not polled since: the first poll only tells what it was given."""
        self._consumer: Consumer | None = None
        self._producer: TransactionalProducer | None = None
        self._ticked_s = self._told_s = float("-inf")
        self._fetched: Sequence[Fetched] = ()
        """What this turn works on."""
        self._worked: list[Fetched] = []
        """What of it was processed: where records are suspected, a part."""
        self._turns = 0
        self._quiet: frozenset[TopicPartition] = frozenset()
        """Partitions without lag, when that was looked at last."""
        self.status: tuple[PartitionStatus, ...] = ()
        self.problem: str | None = None
        """Why nothing goes on at the moment."""

    def run(self, stop: Event) -> None:
        """Works until `stop` is set; then commits what it has begun, and leaves the group.

        Raises what no worker of this app can mend.
        """
        with self._containment:
            self._lease.start()
            try:
                while not stop.is_set():
                    self._guarded_turn(stop)
            finally:
                self._lease.stop()
                self._leave()
                self._partitions.close()

    def _guarded_turn(self, stop: Event) -> None:
        try:
            self._turn()
            if not self._partitions.restoring:
                self.problem = None
        except Fenced as error:
            log.warning("%s; its partitions are joined anew", error)
            self._abandon()
        except TooLarge as error:
            self._partitions.drop_all()
            rows = sum(len(each.records) for each in self._fetched)
            if rows > 1:
                log.warning("%s; tried again with half as many records", error)
                self._size.halve(rows)
            else:
                self._give_up(error)
        except StorageFailed as error:
            pause_s = min(PAUSE_S_MAX, PAUSE_S * 2.0**self._failures)
            self._failures += 1
            self.problem = str(error)
            log.error("nothing was committed: %s; tried again in %.1f s", error, pause_s)
            self._partitions.drop_all()
            # What waits meanwhile is told, too.
            with contextlib.suppress(PenstockError):
                self._tell()
            stop.wait(pause_s)

    def _give_up(self, error: TooLarge) -> None:
        """What comes of a single record does not fit into the log: it becomes a dead letter, and where not even
        that fits, its partition stands still.
        """
        for each in self._fetched:
            owned = self._partitions.find(each.source)
            if owned is None:
                continue
            if owned.accused:
                self._partitions.stop(owned, error)
            else:
                log.error("%s offset %d becomes a dead letter: %s", owned.source, int(each.offsets[0]), error)
                owned.suspect(suspect_of(each, reason="raised", detail=f"TooLarge: {error}"))
        if self._fetched:
            return
        # Of time alone: there is no record to set aside.
        largest = self._batch.largest
        owned = self._partitions.find(largest) if largest is not None else None
        if owned is None:
            raise error
        self._partitions.stop(owned, error)

    # One turn

    def _turn(self) -> None:
        self._lease.alive()
        consumer = self._joined()
        self._partitions.restore_next(self._clock.monotonic())
        self._fetched = ()
        self._worked.clear()
        fetched = self._poll(consumer)
        self._fetched = fetched
        self._failpoints.pass_by("poll")
        begun_s = self._clock.monotonic()
        try:
            self._work_on(fetched, consumer, begun_s)
        finally:
            # Also of one that took so long that the lease was over: the next ones have to be smaller.
            rows = sum(len(each.records) for each in self._worked)
            size_bytes = sum(each.records.size_bytes for each in self._worked)
            self._size.observe(rows=rows, size_bytes=size_bytes, seconds=self._clock.monotonic() - begun_s)
        assert self._producer is not None, "it has joined"
        self._lease.alive()
        self._feeding.turn(self._producer, consumer, self._size.rows)
        self._partitions.look_at_snapshots(self._clock.monotonic())
        self._tell()

    def _work_on(self, fetched: Sequence[Fetched], consumer: Consumer, now_s: float) -> None:
        """One transaction: what was fetched, and what time alone brings where all was fetched."""
        ticking = now_s - self._ticked_s >= self._config.tick_s
        ticking = self._choose(fetched, consumer) and ticking
        with self._watchdog.until_settled():
            batch = self._batch = self._process(self._fetched, consumer)
            if ticking:
                self._ticked_s = now_s
                self._tick(batch, fetched)
            if not batch.empty:
                self._commit(batch, consumer)

    def _choose(self, fetched: Sequence[Fetched], consumer: Consumer) -> bool:
        """What of it is worked on in this turn: all of it, unless something is suspected. The rest is polled
        again. Whether time may go on in the same transaction.
        """
        suspected = self._partitions.suspected
        self._fetched, left = apart(fetched, suspected, self._turns)
        alone = any(each.source in suspected for each in self._fetched)
        doubted = self._partitions.doubted
        if doubted and not alone:
            self._fetched, more = one_by_one(self._fetched, self._turns // 2)
            left = [*left, *more]
        self._turns += 1
        for each in left:
            consumer.seek(each.source, int(each.offsets[0]))
        return not self._fetched if doubted else not (left and alone)

    def _poll(self, consumer: Consumer) -> list[Fetched]:
        pending = self._new or self._partitions.restoring
        self._new = False
        try:
            return consumer.poll(
                records_max=self._size.rows,
                bytes_max=self._size.bytes_max,
                timeout_s=0.0 if pending or self._feeding.busy else self._config.tick_s,
            )
        except CorruptRecords as error:
            owned = self._partitions.named(error.where)
            if owned is None:
                raise
            self._partitions.stop(owned, error)
            return []

    def _process(self, fetched: Sequence[Fetched], consumer: Consumer) -> MicroBatch:
        batch = MicroBatch(self._instant())
        for each in fetched:
            owned = self._partitions.find(each.source)
            if owned is None or owned.stage is None or not len(each.records):
                continue
            self._lease.alive()
            try:
                piece = owned.process(each, batch, self._watchdog)
                self._worked.append(piece)
                if piece.next_offset != each.next_offset:
                    consumer.seek(each.source, piece.next_offset)
            except CorruptRecords as error:
                batch.forget(each.source)
                self._partitions.stop(owned, error)
            except StorageFailed as error:
                # Of a function, or a model: nothing of ours has been written yet.
                batch.forget(each.source)
                self._partitions.put_off(owned, error, self._clock.monotonic())
            except (Fenced, KeyboardInterrupt):
                raise
            except BaseException as error:
                batch.forget(each.source)
                self._narrow(owned, error)
            self._watchdog.end()
            self._failpoints.pass_by("compute")
        return batch

    def _narrow(self, owned: Owned, error: BaseException) -> None:
        """A batch of it failed, on one of the records that the watchdog was told of: tried again in parts.

        Its state is ahead of what is committed, and is brought back first.
        """
        suspect = self._watchdog.suspect
        if suspect is None:
            raise error
        if isinstance(error, DeadlineExceeded):
            self._size.halve(suspect.end - suspect.begin)
        log.warning(
            "%s, offsets %d to %d: %s: %s; tried again in parts",
            *(owned.source, suspect.begin, suspect.end - 1, type(error).__name__, error),
        )
        owned.suspect(
            msgspec.structs.replace(suspect, reason="raised", detail=f"{type(error).__name__}: {error}")
        )
        owned.drop()

    def _tick(self, batch: MicroBatch, fetched: Sequence[Fetched]) -> None:
        """Of partitions that have nothing more. A poll that brought as much as it may says nothing of the
        others: of these, those that had nothing a moment ago.
        """
        rows = sum(len(each.records) for each in fetched)
        size_bytes = sum(each.records.size_bytes for each in fetched)
        drained = rows < self._size.rows and 2 * size_bytes < self._size.bytes_max
        drained = drained and rows == sum(len(each.records) for each in self._worked)
        busy = {each.source for each in fetched}
        running = self._partitions.running()
        if running and self._partitions.doubted:
            # One in each turn, so that the next end tells which it was.
            running = [running[self._turns // 2 % len(running)]]
        for owned in running:
            if drained or (owned.source in self._quiet and owned.source not in busy):
                owned.tick(batch)

    def _commit(self, batch: MicroBatch, consumer: Consumer) -> None:
        """Whole or not at all; what is outside of the log is prepared before and published after."""
        batch.collect([owned.stage for owned in self._partitions.running() if owned.stage is not None])
        self._failpoints.pass_by("state")
        batch.find_originals(self._originals)
        self._lease.alive()
        batch.prepare()
        self._failpoints.pass_by("output")
        assert self._producer is not None, "it has joined"
        transaction = self._producer.begin()
        try:
            batch.write(transaction, consumer, self._changes_topics)
            self._failpoints.pass_by("commit")
            ends = transaction.commit()
        except BaseException:
            transaction.abort()
            raise
        self._failpoints.pass_by("committed")
        for source in batch.sources:
            owned = self._partitions.find(source)
            assert owned is not None, "it took part in the batch"
            owned.committed(ends, batch.changes(source), self._containment.suspects)
        self._failures = 0
        batch.publish()

    def _instant(self) -> Instant:
        now_ms = int(self._clock.now().timestamp() * 1000)
        return Instant(now_ms=now_ms, monotonic_ms=self._clock.monotonic() * 1000)

    # The group

    def _joined(self) -> Consumer:
        if self._consumer is None:
            self._producer = self._log.transactional(self._config.identity)
            self._consumer = self._log.consumer(self._config.group)
            self._partitions.join(self._consumer)
            self._new = True
        return self._consumer

    def _abandon(self) -> None:
        self._partitions.clear()
        self._leave()

    def _leave(self) -> None:
        joined = [each for each in (self._consumer, self._producer) if each is not None]
        self._consumer = self._producer = None
        for closing in joined:
            try:
                closing.close()
            except (Fenced, StorageFailed) as error:
                log.warning("leaving the group: %s", error)

    # What it tells

    def _tell(self) -> None:
        now_s = self._clock.monotonic()
        if now_s - self._told_s < STATUS_EVERY_S:
            return
        elapsed_s, self._told_s = now_s - self._told_s, now_s
        lags = {each.source: each.lag for each in self._log.admin.lags(self._config.group)}
        self._quiet = frozenset(source for source, lag in lags.items() if not lag)
        self.status = (
            *self._partitions.status(lags, elapsed_s),
            *self._feeding.status(elapsed_s),
        )
