"""One contract, run over every log. A log that is added joins `FACTORIES`.

A few tests are of the embedded log alone (`embedded_log`): their docstrings say what Kafka does instead.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from threading import Thread

import numpy as np
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from penstock.core.clock import Clock, ManualClock, SystemClock
from penstock.core.errors import Conflict, Fenced, InvalidInput, NotFound, TooLarge
from penstock.core.settings import KafkaSettings
from penstock.log.embedded import EmbeddedLog, LogLimits
from penstock.log.embedded.consumer import EmbeddedConsumer
from penstock.log.kafka import ClientConfiguration, KafkaLog
from penstock.log.kafka.consumer import KafkaConsumer
from penstock.log.port import Consumer, Log, TopicInfo, TopicSpec
from penstock.log.records import Fetched, Records, TopicPartition

LogFactory = Callable[[], Log]
LIMITS = LogLimits(lease_s=10.0, record_bytes_max=1024 * 1024, frame_rows_max=1000, frame_bytes_max=64 * 1024)
EVENTS = TopicPartition("events", 0)
OTHER = TopicPartition("events", 1)
RESULTS = TopicPartition("results", 0)
TOPICS = {"events", "results", "more"}
GROUPS = ("group", "another")
KAFKA_S = 1.5
ROUNDS_MAX = 200


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


def embedded(request: pytest.FixtureRequest) -> LogFactory:
    folder, clock = request.getfixturevalue("tmp_path"), request.getfixturevalue("clock")
    return lambda: EmbeddedLog(folder / "log", clock, LIMITS)


class Leaving(KafkaLog):
    """Whose consumers leave their groups also where a test has failed: the broker is for the next one, too."""

    def __init__(self, configuration: ClientConfiguration, clock: Clock) -> None:
        super().__init__(configuration, clock)
        self._consumers: list[KafkaConsumer] = []

    def consumer(self, group: str) -> KafkaConsumer:
        self._consumers.append(super().consumer(group))
        return self._consumers[-1]

    def close(self) -> None:
        for consumer in self._consumers:
            with suppress(Exception):
                consumer.close()
        super().close()


def on_kafka(request: pytest.FixtureRequest) -> LogFactory:
    address = request.getfixturevalue("kafka")
    cleared(address)
    configuration = ClientConfiguration(
        brokers=address, settings=KafkaSettings(record_bytes_max=LIMITS.record_bytes_max)
    )
    return lambda: Leaving(configuration, SystemClock())


FACTORIES = {"embedded": embedded, "kafka": on_kafka}


@pytest.fixture(params=FACTORIES)
def log_factory(request: pytest.FixtureRequest) -> Iterator[LogFactory]:
    """Opens the same log, as often as it is called, as so many processes would."""
    yield from opened(FACTORIES[request.param](request))


def opened(factory: LogFactory) -> Iterator[LogFactory]:
    logs: list[Log] = []

    def open_log() -> Log:
        logs.append(factory())
        return logs[-1]

    yield open_log
    for log in reversed(logs):
        log.close()


def with_topics(log: Log) -> Log:
    log.admin.ensure_topics([TopicSpec(name="events", partitions=2), TopicSpec(name="results")])
    return log


@pytest.fixture
def log(log_factory: LogFactory) -> Log:
    return with_topics(log_factory())


@pytest.fixture
def embedded_factory(request: pytest.FixtureRequest) -> Iterator[LogFactory]:
    yield from opened(embedded(request))


@pytest.fixture
def embedded_log(embedded_factory: LogFactory) -> Log:
    return with_topics(embedded_factory())


def cleared(address: str) -> None:
    """Without what the test before made: its topics and groups."""
    client = AdminClient({"bootstrap.servers": address})
    for futures in (client.delete_consumer_groups(list(GROUPS)), client.delete_topics(list(TOPICS))):
        for future in futures.values():
            with suppress(KafkaException):  # it was not there
                future.result(30)
    while TOPICS & client.list_topics(timeout=30).topics.keys():
        pass


def topics(log: Log) -> tuple[TopicInfo, ...]:
    """Those of this test: others have topics on the same brokers."""
    return tuple(info for info in log.admin.topics() if info.spec.name in TOPICS)


def until(condition: Callable[[], bool], *consumers: Consumer) -> None:
    """Consumers poll in turn, until their group has come to that. On Kafka that takes a few heartbeats."""
    for _ in range(ROUNDS_MAX):
        if condition():
            return
        for consumer in consumers:
            consumer.poll(records_max=1, bytes_max=1, timeout_s=0.0 if embeds(consumer) else 0.1)
    pytest.fail(f"the group has not come to it in {ROUNDS_MAX} rounds")


def embeds(consumer: Consumer) -> bool:
    return isinstance(consumer, EmbeddedConsumer)


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
    # What is not there on Kafka may only be under way.
    timeout_s = 0.0 if embeds(consumer) else KAFKA_S
    return consumer.poll(records_max=records_max, bytes_max=bytes_max, timeout_s=timeout_s)


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
    assert not any(len(log.admin.read(source, 0, records_max=9).records) for source in (EVENTS, OTHER))


def test_a_record_beyond_the_limit_is_refused(log: Log) -> None:
    producer = log.producer()
    future = producer.append(EVENTS, records("x" * (1024 * 1024 + 1)))
    with pytest.raises(TooLarge):
        future.result(10)
    assert append(log, EVENTS, "x" * (1024 * 1024)) == 0


def test_topics(log: Log) -> None:
    append(log, OTHER, "a", "b")
    events, results = topics(log)
    assert (events.spec.name, events.spec.partitions) == ("events", 2)
    assert (events.begins, events.ends) == ((0, 0), (0, 2))
    # Kafka's client is not told.
    assert (events.size_bytes, results.size_bytes) == (None, None) or (events.size_bytes or 0) > 0
    with pytest.raises(Conflict, match="2 partitions, not 3"):
        log.admin.ensure_topics([TopicSpec(name="more"), TopicSpec(name="events", partitions=3)])
    assert len(topics(log)) == 2
    for bad in (
        TopicSpec(name="a b"),
        TopicSpec(name=""),
        TopicSpec(name="a", partitions=0),
        TopicSpec(name="a", retention_s=0),
    ):
        with pytest.raises(InvalidInput):
            log.admin.ensure_topics([bad])
    log.admin.ensure_topics([TopicSpec(name="results", retention_bytes=10)])
    assert topics(log)[1].spec.retention_bytes == 10


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


def test_partitions_take_turns(embedded_log: Log) -> None:
    """On Kafka a partition's turn is what the client fetched of it at a time."""
    append(embedded_log, EVENTS, *["0"] * 100)
    append(embedded_log, OTHER, *["1"] * 100)
    consumer, _ = joined(embedded_log)
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
    lags = {(lag.group, lag.source): (lag.committed, lag.lag) for lag in log.admin.lags()}
    assert lags["group", EVENTS] == (2, 1)
    assert lags["another", EVENTS] == (None, 3)
    another.close()


def test_an_aborted_transaction_leaves_nothing(log: Log) -> None:
    producer = log.transactional("one")
    transaction = producer.begin()
    transaction.append(RESULTS, records("A"))
    transaction.abort()
    assert producer.begin().commit() == {}
    assert topics(log)[1].ends == (0,)


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


def test_partitions_are_handed_over_only_once_they_are_let_go(
    embedded_log: Log, embedded_factory: LogFactory
) -> None:
    """With a membership from before the change, which Kafka fences."""
    append(embedded_log, EVENTS, "a")
    append(embedded_log, OTHER, "b")
    first, told_first = joined(embedded_log)
    poll(first)
    assert told_first.has == {EVENTS, OTHER}
    second, told_second = joined(embedded_factory())
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
        commit(embedded_log, dict.fromkeys(told_second.has, 1), membership)
    commit(embedded_log, dict.fromkeys(told_first.has, 1), membership)
    first.close()
    poll(second)
    assert told_second.has == {EVENTS, OTHER}
    assert [each.partitions for each in embedded_log.admin.members("group")] == [(EVENTS, OTHER)]
    second.close()
    assert embedded_log.admin.members("group") == ()


def commit(log: Log, offsets: dict[TopicPartition, int], membership: object) -> None:
    transaction = log.transactional("committer").begin()
    transaction.append(RESULTS, records("done"))
    transaction.commit_offsets(offsets, membership)
    transaction.commit()


def test_what_is_revoked_can_be_committed_until_the_listener_returns(embedded_log: Log) -> None:
    """Step by step; on Kafka it takes heartbeats."""
    append(embedded_log, EVENTS, "a")
    append(embedded_log, OTHER, "b")
    first = embedded_log.consumer("group")

    class Committing(Told):
        def revoked(self, partitions: Collection[TopicPartition]) -> None:
            super().revoked(partitions)
            commit(embedded_log, dict.fromkeys(partitions, 1), first.membership())

    first.subscribe(["events"], Committing())
    poll(first)
    second, told = joined(embedded_log)
    poll(first)
    assert poll(second) == []
    assert all(second.committed(source) == 1 for source in told.has)
    assert told.has
    first.close()
    second.close()


def test_a_member_past_its_lease_is_fenced_and_told(embedded_log: Log, clock: ManualClock) -> None:
    """Kafka's session ends in real time: a test of its own lets it."""
    append(embedded_log, EVENTS, "a")
    sleeper, told = joined(embedded_log)
    poll(sleeper)
    membership = sleeper.membership()
    clock.advance(6)
    waking, told_waking = joined(embedded_log)
    clock.advance(6)
    poll(waking)
    poll(waking)
    assert told_waking.has == {EVENTS, OTHER}
    with pytest.raises(Fenced, match="events/0"):
        commit(embedded_log, {EVENTS: 1}, membership)
    assert waking.committed(EVENTS) is None
    assert topics(embedded_log)[1].ends == (0,)
    commit(embedded_log, {EVENTS: 1}, waking.membership())
    poll(sleeper)
    assert told.calls[-1] == ("lost", frozenset({EVENTS, OTHER}))
    poll(waking)
    poll(sleeper)
    assert len(told.has) == 1
    assert not told.has & told_waking.has
    sleeper.close()
    waking.close()


def test_committing_renews_the_lease(embedded_log: Log, clock: ManualClock) -> None:
    """On Kafka the client's own thread renews it."""
    worker, told = joined(embedded_log)
    poll(worker)
    other, told_other = joined(embedded_log)
    poll(worker)
    poll(other)
    (mine,) = told.has
    for _ in range(4):
        clock.advance(6)
        commit(embedded_log, {mine: 0}, worker.membership())
        poll(other)
    commit(embedded_log, {mine: 0}, worker.membership())
    assert len(told_other.has) == 1
    worker.close()
    other.close()


def test_a_member_at_work_keeps_its_lease_from_another_thread(embedded_log: Log, clock: ManualClock) -> None:
    """On Kafka the client's own thread renews it."""
    append(embedded_log, EVENTS, "a")
    worker, told = joined(embedded_log)
    poll(worker)
    other, told_other = joined(embedded_log)
    for _ in range(4):
        clock.advance(6)
        renewing = Thread(target=worker.renew)
        renewing.start()
        renewing.join()
        poll(other)
    assert (told.has, told_other.has) == ({EVENTS, OTHER}, set())
    commit(embedded_log, {EVENTS: 1}, worker.membership())
    poll(worker)
    poll(other)
    assert (len(told.has), len(told_other.has)) == (1, 1)
    worker.close()
    worker.renew()  # too late to be of use, and no fault
    other.close()


def test_a_paused_member_that_nobody_replaced_goes_on(embedded_log: Log, clock: ManualClock) -> None:
    """On Kafka it has lost its partitions, and gets them anew."""
    worker, told = joined(embedded_log)
    poll(worker)
    clock.advance(100)
    commit(embedded_log, {EVENTS: 0}, worker.membership())
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


def test_truncate_and_a_consumer_behind_it(embedded_log: Log, caplog: pytest.LogCaptureFixture) -> None:
    """In whole frames; Kafka lets go of any number, and its client has read ahead by then."""
    for number in range(10):
        append(embedded_log, EVENTS, f"{number}", f"{number}'")
    slow, _ = joined(embedded_log)
    assert len(values_of(poll(slow, records_max=2))) == 2
    embedded_log.admin.truncate(EVENTS, 15)
    assert topics(embedded_log)[0].begins == (14, 0)
    assert drained(slow) == ["7", "7'", "8", "8'", "9", "9'"]
    assert "12 records" in caplog.text
    assert embedded_log.admin.read(EVENTS, 0, records_max=1).offsets.tolist() == [14]
    embedded_log.admin.truncate(EVENTS, 100)
    assert topics(embedded_log)[0].begins == (20, 0)
    assert topics(embedded_log)[0].size_bytes == 0
    assert append(embedded_log, EVENTS, "next") == 20
    assert drained(slow) == ["next"]
    slow.close()


def test_a_group_behind_what_is_kept_goes_on_and_says_so(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(10):
        append(log, EVENTS, f"{number}", f"{number}'")
    slow, _ = joined(log)
    assert len(values_of(poll(slow, records_max=2))) == 2
    commit(log, {EVENTS: 2}, slow.membership())
    slow.close()
    log.admin.truncate(EVENTS, 14)
    assert topics(log)[0].begins == (14, 0)
    again, _ = joined(log)
    assert drained(again) == ["7", "7'", "8", "8'", "9", "9'"]
    assert "12 records" in caplog.text
    assert log.admin.read(EVENTS, 0, records_max=1).offsets.tolist() == [14]
    log.admin.truncate(EVENTS, 100)
    assert topics(log)[0].begins == (20, 0)
    assert append(log, EVENTS, "next") == 20
    assert drained(again) == ["next"]
    again.close()


def test_where_to_go_on_is_behind_the_marks_of_transactions(log: Log) -> None:
    """On Kafka they take offsets, and the last one's mark counts as lag until something comes after it."""
    producer = log.transactional("one")
    for value in ("a", "b"):
        transaction = producer.begin()
        transaction.append(EVENTS, records(value))
        transaction.commit()
    worker, _ = joined(log)
    fetched: list[Fetched] = []
    while found := poll(worker):
        fetched += found
    assert values_of(fetched) == ["a", "b"]
    commit(log, {EVENTS: fetched[-1].next_offset}, worker.membership())
    (lag,) = (each for each in log.admin.lags("group") if each.source == EVENTS)
    assert lag.lag <= (0 if embeds(worker) else 1)
    worker.close()


def test_waiting_ends_with_an_append_of_another(log: Log, log_factory: LogFactory) -> None:
    import threading

    consumer, _ = joined(log)
    other = log_factory()
    threading.Timer(0.05, lambda: append(other, EVENTS, "a")).start()
    found = consumer.poll(records_max=1, bytes_max=1, timeout_s=20)
    assert values_of(found) == ["a"]
    assert consumer.poll(records_max=1, bytes_max=1, timeout_s=0.2) == []
    consumer.close()


def test_two_members_share_and_hand_over(log: Log, log_factory: LogFactory) -> None:
    """What the first has is committed in `revoked`, and the second goes on there; nothing is had by both."""
    append(log, EVENTS, "a")
    append(log, OTHER, "b")
    first = log.consumer("group")

    class Committing(Told):
        def revoked(self, partitions: Collection[TopicPartition]) -> None:
            super().revoked(partitions)
            commit(log, dict.fromkeys(partitions, 1), first.membership())

    told_first = Committing()
    first.subscribe(["events"], told_first)
    until(lambda: told_first.has == {EVENTS, OTHER}, first)
    stale = first.membership()
    second, told_second = joined(log_factory())
    until(lambda: len(told_second.has) == 1, first, second)
    assert told_first.has == {EVENTS, OTHER} - told_second.has
    assert all(second.committed(source) == 1 for source in told_second.has)
    with pytest.raises(Fenced):
        commit(log, dict.fromkeys(told_second.has, 0), stale)
    with pytest.raises(Fenced):
        commit(log, dict.fromkeys(told_second.has, 0), first.membership())
    assert all(second.committed(source) == 1 for source in told_second.has)
    commit(log, dict.fromkeys(told_first.has, 1), first.membership())
    first.close()
    until(lambda: told_second.has == {EVENTS, OTHER}, second)
    assert [each.partitions for each in log.admin.members("group")] == [(EVENTS, OTHER)]
    assert not poll(second)
    second.close()
    assert log.admin.members("group") == ()
