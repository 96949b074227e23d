"""What a transaction does with what its client refuses, by a client that does as the test says."""

from collections.abc import Callable

import numpy as np
import pytest
from confluent_kafka import KafkaError, KafkaException

from penstock.core.errors import NotFound
from penstock.log.kafka.transaction import TRIES_MAX, KafkaTransaction, retried
from penstock.log.records import Records, TopicPartition

EVENTS = TopicPartition("events", 0)


class RefusingClient:
    """Takes the first record, and does not even try the second one."""

    def __init__(self) -> None:
        self.did: list[str] = []

    def begin_transaction(self) -> None: ...

    def produce(self, *_: object, **__: object) -> None:
        self.did.append("produce")
        if len(self.did) > 1:
            raise KafkaException(KafkaError(KafkaError._UNKNOWN_PARTITION))

    def poll(self, _: float) -> None: ...

    def commit_transaction(self, _: float) -> None:
        self.did.append("commit")


class RefusedProducer:
    """As far as a transaction knows of its producer."""

    record_bytes_max, timeout_s = 1024, 1.0

    def __init__(self) -> None:
        self.client, self.catalog = RefusingClient(), self

    def check(self, source: TopicPartition) -> None: ...

    def tried(self, call: Callable[[], object], doing: str) -> None:
        call()

    def abort(self) -> None:
        self.client.did.append("abort")


def test_a_record_that_was_not_even_tried_is_not_left_out_of_what_is_committed() -> None:
    producer = RefusedProducer()
    transaction = KafkaTransaction(producer, None)  # type: ignore[arg-type]
    transaction.append(EVENTS, Records(values=[b"a", b"b"], times_ms=np.ones(2, dtype=np.int64)))
    with pytest.raises(NotFound, match="nothing was committed"):
        transaction.commit()
    assert producer.client.did == ["produce", "produce", "abort"]


@pytest.mark.parametrize(
    ("retriable", "failures", "calls"), [(True, 2, 3), (True, 99, TRIES_MAX), (False, 99, 1)]
)
def test_what_may_help_is_tried_again(retriable: bool, failures: int, calls: int) -> None:
    tried: list[None] = []

    def call() -> None:
        tried.append(None)
        if len(tried) <= failures:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "why", False, retriable))

    if failures < TRIES_MAX:
        retried(call)
    else:
        with pytest.raises(KafkaException):
            retried(call)
    assert len(tried) == calls
