"""Transactions: Kafka's own, each with what it appends and the offsets that came before it."""

from collections.abc import Callable, Mapping
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import Producer as Client
from confluent_kafka import TopicPartition as Place

from penstock.core.errors import Fenced, PenstockError
from penstock.log.kafka.catalog import Catalog
from penstock.log.kafka.configuration import CLIENT_LOG, ClientConfiguration
from penstock.log.kafka.errors import Fault, error_of, fault_of
from penstock.log.kafka.membership import KafkaMembership
from penstock.log.kafka.producer import checked, enqueue
from penstock.log.port import Membership
from penstock.log.records import Records, TopicPartition

__all__ = ["KafkaTransaction", "KafkaTransactionalProducer", "retried"]

TRIES_MAX = 5
NOTHING = "nothing was committed"


class KafkaTransactionalProducer:
    """For one thread at a time."""

    def __init__(self, identity: str, configuration: ClientConfiguration, catalog: Catalog) -> None:
        """Fences whoever has the identity, and ends what it had begun. Raises `StorageFailed`."""
        self.identity = identity
        self.catalog = catalog
        self.record_bytes_max = configuration.settings.record_bytes_max
        self.timeout_s = configuration.settings.transaction_s_max
        self.client = Client(configuration.transactional(identity), logger=CLIENT_LOG)
        self._open: KafkaTransaction | None = None
        self._broken: PenstockError | None = None
        self.tried(lambda: self.client.init_transactions(self.timeout_s), f"identity {identity} was not opened")

    def begin(self) -> "KafkaTransaction":
        assert self._open is None or self._open.ended, "one transaction at a time"
        self._open = KafkaTransaction(self, self._broken)
        return self._open

    def close(self) -> None:
        if self._open is not None and not self._open.ended:
            self._open.abort()

    def tried(self, call: Callable[[], object], doing: str) -> None:
        """As `retried`. Raises the error that it is in the end."""
        try:
            retried(call)
        except KafkaException as error:
            raise self.failed(error.args[0], doing) from error

    def failed(self, fault: KafkaError, doing: str) -> PenstockError:
        """The error that it is. Where this producer can commit nothing any more, the next transaction is told
        so, too.
        """
        error = error_of(self._named(fault), f"{doing} (identity {self.identity})")
        if fault.fatal() or fault.retriable():
            # One that may still have been committed is brought to its end by whoever opens the identity next.
            self._broken = Fenced(f"{error.message}", hint=error.hint or "open the identity anew")
            return self._broken
        return error

    def ended_by(self, fault: KafkaError, doing: str) -> PenstockError:
        """Likewise, once the transaction was aborted where it has to be."""
        error = self.failed(fault, doing)
        if self._broken is None:
            self.abort()
        return error

    def abort(self) -> None:
        self.tried(lambda: self.client.abort_transaction(self.timeout_s), "the transaction was not aborted")

    def _named(self, fault: KafkaError) -> Fault:
        """By what is behind it, where a fatal error only says that there is one."""
        found = fault_of(fault)
        if found.name != "_FATAL":
            return found
        behind = self.client.fatal_error() if hasattr(self.client, "fatal_error") else None
        return found if behind is None else fault_of(behind)


class KafkaTransaction:
    def __init__(self, producer: KafkaTransactionalProducer, broken: PenstockError | None) -> None:
        self._producer = producer
        self._error = broken
        self._delivery_error: KafkaError | None = None
        self._next_offsets: dict[TopicPartition, int] = {}
        self._offsets: list[tuple[dict[TopicPartition, int], KafkaMembership]] = []
        self.ended = False
        self._begun = broken is None
        if self._begun:
            producer.tried(producer.client.begin_transaction, "no transaction was begun")

    def append(self, target: TopicPartition, records: Records) -> None:
        """What is wrong with it is told by `commit`, but for `TooLarge`."""
        assert not self.ended, "the transaction has ended"
        messages = checked(records, self._producer.record_bytes_max)
        if self._error is not None:
            return
        try:
            self._producer.catalog.check(target)
        except PenstockError as error:
            self._error = error
            return
        client = self._producer.client
        try:
            for message in messages:
                enqueue(client, target, message, self._delivered)
        except KafkaException as error:
            # The client would commit the others without it: to it, what was not even tried is not missing.
            self._error = error_of(fault_of(error.args[0]), NOTHING, where=str(target))
            return
        client.poll(0)

    def commit_offsets(self, offsets: Mapping[TopicPartition, int], membership: Membership) -> None:
        assert not self.ended, "the transaction has ended"
        assert isinstance(membership, KafkaMembership), "the membership is of a consumer of this log"
        self._offsets.append((dict(offsets), membership))

    def commit(self) -> dict[TopicPartition, int]:
        assert not self.ended, "the transaction has ended"
        self.ended = True
        if self._error is None:
            self._error = self._foreign()
        if self._error is not None:
            if self._begun:
                self._producer.abort()
            raise self._error
        client, timeout_s = self._producer.client, self._producer.timeout_s
        for offsets, membership in self._offsets:
            places = [Place(source.topic, source.partition, offset) for source, offset in offsets.items()]
            self._do(partial(client.send_offsets_to_transaction, places, membership.metadata, timeout_s))
        self._do(lambda: client.commit_transaction(timeout_s))
        return self._next_offsets

    def abort(self) -> None:
        self.ended = True
        if self._begun:
            self._producer.abort()

    def _foreign(self) -> Fenced | None:
        for offsets, membership in self._offsets:
            missing = sorted(set(offsets) - membership.partitions)
            if missing:
                return Fenced(
                    f"{NOTHING}: group {membership.group} has given {missing[0]} to another",
                    hint="it goes on with what it has",
                )
        return None

    def _do(self, call: Callable[[], object]) -> None:
        try:
            retried(call)
        except KafkaException as error:
            fault: KafkaError = error.args[0]
            # What was wrong with a record says more than that the transaction was wrong for it.
            first = self._delivery_error if not fault.fatal() else None
            told = self._producer.ended_by(fault, NOTHING)
            raise (error_of(fault_of(first), NOTHING) if first is not None else told) from error

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._delivery_error = self._delivery_error or error
            return
        self._next_offsets[TopicPartition(message.topic(), message.partition())] = message.offset() + 1


def retried(call: Callable[[], object]) -> None:
    """Does it, again where Kafka says that this may help. Raises what it raises in the end."""
    for attempt in range(1, TRIES_MAX + 1):
        try:
            call()
        except KafkaException as error:
            if attempt == TRIES_MAX or not error.args[0].retriable():
                raise
        else:
            return
