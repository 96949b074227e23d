from dataclasses import replace

import numpy as np
import polars as pl

from penstock.log.records import Fetched, Records, TopicPartition
from penstock.streams.dead_letters import (
    DeadLetter,
    dead_topic,
    letters_of,
    letters_of_bad,
    letters_of_failed,
    records_of,
    source_topic,
)
from penstock.streams.decoding import decoder_of
from penstock.streams.encoding import encoder_of
from penstock.streams.expectations import Expectations
from penstock.streams.schema import StreamSchema

NOW_MS = 1_000_000
SOURCE = TopicPartition("departures", 3)
DEAD = TopicPartition("departures.dead", 0)
LETTER = DeadLetter(
    source=SOURCE,
    offset=41,
    time_ms=5,
    written_ms=NOW_MS,
    reason="schema",
    detail="Expected `int` – at `$.id`",
    value=b"\x00raw\xff",
    key=None,
    stage="late",
    headers={"trace": b"\xff"},
)


def fetched(records: Records) -> Fetched:
    return Fetched(source=DEAD, offsets=np.arange(len(records)), records=records, next_offset=len(records))


def test_letters_come_back_as_they_were() -> None:
    letters = [LETTER, replace(LETTER, key=b"k", offset=42, headers={}, detail="")]
    records = records_of(letters)
    assert records.values == [b"\x00raw\xff", b"\x00raw\xff"]
    assert records.times_ms.tolist() == [NOW_MS, NOW_MS]
    assert records.headers is not None
    assert records.headers[0] == {
        "trace": b"\xff",
        "penstock-reason": b"schema",
        "penstock-detail": "Expected `int` – at `$.id`".encode(),
        "penstock-topic": b"departures",
        "penstock-partition": b"3",
        "penstock-offset": b"41",
        "penstock-stage": b"late",
        "penstock-time": b"5",
    }
    assert letters_of(fetched(records)) == letters


def test_what_somebody_else_wrote_is_read_as_far_as_it_goes() -> None:
    headers = [None, {"penstock-offset": b"x", "penstock-reason": b"\xff", "penstock-partition": b""}]
    records = Records(values=[b"a", b"b"], times_ms=np.array([7, 8]), headers=headers)
    first, second = letters_of(fetched(records))
    assert (first.source, first.offset, first.reason) == (TopicPartition("departures", 0), -1, "unknown")
    assert (first.time_ms, first.written_ms, first.key) == (7, 7, None)
    assert (second.offset, second.reason) == (-1, "�")


def test_texts_that_no_header_can_hold() -> None:
    (letter,) = letters_of(fetched(records_of([replace(LETTER, detail="\ud800")])))
    assert letter.detail == "?"


def test_names_of_topics() -> None:
    assert dead_topic("departures") == "departures.dead"
    assert source_topic("departures.dead") == "departures"


def test_letters_have_the_bytes_of_what_was_refused() -> None:
    schema = StreamSchema.of({"id": int})
    values = [b'{"id":1}', b"x", b'{"id":-1}', b'{"id":2}', b'{"id":"y"}', b'{"id":-2}']
    records = Records(
        values=values,
        times_ms=np.arange(6),
        keys=[b"%d" % number for number in range(6)],
        headers=[None, {"h": b"1"}, {"h": b"2"}, None, None, None],
    )
    decoded = decoder_of("json", schema).decode(records, np.arange(6) * 10, NOW_MS)
    bad = letters_of_bad(decoded, SOURCE, "late", NOW_MS)
    assert [(letter.offset, letter.value, letter.key, letter.reason) for letter in bad] == [
        (10, b"x", b"1", "undecodable"),
        (40, b'{"id":"y"}', b"4", "schema"),
    ]
    assert bad[0].headers == {"h": b"1"}
    checked = Expectations.of({"positive": pl.col("id") > 0}, schema.frame_schema).check(decoded.frame)
    failed = letters_of_failed(decoded, checked.failed, checked.failures, SOURCE, "late", NOW_MS)
    assert [(letter.offset, letter.value, letter.time_ms, letter.detail) for letter in failed] == [
        (20, b'{"id":-1}', 2, "positive"),
        (50, b'{"id":-2}', 5, "positive"),
    ]
    assert failed[0].headers == {"h": b"2"}


def test_a_row_of_many_is_a_letter_by_itself() -> None:
    schema = StreamSchema.of({"id": int})
    values = [encoder_of("arrow").encode(pl.DataFrame({"id": ids}))[0] for ids in ([1, -2, -3], [4])]
    decoded = decoder_of("arrow", schema).decode(
        Records(values=values, times_ms=np.array([5, 6])), np.array([10, 11]), NOW_MS
    )
    checked = Expectations.of({"positive": pl.col("id") > 0}, schema.frame_schema).check(decoded.frame)
    letters = letters_of_failed(decoded, checked.failed, checked.failures, SOURCE, "late", NOW_MS)
    assert [letter.offset for letter in letters] == [10, 10]
    records = records_of(letters)
    again = decoder_of("arrow", schema).decode(records, np.array([0, 1]), NOW_MS)
    assert again.frame["id"].to_list() == [-2, -3]
