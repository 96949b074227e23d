"""Looking at a log on Kafka, and mending it."""

from collections.abc import Mapping, Sequence

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, Message
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient, OffsetSpec

from penstock.core.errors import Conflict, InvalidInput, PenstockError, StorageFailed
from penstock.log.kafka.catalog import REQUEST_S_MAX, Catalog, result_of
from penstock.log.kafka.configuration import CLIENT_LOG, ClientConfiguration
from penstock.log.kafka.errors import error_of, fault_of
from penstock.log.kafka.messages import fetched_of, nothing_of
from penstock.log.kafka.topics import Topics
from penstock.log.port import GroupLag, GroupMember, TopicInfo, TopicSpec
from penstock.log.records import Fetched, TopicPartition

__all__ = ["KafkaAdmin"]

READ_S_MAX = 30.0
CHUNK_ROWS = 10_000


class KafkaAdmin:
    """Thread-safe."""

    def __init__(self, client: AdminClient, catalog: Catalog, configuration: ClientConfiguration) -> None:
        self._client = client
        self._catalog = catalog
        self._configuration = configuration
        self._topics = Topics(client, catalog, configuration)

    def ensure_topics(self, specs: Sequence[TopicSpec]) -> None:
        self._topics.ensure(specs)

    def topics(self) -> tuple[TopicInfo, ...]:
        known = dict(sorted(self._catalog.all().items()))
        configs = self._topics.configs(list(known))
        sources = [TopicPartition(name, number) for name, count in known.items() for number in range(count)]
        begins = self._catalog.offsets_of(sources, OffsetSpec.earliest())
        ends = self._catalog.offsets_of(sources, OffsetSpec.latest())
        return tuple(
            TopicInfo(
                spec=self._topics.spec_of(name, count, configs[name]),
                begins=tuple(begins[TopicPartition(name, number)] for number in range(count)),
                ends=tuple(ends[TopicPartition(name, number)] for number in range(count)),
                size_bytes=None,
            )
            for name, count in known.items()
        )

    def read(self, source: TopicPartition, offset: int, *, records_max: int) -> Fetched:
        self._catalog.check(source)
        begins = self._catalog.offsets_of([source], OffsetSpec.earliest())[source]
        end = self._catalog.end_of(source)
        start = max(offset, begins)
        if start >= end:
            return nothing_of(source, start)
        client = Consumer(self._configuration.reader(), logger=CLIENT_LOG)
        try:
            client.assign([Place(source.topic, source.partition, start)])
            messages, next_offset = _read(client, source, records_max)
        finally:
            client.close()
        next_offset = max(next_offset, start)
        return fetched_of(source, messages, next_offset) if messages else nothing_of(source, next_offset)

    def offset_at(self, source: TopicPartition, time_ms: int) -> int:
        self._catalog.check(source)
        # Kafka knows no times before 1970, and answers the first record's offset to 0.
        found = self._catalog.offsets_of([source], OffsetSpec.for_timestamp(max(time_ms, 0)))[source]
        return found if found >= 0 else self._catalog.end_of(source)

    def truncate(self, source: TopicPartition, before: int) -> None:
        self._catalog.check(source)
        until = min(before, self._catalog.end_of(source))
        futures = self._client.delete_records(
            [Place(source.topic, source.partition, until)], request_timeout=REQUEST_S_MAX
        )
        for future in futures.values():
            result_of(future, f"nothing was let go of in {source}")

    def lags(self, group: str | None = None) -> tuple[GroupLag, ...]:
        groups = self._groups() if group is None else [group]
        seen: list[tuple[str, TopicPartition, int | None, str | None]] = []
        for name in sorted(groups):
            owners = {source: member.member for member in self.members(name) for source in member.partitions}
            committed = self._committed(name)
            known = sorted(owners.keys() | committed.keys())
            seen += [(name, source, committed.get(source), owners.get(source)) for source in known]
        ends = self._catalog.offsets_of({source for _, source, _, _ in seen}, OffsetSpec.latest())
        return tuple(
            GroupLag(group=name, source=source, committed=committed, end=ends[source], member=member)
            for name, source, committed, member in seen
        )

    def members(self, group: str) -> tuple[GroupMember, ...]:
        try:
            future = self._client.describe_consumer_groups([group], request_timeout=REQUEST_S_MAX)[group]
            described = future.result()
        except KafkaException as error:
            if error.args[0].name() == "GROUP_ID_NOT_FOUND":
                return ()
            raise error_of(fault_of(error.args[0]), f"group {group} was not described") from error
        return tuple(
            GroupMember(
                member=member.member_id,
                partitions=tuple(
                    sorted(
                        TopicPartition(place.topic, place.partition)
                        for place in member.assignment.topic_partitions
                    )
                ),
            )
            for member in described.members
        )

    def reset(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        for source, offset in offsets.items():
            self._catalog.check(source)
            end = self._catalog.end_of(source)
            if not 0 <= offset <= end:
                raise InvalidInput(
                    f"group {group} cannot go on at offset {offset} of {source}, which ends at {end}",
                    where=str(source),
                    hint=f"take 0 to {end}",
                )
        if members := self.members(group):
            raise Conflict(
                f"group {group} has {len(members)} members", hint="stop them first: they know where they are"
            )
        places = [Place(source.topic, source.partition, offset) for source, offset in offsets.items()]
        asked = ConsumerGroupTopicPartitions(group, places)
        futures = self._client.alter_consumer_group_offsets([asked], request_timeout=REQUEST_S_MAX)
        answer = result_of(futures[group], f"group {group} was not reset")
        for place in answer.topic_partitions:
            if place.error is not None:
                raise error_of(fault_of(place.error), f"group {group} was not reset in {place.topic}")

    def _groups(self) -> list[str]:
        future = self._client.list_consumer_groups(request_timeout=REQUEST_S_MAX)
        listed = result_of(future, "groups could not be listed")
        return [each.group_id for each in listed.valid]

    def _committed(self, group: str) -> dict[TopicPartition, int]:
        asked = ConsumerGroupTopicPartitions(group)
        futures = self._client.list_consumer_group_offsets([asked], request_timeout=REQUEST_S_MAX)
        try:
            found = futures[group].result()
        except KafkaException as error:
            if error.args[0].name() == "GROUP_ID_NOT_FOUND":
                return {}
            raise error_of(fault_of(error.args[0]), f"offsets of group {group} were not found") from error
        return {
            TopicPartition(place.topic, place.partition): place.offset
            for place in found.topic_partitions
            if place.error is None and place.offset >= 0
        }


def _read(client: Consumer, source: TopicPartition, records_max: int) -> tuple[list[Message], int]:
    """So many records, or all until the partition ends, and where to go on."""
    messages: list[Message] = []
    while len(messages) < records_max:
        came = client.consume(1, READ_S_MAX)
        if not came:
            raise _not_read(source)
        came += client.consume(min(CHUNK_ROWS, records_max - len(messages)), 0)
        for message in came:
            error = message.error()
            if error is None:
                messages.append(message)
            elif error.name() == "_PARTITION_EOF":
                return messages[:records_max], int(message.offset() or 0)
            elif not error.retriable() and error.name() not in ("_TRANSPORT", "_ALL_BROKERS_DOWN"):
                raise error_of(fault_of(error), f"{source} was not read", where=str(source))
    messages = messages[:records_max]
    return messages, int(messages[-1].offset() or 0) + 1


def _not_read(source: TopicPartition) -> PenstockError:
    return StorageFailed(
        f"{source} was not read: no answer within {READ_S_MAX:g} s",
        hint="look whether the brokers of log.url run and can be reached from here",
    )
