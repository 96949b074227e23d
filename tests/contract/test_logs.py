"""One contract, run over every log. A log that is added joins `FACTORIES`."""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from penstock.core.clock import ManualClock
from penstock.core.errors import Conflict, Fenced, InvalidInput, NotFound, TooLarge
from penstock.log.embedded import EmbeddedLog, LogLimits
from penstock.log.port import Consumer, Log, TopicSpec
from penstock.log.records import Fetched, Records, TopicPartition

LogFactory = Callable[[], Log]
LIMITS = LogLimits(lease_s=10.0, record_bytes_max=1024 * 1024, frame_rows_max=1000, frame_bytes_max=64 * 1024)
EVENTS = TopicPartition("events", 0)
OTHER = TopicPartition("events", 1)
RESULTS = TopicPartition("results", 0)


class Told:
    """Remembers what a consumer was told."""

    def __init__(self) -> None:
        self.has: set[TopicPartition] = set()
        self.calls: list[tuple[str, frozenset[TopicPartition]]] = []

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        assert not self.has & set(partitions)
        self.has |= set(partitions)
        self.calls.append(("assigned", frozenset(partitions)))

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        self.has -= set(partitions)
        self.calls.append(("revoked", frozenset(partitions)))

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        self.has -= set(partitions)
        self.calls.append(("lost", frozenset(partitions)))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def embedded(folder: Path, clock: ManualClock) -> Log:
    return EmbeddedLog(folder / "log", clock, LIMITS)


FACTORIES = {"embedded": embedded}


@pytest.fixture(params=FACTORIES)
def log_factory(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[LogFactory]:
    """Opens the same log, as often as it is called, as so many processes would."""
    logs: list[Log] = []

    def open_log() -> Log:
        logs.append(FACTORIES[request.param](tmp_path, clock))
        return logs[-1]

    yield open_log
    for log in reversed(logs):
        log.close()


@pytest.fixture
def log(log_factory: LogFactory) -> Log:
    log = log_factory()
    log.admin.ensure_topics([TopicSpec(name="events", partitions=2), TopicSpec(name="results")])
    return log


def records(*values: str, start_ms: int = 1000) -> Records:
    return Records(
        values=[value.encode() for value in values], times_ms=np.arange(start_ms, start_ms + len(values))
    )


def append(log: Log, target: TopicPartition, *values: str, start_ms: int = 1000) -> int:
    producer = log.producer()
    offset = producer.append(target, records(*values, start_ms=start_ms)).result(10)
    producer.close()
    return offset


def joined(log: Log, *, group: str = "group", topics: Collection[str] = ("events",)) -> tuple[Consumer, Told]:
    consumer, told = log.consumer(group), Told()
    consumer.subscribe(topics, told)
    return consumer, told


def poll(consumer: Consumer, *, records_max: int = 1000, bytes_max: int = 1 << 20) -> list[Fetched]:
    return consumer.poll(records_max=records_max, bytes_max=bytes_max, timeout_s=0)


def values_of(fetched: Collection[Fetched]) -> list[str]:
    return [value.decode() for each in fetched for value in each.records.values]


def drained(consumer: Consumer, **bounds: int) -> list[str]:
    values: list[str] = []
    while fetched := poll(consumer, **bounds):
        values += values_of(fetched)
    return values


def test_what_is_appended_is_read_in_order(log: Log) -> None:
    assert append(log, EVENTS, "a", "b") == 0
    assert append(log, EVENTS, "c") == 2
    assert append(log, OTHER, "other") == 0
    found = log.admin.read(EVENTS, 0, records_max=10)
    assert values_of([found]) == ["a", "b", "c"]
    assert found.offsets.tolist() == [0, 1, 2]
    assert found.next_offset == 3
    assert values_of([log.admin.read(EVENTS, 1, records_max=1)]) == ["b"]
    assert len(log.admin.read(EVENTS, 3, records_max=1).records) == 0


def test_keys_headers_and_times_come_back(log: Log) -> None:
    given = Records(
        values=[b"", b"\0\xff", b"x" * 1000],
        times_ms=np.array([-5, 2**62, 0]),
        keys=[None, b"", b"key"],
        headers=[None, {}, {"reason": b"\0bad"}],
    )
    log.producer().append(EVENTS, given).result(10)
    found = log.admin.read(EVENTS, 0, records_max=10).records
    assert (list(found.values), list(found.keys or ())) == (list(given.values), list(given.keys or ()))
    assert found.times_ms.tolist() == given.times_ms.tolist()
    assert found.headers is not None
    assert [dict(each or {}) for each in found.headers] == [{}, {}, {"reason": b"\0bad"}]


def test_a_large_append_is_one(log: Log) -> None:
    values = [f"{number:0100d}" for number in range(5000)]
    append(log, EVENTS, "first")
    assert append(log, EVENTS, *values) == 1
    consumer, _ = joined(log)
    assert drained(consumer, records_max=700) == ["first", *values]
    consumer.close()


def test_small_appends_at_once_keep_their_order_and_offsets(log: Log) -> None:
    producer = log.producer()
    futures = [producer.append(EVENTS, records(f"{number}")) for number in range(1000)]
    producer.close()
    assert [future.result(0) for future in futures] == list(range(1000))
    found = log.admin.read(EVENTS, 0, records_max=1000)
    assert values_of([found]) == [f"{number}" for number in range(1000)]


def test_appending_nothing_is_no_append(log: Log) -> None:
    append(log, EVENTS, "a")
    assert append(log, EVENTS) == 1
    assert append(log, EVENTS, "b") == 1


def test_what_is_not_there_is_not_found(log: Log) -> None:
    producer = log.producer()
    for missing in (TopicPartition("none", 0), TopicPartition("events", 2)):
        with pytest.raises(NotFound):
            producer.append(missing, records("a")).result(10)
        with pytest.raises(NotFound):
            log.admin.read(missing, 0, records_max=1)
    with pytest.raises(NotFound, match="nowhere"):
        joined(log, topics=["events", "nowhere"])
    transaction = log.transactional("one").begin()
    transaction.append(EVENTS, records("a"))
    transaction.append(TopicPartition("none", 0), records("a"))
    with pytest.raises(NotFound):
        transaction.commit()
    assert log.admin.topics()[0].ends == (0, 0)


def test_a_record_beyond_the_limit_is_refused(log: Log) -> None:
    producer = log.producer()
    future = producer.append(EVENTS, records("x" * (1024 * 1024 + 1)))
    with pytest.raises(TooLarge):
        future.result(10)
    assert append(log, EVENTS, "x" * (1024 * 1024)) == 0


def test_topics(log: Log) -> None:
    append(log, OTHER, "a", "b")
    events, results = log.admin.topics()
    assert (events.spec.name, events.spec.partitions) == ("events", 2)
    assert (events.begins, events.ends) == ((0, 0), (0, 2))
    assert events.size_bytes > 0
    assert results.size_bytes == 0
    with pytest.raises(Conflict, match="2 partitions, not 3"):
        log.admin.ensure_topics([TopicSpec(name="more"), TopicSpec(name="events", partitions=3)])
    assert len(log.admin.topics()) == 2
    for bad in (
        TopicSpec(name="a b"),
        TopicSpec(name=""),
        TopicSpec(name="a", partitions=0),
        TopicSpec(name="a", retention_s=0),
    ):
        with pytest.raises(InvalidInput):
            log.admin.ensure_topics([bad])
    log.admin.ensure_topics([TopicSpec(name="results", retention_bytes=10)])
    assert log.admin.topics()[1].spec.retention_bytes == 10


def test_offset_at_a_time(log: Log) -> None:
    for start_ms in (1000, 5000, 2000, 6000):
        append(log, EVENTS, "a", "b", "c", start_ms=start_ms)
    times = [time for start in (1000, 5000, 2000, 6000) for time in range(start, start + 3)]
    for asked in (0, 1000, 1001, 1003, 2500, 5001, 5002, 5003, 6002, 6003):
        expected = next((offset for offset, time in enumerate(times) if time >= asked), len(times))
        assert log.admin.offset_at(EVENTS, asked) == expected
    assert log.admin.offset_at(OTHER, 0) == 0


def test_polls_keep_to_their_bounds(log: Log) -> None:
    append(log, EVENTS, *["x" * 100 for _ in range(10)])
    consumer, _ = joined(log)
    assert len(values_of(poll(consumer, records_max=3))) == 3
    assert len(values_of(poll(consumer, bytes_max=250))) == 2
    assert len(values_of(poll(consumer, bytes_max=1))) == 1
    assert len(values_of(poll(consumer))) == 4
    assert not poll(consumer)
    consumer.close()


def test_partitions_take_turns(log: Log) -> None:
    append(log, EVENTS, *["0"] * 100)
    append(log, OTHER, *["1"] * 100)
    consumer, _ = joined(log)
    assert {value for _ in range(2) for value in values_of(poll(consumer, records_max=10))} == {"0", "1"}
    consumer.close()


def test_pause_resume_seek(log: Log) -> None:
    append(log, EVENTS, "a", "b")
    append(log, OTHER, "c")
    consumer, _ = joined(log)
    poll(consumer, records_max=1)
    consumer.seek(EVENTS, 0)
    consumer.seek(OTHER, 0)
    consumer.pause([EVENTS])
    assert drained(consumer) == ["c"]
    consumer.resume([EVENTS])
    assert drained(consumer) == ["a", "b"]
    consumer.close()


def test_groups_go_on_where_they_committed(log: Log) -> None:
    append(log, EVENTS, "a", "b", "c")
    producer = log.transactional("one")
    consumer, _ = joined(log)
    assert consumer.committed(EVENTS) is None
    poll(consumer)
    transaction = producer.begin()
    transaction.append(RESULTS, records("A", "B"))
    transaction.commit_offsets({EVENTS: 2}, consumer.membership())
    assert values_of([log.admin.read(RESULTS, 0, records_max=9)]) == []
    assert transaction.commit() == {RESULTS: 2}
    assert consumer.committed(EVENTS) == 2
    consumer.close()
    again, _ = joined(log)
    assert drained(again) == ["c"]
    again.close()
    another, _ = joined(log, group="another")
    assert drained(another) == ["a", "b", "c"]
    another.close()
    lags = {(lag.group, lag.source): (lag.committed, lag.lag) for lag in log.admin.lags()}
    assert lags["group", EVENTS] == (2, 1)
    assert lags["another", EVENTS] == (None, 3)


def test_an_aborted_transaction_leaves_nothing(log: Log) -> None:
    producer = log.transactional("one")
    transaction = producer.begin()
    transaction.append(RESULTS, records("A"))
    transaction.abort()
    assert producer.begin().commit() == {}
    assert log.admin.topics()[1].ends == (0,)


def test_a_second_opening_of_an_identity_fences_the_first(log: Log, log_factory: LogFactory) -> None:
    first = log.transactional("one")
    transaction = first.begin()
    transaction.append(RESULTS, records("A"))
    second = log_factory().transactional("one")
    with pytest.raises(Fenced, match="one"):
        transaction.commit()
    with pytest.raises(Fenced):
        first.begin().commit()
    transaction = second.begin()
    transaction.append(RESULTS, records("B"))
    transaction.commit()
    assert values_of([log.admin.read(RESULTS, 0, records_max=9)]) == ["B"]


def test_partitions_are_handed_over_only_once_they_are_let_go(log: Log, log_factory: LogFactory) -> None:
    append(log, EVENTS, "a")
    append(log, OTHER, "b")
    first, told_first = joined(log)
    poll(first)
    assert told_first.has == {EVENTS, OTHER}
    second, told_second = joined(log_factory())
    assert poll(second) == []
    assert told_second.has == set()
    membership = first.membership()
    poll(first)
    assert len(told_first.has) == 1
    assert told_first.calls[-1][0] == "revoked"
    poll(second)
    assert told_second.has == {EVENTS, OTHER} - told_first.has
    assert told_second.calls == [("assigned", frozenset(told_second.has))]
    with pytest.raises(Fenced):
        commit(log, dict.fromkeys(told_second.has, 1), membership)
    commit(log, dict.fromkeys(told_first.has, 1), membership)
    first.close()
    poll(second)
    assert told_second.has == {EVENTS, OTHER}
    assert [each.partitions for each in log.admin.members("group")] == [(EVENTS, OTHER)]
    second.close()
    assert log.admin.members("group") == ()


def commit(log: Log, offsets: dict[TopicPartition, int], membership: object) -> None:
    transaction = log.transactional("committer").begin()
    transaction.append(RESULTS, records("done"))
    transaction.commit_offsets(offsets, membership)
    transaction.commit()


def test_what_is_revoked_can_be_committed_until_the_listener_returns(log: Log) -> None:
    append(log, EVENTS, "a")
    append(log, OTHER, "b")
    first = log.consumer("group")

    class Committing(Told):
        def revoked(self, partitions: Collection[TopicPartition]) -> None:
            super().revoked(partitions)
            commit(log, dict.fromkeys(partitions, 1), first.membership())

    first.subscribe(["events"], Committing())
    poll(first)
    second, told = joined(log)
    poll(first)
    assert poll(second) == []
    assert all(second.committed(source) == 1 for source in told.has)
    assert told.has
    first.close()
    second.close()


def test_a_member_past_its_lease_is_fenced_and_told(log: Log, clock: ManualClock) -> None:
    append(log, EVENTS, "a")
    sleeper, told = joined(log)
    poll(sleeper)
    membership = sleeper.membership()
    clock.advance(6)
    waking, told_waking = joined(log)
    clock.advance(6)
    poll(waking)
    poll(waking)
    assert told_waking.has == {EVENTS, OTHER}
    with pytest.raises(Fenced, match="events/0"):
        commit(log, {EVENTS: 1}, membership)
    assert waking.committed(EVENTS) is None
    assert log.admin.topics()[1].ends == (0,)
    commit(log, {EVENTS: 1}, waking.membership())
    poll(sleeper)
    assert told.calls[-1] == ("lost", frozenset({EVENTS, OTHER}))
    poll(waking)
    poll(sleeper)
    assert len(told.has) == 1
    assert not told.has & told_waking.has
    sleeper.close()
    waking.close()


def test_committing_renews_the_lease(log: Log, clock: ManualClock) -> None:
    worker, told = joined(log)
    poll(worker)
    other, told_other = joined(log)
    poll(worker)
    poll(other)
    (mine,) = told.has
    for _ in range(4):
        clock.advance(6)
        commit(log, {mine: 0}, worker.membership())
        poll(other)
    commit(log, {mine: 0}, worker.membership())
    assert len(told_other.has) == 1
    worker.close()
    other.close()


def test_a_member_at_work_keeps_its_lease_from_another_thread(log: Log, clock: ManualClock) -> None:
    append(log, EVENTS, "a")
    worker, told = joined(log)
    poll(worker)
    other, told_other = joined(log)
    for _ in range(4):
        clock.advance(6)
        renewing = Thread(target=worker.renew)
        renewing.start()
        renewing.join()
        poll(other)
    assert (told.has, told_other.has) == ({EVENTS, OTHER}, set())
    commit(log, {EVENTS: 1}, worker.membership())
    poll(worker)
    poll(other)
    assert (len(told.has), len(told_other.has)) == (1, 1)
    worker.close()
    worker.renew()  # too late to be of use, and no fault
    other.close()


def test_a_paused_member_that_nobody_replaced_goes_on(log: Log, clock: ManualClock) -> None:
    worker, told = joined(log)
    poll(worker)
    clock.advance(100)
    commit(log, {EVENTS: 0}, worker.membership())
    poll(worker)
    assert told.has == {EVENTS, OTHER}
    worker.close()


def test_reset(log: Log) -> None:
    append(log, EVENTS, "a", "b", "c")
    worker, _ = joined(log)
    poll(worker)
    with pytest.raises(Conflict, match="members"):
        log.admin.reset("group", {EVENTS: 1})
    worker.close()
    with pytest.raises(InvalidInput):
        log.admin.reset("group", {EVENTS: 4})
    log.admin.reset("group", {EVENTS: 2})
    worker, _ = joined(log)
    assert drained(worker) == ["c"]
    worker.close()


def test_truncate_and_a_consumer_behind_it(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(10):
        append(log, EVENTS, f"{number}", f"{number}'")
    slow, _ = joined(log)
    assert len(values_of(poll(slow, records_max=2))) == 2
    log.admin.truncate(EVENTS, 15)
    assert log.admin.topics()[0].begins == (14, 0)
    assert drained(slow) == ["7", "7'", "8", "8'", "9", "9'"]
    assert "12 records" in caplog.text
    assert log.admin.read(EVENTS, 0, records_max=1).offsets.tolist() == [14]
    log.admin.truncate(EVENTS, 100)
    assert log.admin.topics()[0].begins == (20, 0)
    assert log.admin.topics()[0].size_bytes == 0
    assert append(log, EVENTS, "next") == 20
    assert drained(slow) == ["next"]
    slow.close()


def test_waiting_ends_with_an_append_of_another(log: Log, log_factory: LogFactory) -> None:
    import threading

    consumer, _ = joined(log)
    other = log_factory()
    threading.Timer(0.05, lambda: append(other, EVENTS, "a")).start()
    found = consumer.poll(records_max=1, bytes_max=1, timeout_s=20)
    assert values_of(found) == ["a"]
    assert consumer.poll(records_max=1, bytes_max=1, timeout_s=0.2) == []
    consumer.close()
