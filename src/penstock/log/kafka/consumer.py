"""One member of a group, on Kafka's own groups."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from confluent_kafka import OFFSET_BEGINNING, OFFSET_STORED, KafkaException, Message
from confluent_kafka import Consumer as Client
from confluent_kafka import TopicPartition as Place

from penstock.core.clock import Clock
from penstock.core.errors import PenstockError
from penstock.log.kafka.catalog import REQUEST_S_MAX, Catalog
from penstock.log.kafka.configuration import CLIENT_LOG, ClientConfiguration
from penstock.log.kafka.errors import error_of, fault_of
from penstock.log.kafka.held import Holdings
from penstock.log.kafka.membership import KafkaMembership
from penstock.log.port import Membership, RebalanceListener
from penstock.log.records import Fetched, TopicPartition

__all__ = ["KafkaConsumer", "KafkaConsumerStatistics"]

log = logging.getLogger(__name__)

CHUNK_ROWS = 10_000
EXPIRED = "group %s goes on at offset %d of %s: %d records before it were let go of before it came to them"
TRUNCATED = "group %s goes on at offset %d of %s, its end: brokers have lost records up to offset %d"
PASSING = {"_TRANSPORT", "_ALL_BROKERS_DOWN", "_RESOLVE", "_TIMED_OUT", "_MAX_POLL_EXCEEDED"}
"""What the client mends by itself, and only tells."""


@dataclass(frozen=True, kw_only=True)
class KafkaConsumerStatistics:
    """Since it was made. `expired_records` were let go of before this consumer came to them."""

    polls: int = 0
    records: int = 0
    expired_records: int = 0
    rebalances: int = 0
    partitions: int = 0


class KafkaConsumer:
    """For one thread at a time, but for `renew`, which has nothing to do: the client tells the group by itself
    that its process lives, and `kafka.poll_s_max` is how long it may be without a poll.
    """

    def __init__(self, group: str, configuration: ClientConfiguration, catalog: Catalog, clock: Clock) -> None:
        self._group = group
        self._catalog = catalog
        self._clock = clock
        self._client = Client(configuration.consumer(group), logger=CLIENT_LOG)
        self._holdings = Holdings()
        self._listener: RebalanceListener | None = None
        self._error: BaseException | None = None
        self._polls = self._records = self._expired = self._rebalances = 0
        self._closed = self._assigning = False

    def subscribe(self, topics: Collection[str], listener: RebalanceListener) -> None:
        assert self._listener is None, "a consumer subscribes once"
        for topic in topics:
            self._catalog.partitions_of(topic)
        self._listener = listener
        self._client.subscribe(
            sorted(set(topics)), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )

    def poll(self, *, records_max: int, bytes_max: int, timeout_s: float) -> list[Fetched]:
        """A partition's turn comes when the client has fetched of it: often many records after another's."""
        assert self._listener is not None, "a consumer subscribes before it polls"
        self._polls += 1
        deadline_s = self._clock.monotonic() + timeout_s
        self._consume(0.0)
        # Some of what comes is no record: the end of a partition, say.
        while not self._holdings.waits and (left_s := deadline_s - self._clock.monotonic()) > 0:
            self._consume(left_s)
        fetched = self._holdings.take(records_max, bytes_max)
        self._records += sum(len(each.records) for each in fetched)
        return fetched

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        places = self._marked(partitions, paused=True)
        if not self._assigning:
            self._client.pause(places)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        places = self._marked(partitions, paused=False)
        if not self._assigning:
            self._client.resume(places)

    def seek(self, source: TopicPartition, offset: int) -> None:
        assert offset >= 0, "offsets begin at 0"
        self._holdings.of(source).seek(offset)
        if not self._assigning:
            self._seek(source, offset)

    def committed(self, source: TopicPartition) -> int | None:
        return self._committed([source])[source]

    def renew(self) -> None:
        pass

    def membership(self) -> Membership:
        metadata = self._client.consumer_group_metadata()
        return KafkaMembership(group=self._group, partitions=self._holdings.sources, metadata=metadata)

    def statistics(self) -> KafkaConsumerStatistics:
        return KafkaConsumerStatistics(
            polls=self._polls,
            records=self._records,
            expired_records=self._expired,
            rebalances=self._rebalances,
            partitions=len(self._holdings.sources),
        )

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._client.close()
        self._raise_what_a_listener_raised()

    def _consume(self, timeout_s: float) -> None:
        # As much as there is, but for one: waiting for a number of records would be waiting for all of them.
        messages: list[Message] = self._client.consume(1, timeout_s) if timeout_s > 0 else []
        if not self._holdings.waits:
            messages += self._client.consume(CHUNK_ROWS, 0)
        elif timeout_s <= 0:
            messages += self._client.consume(1, 0)  # to hear of the group
        self._raise_what_a_listener_raised()
        for message in messages:
            if message.error() is None:
                self._holdings.came(message)
            else:
                self._heard(message)

    def _heard(self, message: Message) -> None:
        """Of something else than a record."""
        error = message.error()
        assert error is not None, "it is one"
        name = error.name()
        if name in PASSING:
            log.warning("group %s: %s", self._group, error.str())
            return
        source = TopicPartition(message.topic() or "", message.partition() or 0)
        if name == "_PARTITION_EOF":
            self._holdings.ended(source, message.offset() or 0)
        elif name in ("_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE", "_NO_OFFSET"):
            if source in self._holdings:
                self._go_on(source)
        else:
            raise error_of(fault_of(error), f"nothing was read of {source}", where=str(source))

    def _go_on(self, source: TopicPartition) -> None:
        """From the first record that is kept, where what was wanted is not there any more."""
        held = self._holdings.of(source)
        begins, ends = self._extent(source)
        wanted = held.position
        goes_on = begins if wanted is None or wanted < begins else ends
        if wanted is not None and wanted < begins:
            self._expired += begins - wanted
            log.warning(EXPIRED, self._group, begins, source, begins - wanted)
        elif wanted is not None and wanted > ends:
            log.error(TRUNCATED, self._group, ends, source, wanted)
        elif wanted is not None:
            goes_on = wanted  # it is there, after all
        held.seek(goes_on)
        self._seek(source, goes_on)

    def _extent(self, source: TopicPartition) -> tuple[int, int]:
        try:
            begins, ends = self._client.get_watermark_offsets(_place(source), timeout=REQUEST_S_MAX)
        except KafkaException as error:
            raise error_of(fault_of(error.args[0]), f"what {source} has was not found") from error
        return begins, ends

    def _seek(self, source: TopicPartition, offset: int) -> None:
        try:
            self._client.seek(_place(source, offset))
        except KafkaException as error:
            if error.args[0].name() == "_STATE":
                self._begin_anew(source, offset)
                return
            raise error_of(fault_of(error.args[0]), f"{source} was not read from {offset} on") from error

    def _begin_anew(self, source: TopicPartition, offset: int) -> None:
        """The client does not fetch of it: not yet, or not any more since what it wanted was out of range."""
        self._client.incremental_unassign([_place(source)])
        self._client.incremental_assign([_place(source, offset)])
        if self._holdings.of(source).paused:
            self._client.pause([_place(source)])

    def _committed(self, sources: Sequence[TopicPartition]) -> dict[TopicPartition, int | None]:
        places = [_place(source) for source in sources]
        try:
            found = self._client.committed(places, timeout=REQUEST_S_MAX)
            for place in found:
                if place.error is not None:
                    raise KafkaException(place.error)
        except KafkaException as error:
            doing = f"what group {self._group} has committed was not found"
            raise error_of(fault_of(error.args[0]), doing) from error
        return {
            TopicPartition(place.topic, place.partition): place.offset if place.offset >= 0 else None
            for place in found
        }

    def _marked(self, partitions: Collection[TopicPartition], *, paused: bool) -> list[Place]:
        for source in partitions:
            self._holdings.of(source).paused = paused
        return [_place(source) for source in partitions]

    # The client calls these within `consume` and `close`. What they raise it would print, or lose: it is raised
    # once the client has returned.

    def _assigned(self, client: Client, places: list[Place]) -> None:
        sources = _sources(places)
        self._rebalances += 1
        unknown = OFFSET_BEGINNING
        try:
            committed = self._committed(sources) if sources else {}
        except PenstockError as error:
            log.warning("group %s: %s; the client looks for it, later", self._group, error)
            committed, unknown = {}, OFFSET_STORED
        for source in sources:
            self._holdings.add(source, committed.get(source))
        if sources:
            self._assigning = True
            self._tell("assigned", sources)
            self._assigning = False
        held = [self._holdings.of(source) for source in sources]
        client.incremental_assign(
            [_place(each.source, unknown if each.position is None else each.position) for each in held]
        )
        client.pause([_place(each.source) for each in held if each.paused])

    def _revoked(self, client: Client, places: list[Place]) -> None:
        told = [source for source in _sources(places) if source in self._holdings]
        if told:
            self._tell("revoked", told)
        self._holdings.remove(told)
        client.incremental_unassign(places)

    def _lost(self, client: Client, places: list[Place]) -> None:
        told = self._holdings.remove(_sources(places))
        if told:
            self._tell("lost", told)
        client.incremental_unassign(places)

    def _tell(self, what: str, sources: list[TopicPartition]) -> None:
        listener = self._listener
        assert listener is not None, "it has subscribed"
        try:
            getattr(listener, what)(sources)
        except BaseException as error:
            self._error = self._error or error

    def _raise_what_a_listener_raised(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error


def _place(source: TopicPartition, offset: int | None = None) -> Place:
    if offset is None:
        return Place(source.topic, source.partition)
    return Place(source.topic, source.partition, offset)


def _sources(places: Sequence[Place]) -> list[TopicPartition]:
    return [TopicPartition(place.topic, place.partition) for place in places]
