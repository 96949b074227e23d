"""A micro-batch: what its stages made of some records, as one transaction."""

from collections.abc import Iterable, Mapping

import numpy as np

from penstock.log.port import Consumer, Transaction
from penstock.log.records import Records, TopicPartition, concatenated
from penstock.streams.dead_letters import DeadLetter, dead_topic, records_of
from penstock.streams.intake import Instant
from penstock.streams.originals import Originals
from penstock.streams.outputs import Effect
from penstock.streams.stage import Stage, StageResult

__all__ = ["MicroBatch"]


class MicroBatch:
    """Made anew for each turn of a worker."""

    def __init__(self, instant: Instant) -> None:
        self.instant = instant
        self._results: dict[TopicPartition, list[StageResult]] = {}
        self._changes: dict[TopicPartition, bytes] = {}
        self._dead: list[DeadLetter] = []

    @property
    def sources(self) -> tuple[TopicPartition, ...]:
        return tuple(self._results)

    @property
    def empty(self) -> bool:
        return not self._results

    @property
    def largest(self) -> TopicPartition | None:
        """The partition of which most goes into the log."""
        sizes = {
            source: sum(each.records.size_bytes for result in results for each in result.appends)
            for source, results in self._results.items()
        }
        return max(sizes, key=sizes.__getitem__, default=None)

    def add(self, source: TopicPartition, result: StageResult) -> None:
        self._results.setdefault(source, []).append(result)

    def forget(self, source: TopicPartition) -> None:
        """Nothing of that partition is part of it."""
        self._results.pop(source, None)

    def collect(self, stages: Iterable[Stage]) -> None:
        """What has changed in the stages that had a part in it."""
        for stage in stages:
            if stage.source in self._results:
                self._changes[stage.source] = stage.take_changes()

    def find_originals(self, originals: Originals) -> None:
        """What has become dead letters, with the events' own bytes. Reads the log."""
        dead = [letter for results in self._results.values() for result in results for letter in result.dead]
        self._dead = originals.complete(dead) if dead else dead

    def changes(self, source: TopicPartition) -> bytes:
        return self._changes[source]

    def prepare(self) -> None:
        """What is outside of the log, before the commit. Raises `StorageFailed`."""
        for effect in self._effects():
            effect.prepare()

    def publish(self) -> None:
        """The same, after it. Raises `StorageFailed`."""
        for effect in self._effects():
            effect.publish()

    def write(self, transaction: Transaction, consumer: Consumer, changes_topics: Mapping[str, str]) -> None:
        """`changes_topics` are by source topic where its changes go. Dead letters go with the event's topic."""
        targets: dict[TopicPartition, list[Records]] = {}
        offsets: dict[TopicPartition, int] = {}
        now_ms = self.instant.now_ms
        for source, results in self._results.items():
            for result in results:
                for append in result.appends:
                    targets.setdefault(append.target, []).append(append.records)
            times_ms = np.array([now_ms], dtype=np.int64)
            records = Records(values=[self._changes[source]], times_ms=times_ms)
            targets.setdefault(TopicPartition(changes_topics[source.topic], source.partition), []).append(
                records
            )
            next_offset = results[-1].next_offset
            if next_offset is not None:
                offsets[source] = next_offset
        for topic in dict.fromkeys(letter.source.topic for letter in self._dead):
            letters = records_of([letter for letter in self._dead if letter.source.topic == topic])
            targets[TopicPartition(dead_topic(topic), 0)] = [letters]
        for target, several in targets.items():
            transaction.append(target, concatenated(several))
        if offsets:
            transaction.commit_offsets(offsets, consumer.membership())

    def _effects(self) -> Iterable[Effect]:
        return (effect for results in self._results.values() for result in results for effect in result.effects)
