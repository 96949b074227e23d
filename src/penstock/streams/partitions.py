"""The partitions that a worker has: how they come to it, are brought back, stand still, and go again."""

import logging
from collections.abc import Collection, Iterator, Mapping

from penstock.core.errors import PenstockError, StorageFailed
from penstock.core.failpoints import Failpoints
from penstock.log.port import Consumer, Log
from penstock.log.records import TopicPartition
from penstock.streams.containment import Containment
from penstock.streams.feeds.feeding import Feeding
from penstock.streams.owned import Owned
from penstock.streams.plan import StagePlan
from penstock.streams.restoring import Restorer
from penstock.streams.snapshotting import Snapshotting
from penstock.streams.worker_config import PartitionStatus, WorkerConfig

__all__ = ["Partitions"]

log = logging.getLogger(__name__)

TOLD_EVERY_S = 60.0
"""So often the log says for what a partition still waits."""


class Partitions:
    """Of one worker, whose consumer tells it what comes and goes: it is a `RebalanceListener`. For the worker's
    thread. `plans` are the app's stages by their source topics.
    """

    def __init__(
        self,
        config: WorkerConfig,
        plans: Mapping[str, StagePlan],
        opened: Log,
        containment: Containment,
        feeding: Feeding,
        failpoints: Failpoints,
    ) -> None:
        self._plans = plans
        self._log = opened
        self._containment = containment
        self._feeding = feeding
        self._failpoints = failpoints
        self._restorer = Restorer(opened.admin, config.folder / "snapshots")
        self._snapshotting = Snapshotting(config, self._restorer, opened.admin, failpoints)
        self._owned: dict[TopicPartition, Owned] = {}
        self._consumer: Consumer | None = None

    def join(self, consumer: Consumer) -> None:
        """From now on they are what that consumer is given."""
        self._consumer = consumer
        consumer.subscribe(sorted({*self._plans, *self._feeding.topics}), self)

    def close(self) -> None:
        self._snapshotting.close()

    # What there is

    def find(self, source: TopicPartition) -> Owned | None:
        return self._owned.get(source)

    def named(self, name: str | None) -> Owned | None:
        """The one that errors call by that name."""
        return next((owned for source, owned in self._owned.items() if str(source) == name), None)

    def running(self) -> list[Owned]:
        return [owned for owned in self._owned.values() if owned.stage is not None]

    @property
    def suspected(self) -> set[TopicPartition]:
        """Those of which some records are processed in parts."""
        return {source for source, owned in self._owned.items() if owned.suspected}

    @property
    def doubted(self) -> bool:
        """Whether an end leaves it open of which of them it was, or of nothing but time."""
        return any(owned.doubted for owned in self._owned.values())

    @property
    def restoring(self) -> bool:
        """Whether the state of any is still to be brought back."""
        return any(owned.stage is None and not (owned.problem or owned.waits) for owned in self._owned.values())

    def status(self, lags: Mapping[TopicPartition, int], elapsed_s: float) -> Iterator[PartitionStatus]:
        for source, owned in sorted(self._owned.items()):
            yield owned.status(lags.get(source, 0), elapsed_s)

    # What comes and goes

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """They are brought back one by one, between polls, so that the lease is kept."""
        assert self._consumer is not None, "it has joined"
        self._consumer.pause(partitions)
        for source in partitions:
            if source.topic in self._feeding.topics:
                self._feeding.assigned(source)
                continue
            self._owned[source] = Owned(self._plans[source.topic], source)

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """All that was begun is committed by now."""
        self._failpoints.pass_by("revoke")
        for source in partitions:
            self._feeding.revoked(source)
        gone = [self._owned.pop(source) for source in partitions if source in self._owned]
        self._snapshotting.keep([owned for owned in gone if owned.stage is not None])

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        log.warning("lost %s: another worker has them by now", ", ".join(map(str, partitions)))
        for source in partitions:
            self._owned.pop(source, None)
            self._feeding.revoked(source)

    def clear(self) -> None:
        """What it held is another's: nothing of it counts any more."""
        self._owned.clear()
        self._feeding.clear()

    # Their state

    def drop_all(self) -> None:
        """States are ahead of what is committed: they are brought back."""
        for owned in self._owned.values():
            owned.drop()
        self._feeding.forget()

    def restore_next(self, now_s: float) -> None:
        """The state of one partition that has none, as of what the group has committed there; of one that waits
        when its time has come.
        """
        for owned in self._owned.values():
            if owned.stage is None and not owned.problem and now_s >= owned.waits_until_s:
                self._restore(owned)
                return

    def _restore(self, owned: Owned) -> None:
        assert self._consumer is not None, "it has joined"
        source, consumer = owned.source, self._consumer
        committed = consumer.committed(source)
        consumer.pause([source])
        try:
            position = committed if committed is not None else self._begin(source)
            if not owned.examined:
                owned.careful(self._containment.hold_inquest(source, position), self._containment)
            restored = self._restorer.restore(owned.plan, source, committed)
            restored.stage.recover()
            owned.restored(restored, position)
        except StorageFailed:
            raise
        except PenstockError as error:
            self.stop(owned, error)
            return
        consumer.seek(source, position)
        consumer.resume([source])

    def _begin(self, source: TopicPartition) -> int:
        found = [info for info in self._log.admin.topics() if info.spec.name == source.topic]
        return found[0].begins[source.partition] if found else 0

    def put_off(self, owned: Owned, error: PenstockError, now_s: float) -> None:
        """Its records wait for what cannot be reached; the others go on."""
        assert self._consumer is not None, "it has joined"
        said = str(error)
        if owned.waits_told != said or now_s - owned.waits_told_s >= TOLD_EVERY_S:
            owned.waits_told, owned.waits_told_s = said, now_s
            log.error("%s waits, the others go on: %s", owned.source, said)
        owned.put_off(said, now_s)
        self._consumer.pause([owned.source])

    def stop(self, owned: Owned, error: PenstockError) -> None:
        """It stands still until another worker has it."""
        assert self._consumer is not None, "it has joined"
        hint = f" (hint: {error.hint})" if error.hint else ""
        log.error("%s stands still, the others go on: %s%s", owned.source, error, hint)
        owned.stop(str(error))
        self._consumer.pause([owned.source])

    def look_at_snapshots(self, now_s: float) -> None:
        """Takes one where it is due, between two batches."""
        self._snapshotting.look(self.running(), now_s)
