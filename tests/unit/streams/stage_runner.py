"""Runs all stages of an app in memory: what one appends the other reads."""

import json
from collections.abc import Sequence

import numpy as np

import penstock as ps
from penstock.log.partitioning import partitions_of
from penstock.log.records import Fetched, Records, TopicPartition
from penstock.streams.intake import Instant
from penstock.streams.stage import Stage, StageResult
from penstock.streams.topology import topology

START_MS = 1_700_000_000_000
Record = tuple[bytes, bytes | None, dict[str, bytes] | None, int]


class StageRunner:
    """`rows` records of a partition are processed at a time; with `restarts` each stage is brought back after
    every batch from what it had given out.
    """

    def __init__(self, app: ps.App, rows: int = 100, *, restarts: bool = False) -> None:
        app.check()
        self.topology = topology(app.streams.graph, {})
        self.partitions = {spec.name: spec.partitions for spec in self.topology.topics}
        self.records: dict[TopicPartition, list[Record]] = {}
        self.dead: list[bytes] = []
        self._rows = rows
        self._restarts = restarts
        self._position: dict[TopicPartition, int] = {}
        self._changes: dict[TopicPartition, list[bytes]] = {}
        self._seconds = 0.0
        self.stages = {
            TopicPartition(plan.source, partition): Stage(plan, TopicPartition(plan.source, partition))
            for plan in self.topology.stages
            for partition in range(plan.partitions)
        }

    def produce(self, topic: str, events: Sequence[dict[str, object]], key: str | None = None) -> None:
        for event in events:
            name = str(event[key]).encode() if key is not None else None
            partition = int(partitions_of([name], self.partitions[topic])[0]) if name is not None else 0
            value = json.dumps(event).encode()
            record = (value, name, None, START_MS + 10_000)
            self.records.setdefault(TopicPartition(topic, partition), []).append(record)

    def delete(self, topic: str, key: str) -> None:
        partition = int(partitions_of([key.encode()], self.partitions[topic])[0])
        record = (b"", key.encode(), None, START_MS + 10_000)
        self.records.setdefault(TopicPartition(topic, partition), []).append(record)

    def run(self) -> None:
        """Until every stage has read all that there is for it."""
        busy = True
        while busy:
            busy = sum(self._step(source) for source in self.stages) > 0

    def tick(self, seconds: float) -> None:
        """Real time passes, in steps that a worker takes too."""
        for _ in range(int(seconds / 0.5)):
            self._seconds += 0.5
            for source, stage in self.stages.items():
                self._keep(source, stage.tick(self._now()))
            self.run()

    def rows(self, topic: str) -> list[dict[str, object]]:
        found = []
        for partition in range(self.partitions[topic]):
            found += [json.loads(value) for value, *_ in self.records.get(TopicPartition(topic, partition), ())]
        return found

    def _step(self, source: TopicPartition) -> bool:
        begin = self._position.get(source, 0)
        some = self.records.get(source, [])[begin : begin + self._rows]
        if not some:
            return False
        self._position[source] = begin + len(some)
        values, keys, headers, times_ms = zip(*some, strict=True)
        fetched = Fetched(
            source=source,
            offsets=np.arange(begin, begin + len(some), dtype=np.int64),
            records=Records(
                values=values,
                times_ms=np.array(times_ms, dtype=np.int64),
                keys=keys,
                headers=headers,
            ),
            next_offset=begin + len(some),
        )
        self._keep(source, self.stages[source].process(fetched, self._now()))
        return True

    def _now(self) -> Instant:
        now_ms = START_MS + 10**10 + int(self._seconds * 1000)
        return Instant(now_ms=now_ms, monotonic_ms=self._seconds * 1000)

    def _keep(self, source: TopicPartition, result: StageResult) -> None:
        for append in result.appends:
            count = len(append.records)
            keys = append.records.keys or [None] * count
            headers = append.records.headers or [None] * count
            times_ms = append.records.times_ms.tolist()
            self.records.setdefault(append.target, []).extend(
                zip(append.records.values, keys, headers, times_ms, strict=True)  # type: ignore[arg-type]
            )
        for effect in result.effects:
            effect.prepare()
        for effect in result.effects:
            effect.publish()
        self.dead += [letter.value for letter in result.dead]
        if self._restarts:
            stage = self.stages[source]
            self._changes.setdefault(source, []).append(stage.take_changes())
            again = Stage(stage.plan, source)
            for changes in self._changes[source]:
                again.apply_changes(changes)
            self.stages[source] = again
