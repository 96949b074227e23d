"""Appends on their own."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Event, Lock, Thread

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import Producer as Client

from penstock.core.errors import PenstockError, TooLarge
from penstock.log.kafka.catalog import Catalog
from penstock.log.kafka.configuration import CLIENT_LOG, ClientConfiguration
from penstock.log.kafka.errors import error_of, fault_of
from penstock.log.kafka.messages import Outgoing, outgoing, size_of
from penstock.log.records import Records, TopicPartition

__all__ = ["KafkaProducer", "Sending", "checked", "enqueue"]

POLL_S = 0.1
FULL_WAIT_S = 0.05


class KafkaProducer:
    """Thread-safe. Waits, within `append`, while the client's queue is at its bounds."""

    def __init__(self, configuration: ClientConfiguration, catalog: Catalog) -> None:
        self._client = Client(configuration.producer(), logger=CLIENT_LOG)
        self._record_bytes_max = configuration.settings.record_bytes_max
        self._write_s_max = configuration.settings.write_s_max
        self._catalog = catalog
        self._order = Lock()
        self._closing = Event()
        # Deliveries are told by whoever polls, and those who append wait for them.
        self._telling = Thread(target=self._tell, name="kafka-deliveries", daemon=True)
        self._telling.start()

    def append(self, target: TopicPartition, records: Records) -> "Future[int]":
        assert not self._closing.is_set(), "the producer is closed"
        future: Future[int] = Future()
        try:
            self._catalog.check(target)
            messages = checked(records, self._record_bytes_max)
            if not messages:
                future.set_result(self._catalog.end_of(target))
                return future
        except PenstockError as error:
            future.set_exception(error)
            return future
        sending = Sending(target, len(messages), future)
        # An append's records lie together, whoever else appends.
        with self._order:
            for place, message in enumerate(messages):
                try:
                    enqueue(self._client, target, message, sending.delivered)
                except KafkaException as error:
                    sending.failed(error.args[0])
                    sending.left_out(len(messages) - place)
                    break
        return future

    def close(self) -> None:
        if self._closing.is_set():
            return
        self._closing.set()
        self._telling.join()
        # What is not delivered by then has failed, and its futures say so.
        self._client.flush(self._write_s_max + 1)

    def _tell(self) -> None:
        while not self._closing.is_set():
            self._client.poll(POLL_S)


class Sending:
    """An append under way: its future is done once all of its records are delivered, or have failed."""

    def __init__(self, target: TopicPartition, count: int, future: "Future[int]") -> None:
        self._target = target
        self._left = count
        self._future = future
        self._first: int | None = None
        self._error: KafkaError | None = None
        self._lock = Lock()

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.failed(error)
        elif self._first is None:
            self._first = message.offset()
        self._done(1)

    def failed(self, error: KafkaError) -> None:
        """The first of them is told."""
        self._error = self._error or error

    def left_out(self, count: int) -> None:
        """So many were not tried, after one that failed, or are that one."""
        self._done(count)

    def _done(self, count: int) -> None:
        with self._lock:
            self._left -= count
            if self._left > 0:
                return
        if self._error is not None:
            doing = f"not all of what was appended to {self._target} was written"
            self._future.set_exception(error_of(fault_of(self._error), doing, where=str(self._target)))
        else:
            assert self._first is not None, "one was delivered"
            self._future.set_result(self._first)


def checked(records: Records, record_bytes_max: int) -> list[Outgoing]:
    """The records as messages. Raises `TooLarge` for one beyond the limit."""
    messages = list(outgoing(records))
    for message in messages:
        if (size := size_of(message)) > record_bytes_max:
            raise TooLarge(
                f"a record of {size} bytes is too large for the log, which takes {record_bytes_max}",
                hint="send less in a record, or raise kafka.record_bytes_max",
            )
    return messages


def enqueue(
    client: Client,
    target: TopicPartition,
    message: Outgoing,
    delivered: Callable[[KafkaError | None, Message], None],
) -> None:
    """Hands it to the client, once its queue has room. Raises `KafkaException` where it is not even tried."""
    while True:
        try:
            client.produce(
                target.topic,
                message.value,
                message.key,
                target.partition,
                on_delivery=delivered,
                timestamp=message.time_ms,
                headers=message.headers,
            )
        except BufferError:
            client.poll(FULL_WAIT_S)
        else:
            return
