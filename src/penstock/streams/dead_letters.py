"""Dead letters: events that could not be used, with their bytes as they came, why, and where from.

A letter is a record of the topic `<topic>.dead`. Its value and key are those of the event, unchanged; what is
known of it stands in headers, beside those that it had.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from penstock.log.records import Fetched, Records, TopicPartition
from penstock.streams.decoding.decoded import Decoded
from penstock.streams.encoding import encoder_of
from penstock.streams.expectations import Failure
from penstock.streams.operator import OFFSET

__all__ = [
    "DEAD_SUFFIX",
    "GONE",
    "MADE",
    "REPLAYED_FROM",
    "DeadLetter",
    "dead_topic",
    "letters_of",
    "letters_of_bad",
    "letters_of_failed",
    "records_of",
    "source_topic",
]

DEAD_SUFFIX = ".dead"
HEADER_PREFIX = "penstock-"
REPLAYED_FROM = "penstock-replayed-from"
"""Of an event that was appended once more: the topic, partition and offset of its dead letter."""
MADE = "penstock-made"
"""Of a row that a stage made: its topic has no such record, and nothing is to be appended to it."""
GONE = "penstock-event-gone"
"""Of an event whose topic has not kept it: the letter's value is the row that it had become."""
ROW_BYTES_MAX = 16 * 1024
"""A longer row is left out of the letter, which has its event."""
UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """`source` and `offset` are where the event stands in its own topic, `stage` what refused it.

    `time_ms` is the event's record's time, `written_ms` that of the letter. A record of a dead-letter topic
    that somebody else wrote has the reason "unknown" and no offset (-1).

    `row`, where a later stage refused it, is what it had become by then, as JSON: `value` is the event's own
    bytes again once `Originals` has found them.
    """

    source: TopicPartition
    offset: int
    time_ms: int
    written_ms: int
    reason: str
    detail: str
    value: bytes
    key: bytes | None
    stage: str
    headers: Mapping[str, bytes] = field(default_factory=dict)
    row: bytes | None = None


def dead_topic(topic: str) -> str:
    """Where the dead letters of that topic are."""
    return topic + DEAD_SUFFIX


def source_topic(topic: str) -> str:
    """Whose dead letters that topic has."""
    return topic.removesuffix(DEAD_SUFFIX)


def letters_of_bad(decoded: Decoded, source: TopicPartition, stage: str, now_ms: int) -> list[DeadLetter]:
    """Of the records that could not be decoded."""
    return [
        _letter(decoded, bad.position, source, stage=stage, now_ms=now_ms, why=(bad.reason, bad.detail))
        for bad in decoded.bad
    ]


def letters_of_failed(
    decoded: Decoded,
    failed: pl.DataFrame,
    failures: Sequence[Failure],
    source: TopicPartition,
    stage: str,
    now_ms: int,
) -> list[DeadLetter]:
    """Of rows of the decoded frame that something refused later, a failure for each.

    Where a record has many rows, the letter's bytes are a record of that row alone: its others went on.
    """
    positions = decoded.positions(failed[OFFSET].to_numpy()).tolist()
    letters = [
        _letter(decoded, position, source, stage=stage, now_ms=now_ms, why=(failure.reason, failure.detail))
        for position, failure in zip(positions, failures, strict=True)
    ]
    if not decoded.many:
        return letters
    encoder = encoder_of("arrow")
    rows = failed.select(name for name in decoded.frame.columns if name in failed.columns)
    return [replace(letter, value=encoder.encode(rows[at : at + 1])[0]) for at, letter in enumerate(letters)]


def records_of(letters: Sequence[DeadLetter]) -> Records:
    """As they are appended to the dead-letter topic."""
    return Records(
        values=[letter.value for letter in letters],
        times_ms=np.array([letter.written_ms for letter in letters], dtype=np.int64),
        keys=[letter.key for letter in letters],
        headers=[_headers(letter) for letter in letters],
    )


def letters_of(fetched: Fetched) -> list[DeadLetter]:
    """Read back from a dead-letter topic, whatever stands there."""
    records = fetched.records
    none: Iterable[None] = [None] * len(records)
    return [
        _read(fetched.source, value, time_ms, key, headers or {})
        for value, time_ms, key, headers in zip(
            records.values,
            records.times_ms.tolist(),
            records.keys if records.keys is not None else none,
            records.headers if records.headers is not None else none,
            strict=True,
        )
    ]


def _letter(
    decoded: Decoded, position: int, source: TopicPartition, *, stage: str, now_ms: int, why: tuple[str, str]
) -> DeadLetter:
    records = decoded.records
    reason, detail = why
    return DeadLetter(
        source=source,
        offset=int(decoded.offsets[position]),
        time_ms=int(records.times_ms[position]),
        written_ms=now_ms,
        reason=str(reason),
        detail=detail,
        value=records.values[position],
        key=None if records.keys is None else records.keys[position],
        stage=stage,
        headers=(None if records.headers is None else records.headers[position]) or {},
    )


def _headers(letter: DeadLetter) -> dict[str, bytes]:
    own = {
        "reason": letter.reason,
        "detail": letter.detail,
        "topic": letter.source.topic,
        "partition": str(letter.source.partition),
        "offset": str(letter.offset),
        "stage": letter.stage,
        "time": str(letter.time_ms),
    }
    return {
        **letter.headers,
        **{HEADER_PREFIX + name: text.encode("utf-8", "replace") for name, text in own.items()},
        **(
            {} if letter.row is None or len(letter.row) > ROW_BYTES_MAX else {HEADER_PREFIX + "row": letter.row}
        ),
    }


def _read(
    dead: TopicPartition, value: bytes, written_ms: int, key: bytes | None, headers: Mapping[str, bytes]
) -> DeadLetter:
    def text(name: str, default: str) -> str:
        found = headers.get(HEADER_PREFIX + name)
        return default if found is None else found.decode("utf-8", "replace")

    names = ("reason", "detail", "topic", "partition", "offset", "stage", "time", "row")
    known = {HEADER_PREFIX + name for name in names}
    return DeadLetter(
        source=TopicPartition(
            text("topic", source_topic(dead.topic)), _whole(text("partition", ""), dead.partition)
        ),
        offset=_whole(text("offset", ""), -1),
        time_ms=_whole(text("time", ""), written_ms),
        written_ms=written_ms,
        reason=text("reason", UNKNOWN),
        detail=text("detail", ""),
        value=value,
        key=key,
        stage=text("stage", ""),
        headers={name: content for name, content in headers.items() if name not in known},
        row=headers.get(HEADER_PREFIX + "row"),
    )


def _whole(text: str, default: int) -> int:
    try:
        return int(text)
    except ValueError:
        return default
