"""What Kafka refuses, by kind."""

import pytest
from confluent_kafka import KafkaError

from penstock.core.errors import (
    ConfigurationError,
    Conflict,
    CorruptRecords,
    Fenced,
    Forbidden,
    InvalidInput,
    NotFound,
    PenstockError,
    StorageFailed,
    TooLarge,
)
from penstock.log.kafka.errors import error_of, fault_of


@pytest.mark.parametrize(
    ("code", "kind", "hint"),
    [
        (KafkaError._FENCED, Fenced, "identity"),
        (KafkaError.INVALID_PRODUCER_EPOCH, Fenced, "identity"),
        (KafkaError.ILLEGAL_GENERATION, Fenced, "partitions"),
        (KafkaError.UNKNOWN_MEMBER_ID, Fenced, "partitions"),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, NotFound, "penstock log topics"),
        (KafkaError._UNKNOWN_PARTITION, NotFound, "penstock log topics"),
        (KafkaError.MSG_SIZE_TOO_LARGE, TooLarge, "record_bytes_max"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, Forbidden, "ACL"),
        (KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, Forbidden, "ACL"),
        (KafkaError._AUTHENTICATION, ConfigurationError, "kafka.sasl"),
        (KafkaError._BAD_MSG, CorruptRecords, "replica"),
        (KafkaError.INVALID_REPLICATION_FACTOR, InvalidInput, "kafka.replication"),
        (KafkaError.NON_EMPTY_GROUP, Conflict, "look again"),
        (KafkaError.NOT_ENOUGH_REPLICAS, StorageFailed, "min.insync.replicas"),
        (KafkaError._MSG_TIMED_OUT, StorageFailed, "can be reached"),
        (KafkaError._ALL_BROKERS_DOWN, StorageFailed, "can be reached"),
        (KafkaError.KAFKA_STORAGE_ERROR, StorageFailed, "disk"),
        (KafkaError.UNKNOWN, StorageFailed, "brokers' logs"),
    ],
)
def test_kinds(code: int, kind: type[PenstockError], hint: str) -> None:
    error = error_of(fault_of(KafkaError(code, "why")), "nothing was written", where="events/0")
    assert type(error) is kind
    assert str(error).startswith("nothing was written: Kafka says ")
    assert "why" in str(error)
    assert hint in (error.hint or "")
    assert getattr(error, "where", "events/0") == "events/0"
