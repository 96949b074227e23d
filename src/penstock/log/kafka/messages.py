"""Records as Kafka has them, and back.

A value of no bytes under a key is written as Kafka's null, which compaction takes for "this key is gone" as
Penstock does, and null is read as no bytes. Kafka has no times before 1970, and takes 0 for "now": those stand
in a header, and the record itself at 1 ms.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from penstock.log.records import Fetched, Records, TopicPartition

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["Outgoing", "fetched_of", "nothing_of", "outgoing", "size_of"]

TIME_HEADER = "penstock-time-ms"
EARLIEST_MS = 1


class Outgoing(NamedTuple):
    """What a producer is given for a record."""

    value: bytes | None
    key: bytes | None
    time_ms: int
    headers: list[tuple[str, bytes]] | None


def outgoing(records: Records) -> Iterator[Outgoing]:
    """Each record, in their order."""
    count = len(records)
    keys: Iterable[bytes | None] = records.keys if records.keys is not None else [None] * count
    times_ms = records.times_ms.tolist()
    if records.headers is None and (not count or min(times_ms) >= EARLIEST_MS):
        for value, key, time_ms in zip(records.values, keys, times_ms, strict=True):
            yield Outgoing(value if value or key is None else None, key, time_ms, None)
        return
    several = records.headers if records.headers is not None else [None] * count
    for value, key, time_ms, given in zip(records.values, keys, times_ms, several, strict=True):
        headers = list(given.items()) if given else []
        if time_ms < EARLIEST_MS:
            headers.append((TIME_HEADER, str(time_ms).encode()))
        at_ms = max(time_ms, EARLIEST_MS)
        yield Outgoing(value if value or key is None else None, key, at_ms, headers or None)


def size_of(each: Outgoing) -> int:
    """Of the value, key and headers, in bytes."""
    size = len(each.value or b"") + len(each.key or b"")
    if each.headers:
        size += sum(len(name.encode()) + len(value) for name, value in each.headers)
    return size


def fetched_of(source: TopicPartition, messages: Sequence["Message"], next_offset: int) -> Fetched:
    """Messages of one partition, of which there is at least one."""
    values = [message.value() or b"" for message in messages]
    keys = [message.key() for message in messages]
    headers = [message.headers() for message in messages]
    times_ms = np.fromiter((message.timestamp()[1] for message in messages), np.int64, len(messages))
    if any(headers):
        named = [dict(each) if each else None for each in headers]
        for place, each in enumerate(named):
            if each is not None and TIME_HEADER in each:
                times_ms[place] = int(each.pop(TIME_HEADER))
    return Fetched(
        source=source,
        offsets=np.fromiter((message.offset() for message in messages), np.int64, len(messages)),
        records=Records(
            values=values,
            times_ms=times_ms,
            keys=keys if any(key is not None for key in keys) else None,
            headers=named if any(headers) else None,
        ),
        next_offset=next_offset,
    )


def nothing_of(source: TopicPartition, next_offset: int) -> Fetched:
    """No record at all, and where to go on."""
    none = np.empty(0, dtype=np.int64)
    return Fetched(
        source=source, offsets=none, records=Records(values=[], times_ms=none), next_offset=next_offset
    )
