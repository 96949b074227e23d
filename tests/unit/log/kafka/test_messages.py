"""Records as Kafka has them, and back."""

import numpy as np
import pytest
from confluent_kafka import Message

from penstock.log.kafka.messages import fetched_of, outgoing, size_of
from penstock.log.records import Records, TopicPartition

SOURCE = TopicPartition("events", 0)


def through(records: Records) -> Records:
    """As a broker would give them back."""
    messages = [
        Message(
            topic="events",
            partition=0,
            offset=offset,
            key=each.key,
            value=each.value,
            headers=each.headers,
            timestamp=(1, each.time_ms),
        )
        for offset, each in enumerate(outgoing(records))
    ]
    fetched = fetched_of(SOURCE, messages, len(messages))
    assert fetched.offsets.tolist() == list(range(len(messages)))
    return fetched.records


@pytest.mark.parametrize("headers", [None, [None, {"reason": b"bad"}, {}, None]])
def test_there_and_back(headers: list[dict[str, bytes] | None] | None) -> None:
    given = Records(
        values=[b"a", b"", b"", b"d"],
        times_ms=np.array([-5, 0, 1, 2**62]),
        keys=[b"key", b"gone", None, b""],
        headers=headers,
    )
    found = through(given)
    assert list(found.values) == list(given.values)
    assert list(found.keys or ()) == list(given.keys or ())
    assert found.times_ms.tolist() == given.times_ms.tolist()
    assert [dict(each or {}) for each in found.headers or [None] * 4] == [
        dict(each or {}) for each in headers or [None] * 4
    ]


def test_no_bytes_under_a_key_are_kafkas_null() -> None:
    given = Records(values=[b"", b""], times_ms=np.array([1, 1]), keys=[b"key", None])
    assert [each.value for each in outgoing(given)] == [None, b""]


def test_kafka_is_given_times_that_it_has() -> None:
    given = Records(values=[b"", b"", b""], times_ms=np.array([-1, 0, 5]))
    assert [each.time_ms for each in outgoing(given)] == [1, 1, 5]


def test_sizes_count_headers() -> None:
    given = Records(values=[b"abc"], times_ms=np.array([1]), keys=[b"k"], headers=[{"ä": b"xy"}])
    assert [size_of(each) for each in outgoing(given)] == [3 + 1 + 2 + 2]
