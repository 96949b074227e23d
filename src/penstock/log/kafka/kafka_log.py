"""The log on Kafka as a whole."""

from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from penstock.core.clock import Clock
from penstock.core.errors import ConfigurationError
from penstock.log.kafka.admin import KafkaAdmin
from penstock.log.kafka.catalog import Catalog
from penstock.log.kafka.configuration import CLIENT_LOG, ClientConfiguration
from penstock.log.kafka.consumer import KafkaConsumer
from penstock.log.kafka.producer import KafkaProducer
from penstock.log.kafka.transaction import KafkaTransactionalProducer

__all__ = ["KafkaLog"]


class KafkaLog:
    """A log on brokers. Any number of processes may have it open; one that forks opens its own.

    What differs from the embedded log: an append is many records, and not one whole; transactions' marks take
    offsets, and the last one counts as lag until something comes after it; a partition is let go of at any
    record; members of a group are fenced by the group's generation, so a membership from before a change is
    worth nothing after it, for any partition; a member past its lease has lost its partitions, even if nobody
    else wanted them; topics do not say how large they are.
    """

    def __init__(self, configuration: ClientConfiguration, clock: Clock) -> None:
        """Raises `ConfigurationError` for what the client cannot use, `StorageFailed` without a broker."""
        self._configuration = configuration
        self._clock = clock
        try:
            client = AdminClient(configuration.common(), logger=CLIENT_LOG)
        except KafkaException as error:
            raise ConfigurationError(
                f"Kafka's client cannot be set up: {error.args[0].str()}",
                hint="look at [kafka] in the settings",
            ) from error
        self._catalog = Catalog(client)
        self._admin = KafkaAdmin(client, self._catalog, configuration)
        self._producers: list[KafkaProducer] = []
        self._catalog.all()

    @property
    def admin(self) -> KafkaAdmin:
        return self._admin

    def producer(self) -> KafkaProducer:
        self._producers.append(KafkaProducer(self._configuration, self._catalog))
        return self._producers[-1]

    def transactional(self, identity: str) -> KafkaTransactionalProducer:
        return KafkaTransactionalProducer(identity, self._configuration, self._catalog)

    def consumer(self, group: str) -> KafkaConsumer:
        return KafkaConsumer(group, self._configuration, self._catalog, self._clock)

    def close(self) -> None:
        """What was appended is delivered first. Consumers are closed by whoever has them."""
        for producer in self._producers:
            producer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
