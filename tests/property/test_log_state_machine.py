"""A log under producers, a clock, and consumers that come, go, sleep and return: against a plain model.

Whatever happens, offsets never skip, what the group has committed is exactly what was handled, and a commit
with a membership that is over writes nothing.
"""

import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from penstock.core.clock import ManualClock
from penstock.core.errors import Fenced
from penstock.log.embedded import EmbeddedLog, LogLimits
from penstock.log.port import Membership, TopicSpec
from penstock.log.records import Records, TopicPartition

PARTITIONS = 3
CONSUMERS_MAX = 4
LEASE_S = 10.0


class Worker:
    """A member that copies what it polls into `out`, a transaction a poll."""

    def __init__(self, log: EmbeddedLog, name: int) -> None:
        self.owned: set[TopicPartition] = set()
        self.pending: tuple[Membership, dict[TopicPartition, tuple[int, list[bytes], int]]] | None = None
        self.consumer = log.consumer("group")
        self.producer = log.transactional(f"worker-{name}")
        self.consumer.subscribe(["in"], self)

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        self.owned |= set(partitions)

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        self.owned -= set(partitions)

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        self.owned -= set(partitions)


class LogMachine(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.clock = ManualClock()
        self.log = EmbeddedLog(self.folder, self.clock, LogLimits(lease_s=LEASE_S))
        self.log.admin.ensure_topics(
            [TopicSpec(name="in", partitions=PARTITIONS), TopicSpec(name="out", partitions=PARTITIONS)]
        )
        self.produced: dict[int, list[bytes]] = {number: [] for number in range(PARTITIONS)}
        self.committed = dict.fromkeys(range(PARTITIONS), 0)
        self.workers: list[Worker] = []
        self.made = 0

    def teardown(self) -> None:
        for worker in self.workers:
            worker.consumer.close()
        self.log.close()
        shutil.rmtree(self.folder)

    @rule(number=st.integers(0, PARTITIONS - 1), count=st.integers(1, 5))
    def produce(self, number: int, count: int) -> None:
        start = len(self.produced[number])
        values = [f"{number}:{start + each}".encode() for each in range(count)]
        records = Records(values=values, times_ms=np.arange(count))
        assert self.log.producer().append(TopicPartition("in", number), records).result(10) == start
        self.produced[number] += values

    @precondition(lambda self: len(self.workers) < CONSUMERS_MAX)
    @rule()
    def join(self) -> None:
        self.made += 1
        self.workers.append(Worker(self.log, self.made))

    @precondition(lambda self: self.workers)
    @rule(which=st.integers(0, CONSUMERS_MAX), records_max=st.integers(1, 6))
    def poll(self, which: int, records_max: int) -> None:
        """What was polled before and not committed is given up, as by a worker that starts anew there."""
        worker = self.workers[which % len(self.workers)]
        for source in worker.owned if worker.pending else ():
            worker.consumer.seek(source, worker.consumer.committed(source) or 0)
        fetched = worker.consumer.poll(records_max=records_max, bytes_max=1000, timeout_s=0)
        batch = {
            each.source: (int(each.offsets[0]), list(each.records.values), each.next_offset) for each in fetched
        }
        for source, (first, values, next_offset) in batch.items():
            assert source in worker.owned
            assert first == self.committed[source.partition]
            assert values == self.produced[source.partition][first:next_offset]
        worker.pending = (worker.consumer.membership(), batch) if batch else None

    @precondition(lambda self: any(worker.pending for worker in self.workers))
    @rule(which=st.integers(0, CONSUMERS_MAX))
    def commit(self, which: int) -> None:
        waiting = [worker for worker in self.workers if worker.pending]
        self.commit_of(waiting[which % len(waiting)])

    def commit_of(self, worker: Worker) -> None:
        assert worker.pending is not None
        (membership, batch), worker.pending = worker.pending, None
        transaction = worker.producer.begin()
        for source, (_, values, _) in batch.items():
            transaction.append(
                TopicPartition("out", source.partition), Records(values=values, times_ms=np.zeros(len(values)))
            )
        transaction.commit_offsets({source: each[2] for source, each in batch.items()}, membership)
        token = worker.consumer._token
        members = self.log.admin.members("group")
        mine = {part for each in members if each.member == token for part in each.partitions}
        try:
            transaction.commit()
        except Fenced:
            assert not set(batch) <= mine, "what is its own can be committed"
            return
        assert set(batch) <= mine, "what is another's cannot"
        for source, (first, _, next_offset) in batch.items():
            assert first == self.committed[source.partition], "what was committed is committed once"
            self.committed[source.partition] = next_offset

    @precondition(lambda self: self.workers)
    @rule(which=st.integers(0, CONSUMERS_MAX))
    def leave(self, which: int) -> None:
        self.workers.pop(which % len(self.workers)).consumer.close()

    @rule(seconds=st.sampled_from([1.0, 4.0, 11.0]))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @precondition(lambda self: len(self.workers) > 1 and any(worker.pending for worker in self.workers))
    @rule(which=st.integers(0, CONSUMERS_MAX))
    def sleep_past_the_lease(self, which: int) -> None:
        """One stands still in mid-work while the others go on, and then goes on as if nothing had been."""
        waiting = [worker for worker in self.workers if worker.pending]
        sleeper = waiting[which % len(waiting)]
        self.clock.advance(LEASE_S + 1)
        for _ in range(2):
            for other, worker in enumerate(self.workers):
                if worker is not sleeper:
                    self.poll(other, 6)
        self.commit_of(sleeper)

    @rule(number=st.integers(0, PARTITIONS - 1), back=st.integers(0, 10))
    def truncate(self, number: int, back: int) -> None:
        """Never past what the group has handled."""
        self.log.admin.truncate(TopicPartition("in", number), max(self.committed[number] - back, 0))

    @invariant()
    def nobody_shares(self) -> None:
        held = [part for member in self.log.admin.members("group") for part in member.partitions]
        assert len(held) == len(set(held))

    @invariant()
    def what_is_out_is_what_was_committed(self) -> None:
        for number in range(PARTITIONS):
            out = self.log.admin.read(TopicPartition("out", number), 0, records_max=10_000)
            assert list(out.records.values) == self.produced[number][: self.committed[number]]
        lags = {lag.source.partition: lag.committed or 0 for lag in self.log.admin.lags("group")}
        assert all(lags.get(number, 0) == offset for number, offset in self.committed.items())


TestLogMachine = LogMachine.TestCase
TestLogMachine.settings = settings(
    max_examples=20, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
