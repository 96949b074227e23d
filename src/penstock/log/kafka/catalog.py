"""Which partitions there are, remembered: looked up again where one is missing."""

from collections.abc import Collection
from concurrent.futures import Future
from threading import Lock
from typing import TypeVar

from confluent_kafka import IsolationLevel, KafkaException
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient, ClusterMetadata, OffsetSpec

from penstock.core.errors import NotFound, shown
from penstock.log.kafka.errors import error_of, fault_of
from penstock.log.records import TopicPartition

__all__ = ["REQUEST_S_MAX", "Catalog", "result_of"]

T = TypeVar("T")

REQUEST_S_MAX = 15.0


class Catalog:
    """Thread-safe. Partitions are added to a topic now and then, and never taken away."""

    def __init__(self, client: AdminClient) -> None:
        self._client = client
        self._partitions: dict[str, int] = {}
        self._lock = Lock()

    def check(self, source: TopicPartition) -> None:
        """Raises `NotFound` where it is not there."""
        if not 0 <= source.partition < self._partitions.get(source.topic, 0):
            count = self.partitions_of(source.topic)
            if not 0 <= source.partition < count:
                raise NotFound(
                    f"topic {source.topic} has no partition {source.partition}", hint=f"it has 0 to {count - 1}"
                )

    def partitions_of(self, topic: str) -> int:
        """As it is now. Raises `NotFound`."""
        found = self.all(topic).get(topic)
        if not found:
            raise NotFound(
                f"there is no topic {shown(topic)}", hint="`penstock log topics` lists those there are"
            )
        return found

    def all(self, topic: str | None = None) -> dict[str, int]:
        """The number of partitions of each topic, or of one, without Kafka's own."""
        found = {
            name: len(each.partitions)
            for name, each in self._metadata(topic).topics.items()
            if each.error is None and not name.startswith("__")
        }
        with self._lock:
            self._partitions.update(found)
        return found

    def copies_of(self, topic: str) -> int:
        """The fewest that one of its partitions has."""
        partitions = self._metadata(topic).topics[topic].partitions
        return min(len(each.replicas) for each in partitions.values())

    def end_of(self, source: TopicPartition) -> int:
        """The offset that comes next, of those who read what is committed."""
        return self.offsets_of([source], OffsetSpec.latest())[source]

    def offsets_of(self, sources: Collection[TopicPartition], spec: OffsetSpec) -> dict[TopicPartition, int]:
        """Of each partition the offset that is asked for, -1 where there is none."""
        asked = {Place(source.topic, source.partition): spec for source in sources}
        if not asked:
            return {}
        futures = self._client.list_offsets(
            asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=REQUEST_S_MAX
        )
        found = {}
        for place, future in futures.items():
            source = TopicPartition(place.topic, place.partition)
            found[source] = int(result_of(future, f"the offsets of {source} were not found").offset)
        return found

    def _metadata(self, topic: str | None) -> ClusterMetadata:
        try:
            return self._client.list_topics(topic, timeout=REQUEST_S_MAX)
        except KafkaException as error:
            raise error_of(fault_of(error.args[0]), "topics could not be listed") from error


def result_of(future: "Future[T]", doing: str) -> T:
    """What Kafka answers. Raises what it refuses, as `error_of` has it."""
    try:
        return future.result()
    except KafkaException as error:
        raise error_of(fault_of(error.args[0]), doing) from error
