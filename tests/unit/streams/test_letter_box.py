"""Dead letters in a log that is a dictionary."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from typing import Any, cast

import numpy as np
import pytest

from penstock.core.errors import InvalidInput, NotFound, StorageFailed
from penstock.log.port import Log, TopicInfo, TopicSpec
from penstock.log.records import Fetched, Records, TopicPartition
from penstock.streams.dead_letters import MADE, DeadLetter, letters_of, records_of
from penstock.streams.letter_box import LetterBox

DEAD = "departures.dead"
Row = tuple[bytes, int, bytes | None, Mapping[str, bytes] | None]


class DictLog:
    """Topics as lists, which begin at offset 5; a transaction's appends come at its commit."""

    def __init__(self, **partitions: int) -> None:
        self.rows: dict[TopicPartition, list[Row]] = {
            TopicPartition(topic.replace("_", "."), number): []
            for topic, count in partitions.items()
            for number in range(count)
        }
        self.transactions: list[str] = []
        self.fail_after = 1000

    @property
    def admin(self) -> "DictLog":
        return self

    def topics(self) -> tuple[TopicInfo, ...]:
        names = dict.fromkeys(place.topic for place in self.rows)
        return tuple(
            TopicInfo(
                spec=TopicSpec(name=name, partitions=len(parts)),
                begins=(5,) * len(parts),
                ends=tuple(5 + len(rows) for rows in parts),
                size_bytes=0,
            )
            for name in names
            if (parts := [rows for place, rows in self.rows.items() if place.topic == name])
        )

    def read(self, source: TopicPartition, offset: int, *, records_max: int) -> Fetched:
        start = max(offset, 5)
        rows = self.rows[source][start - 5 :][: min(records_max, 3)]
        return Fetched(
            source=source,
            offsets=np.arange(start, start + len(rows)),
            records=Records(
                values=[row[0] for row in rows],
                times_ms=np.array([row[1] for row in rows], dtype=np.int64),
                keys=[row[2] for row in rows],
                headers=[row[3] for row in rows],
            ),
            next_offset=start + len(rows),
        )

    def append(self, target: TopicPartition, records: Records) -> None:
        if target not in self.rows:
            raise NotFound(f"no {target}")
        self.rows[target] += zip(
            records.values,
            records.times_ms.tolist(),
            records.keys or repeat(None),
            records.headers or repeat(None),
            strict=False,
        )

    def transactional(self, identity: str) -> "DictLog":
        self.transactions.append(identity)
        return self

    def begin(self) -> "DictTransaction":
        return DictTransaction(self)

    def close(self) -> None:
        self.transactions.append("closed")


class DictTransaction:
    def __init__(self, log: DictLog) -> None:
        self.log = log
        self.appends: list[tuple[TopicPartition, Records]] = []

    def append(self, target: TopicPartition, records: Records) -> None:
        if target not in self.log.rows:
            raise NotFound(f"no {target}")
        self.appends.append((target, records))

    def commit(self) -> None:
        if self.log.fail_after == 0:
            raise StorageFailed("full")
        self.log.fail_after -= 1
        for target, records in self.appends:
            self.log.append(target, records)

    def abort(self) -> None:
        self.log.transactions.append("aborted")


def letter(number: int, **changed: Any) -> DeadLetter:
    made = DeadLetter(
        source=TopicPartition("departures", number % 2),
        offset=number,
        time_ms=number,
        written_ms=1000 + number,
        reason="schema" if number % 3 else "undecodable",
        detail="odd",
        value=b"%d" % number,
        key=b"k%d" % number,
        stage="late",
        headers={"trace": b"t"},
    )
    return replace(made, **changed)


def box_with(letters: Sequence[DeadLetter], log: DictLog | None = None) -> tuple[LetterBox, DictLog]:
    log = log or DictLog(departures=2, departures_dead=2, quiet=1)
    for each in letters:
        log.append(TopicPartition(DEAD, each.source.partition), records_of([each]))
    return LetterBox(cast("Log", log)), log


def values(log: DictLog, partition: int) -> list[bytes]:
    return [row[0] for row in log.rows[TopicPartition("departures", partition)]]


def test_letters_are_counted_by_reason() -> None:
    box, _ = box_with([letter(number) for number in range(10)])
    assert box.topics() == ("departures",)
    assert [
        (each.reason, each.letters, each.replayed, each.last_ms) for each in box.summaries("departures")
    ] == [
        ("schema", 6, 0, 1008),
        ("undecodable", 4, 0, 1009),
    ]
    assert box.summaries(DEAD) == box.summaries("departures")


def test_letters_are_found_by_their_place() -> None:
    box, _ = box_with([letter(number) for number in range(10)])
    stored = box.letter("departures", 1, 7)
    assert (stored.name, stored.letter, stored.replayed) == ("1/7", letter(5), False)
    for partition, offset in ((0, 4), (0, 10), (2, 5), (-1, 5)):
        with pytest.raises(NotFound, match=f"no dead letter at {partition}/{offset}"):
            box.letter("departures", partition, offset)
    with pytest.raises(NotFound, match="'quiet' has no dead letters") as raised:
        list(box.letters("quiet"))
    assert raised.value.hint == "these have: departures"


def test_all_go_back_to_where_they_came_from_once() -> None:
    box, log = box_with([letter(number) for number in range(10)])
    assert box.replay("departures", lambda stored: not stored.replayed) == 10
    assert values(log, 0) == [b"0", b"2", b"4", b"6", b"8"]
    assert values(log, 1) == [b"1", b"3", b"5", b"7", b"9"]
    assert log.rows[TopicPartition("departures", 1)][2] == (
        b"5",
        5,
        b"k5",
        {"trace": b"t", "penstock-replayed-from": b"departures.dead/1/7"},
    )
    assert all(each.replayed for each in box.letters("departures"))
    assert box.letter("departures", 0, 6).replayed
    assert [(each.letters, each.replayed) for each in box.summaries("departures")] == [(6, 6), (4, 4)]
    assert box.replay("departures", lambda stored: not stored.replayed) == 0
    assert box.replay("departures", lambda stored: stored.name == "0/6") == 1
    assert values(log, 0)[-1] == b"2"
    assert log.transactions.count("penstock-dlq") == log.transactions.count("closed") == 3


def test_some_by_reason_mended() -> None:
    box, log = box_with([letter(number) for number in range(10)])
    count = box.replay(
        "departures", lambda stored: stored.letter.reason == "undecodable", lambda: iter([b"A", b"B", b"C"])
    )
    assert count == 3
    assert (values(log, 0), values(log, 1)) == ([b"A", b"B"], [b"C"])
    assert [each.name for each in box.letters("departures") if each.replayed] == ["0/5", "0/8", "1/6"]


def test_notes_are_no_letters() -> None:
    box, log = box_with([letter(0)])
    box.replay("departures", lambda stored: True)
    assert len(log.rows[TopicPartition(DEAD, 0)]) == 2
    assert len(list(box.letters("departures"))) == 1
    with pytest.raises(NotFound):
        box.letter("departures", 0, 6)


def test_a_transaction_that_fails_leaves_no_notes() -> None:
    box, log = box_with([letter(number) for number in range(1200)])
    log.fail_after = 1
    with pytest.raises(StorageFailed):
        box.replay("departures", lambda stored: True)
    replayed = [each for each in box.letters("departures") if each.replayed]
    assert len(replayed) == len(values(log, 0)) + len(values(log, 1)) == 500
    log.fail_after = 1000
    assert box.replay("departures", lambda stored: not stored.replayed) == 700
    assert sorted(map(int, values(log, 0) + values(log, 1))) == list(range(1200))


def test_a_partition_that_is_gone() -> None:
    box, log = box_with([letter(0), letter(2, source=TopicPartition("gone", 0))])
    with pytest.raises(NotFound, match="gone/0"):
        box.replay("departures", lambda stored: True)
    assert "aborted" in log.transactions
    assert values(log, 0) == []


def test_replayed_events_that_die_again_keep_where_they_came_from() -> None:
    box, log = box_with([letter(0)])
    box.replay("departures", lambda stored: True)
    fetched = log.read(TopicPartition("departures", 0), 5, records_max=9)
    (again,) = letters_of(fetched)
    assert again.headers["penstock-replayed-from"] == b"departures.dead/0/5"


def test_rows_that_a_stage_made_are_not_appended_to_its_topic() -> None:
    box, log = box_with([letter(0, headers={MADE: b"1"}), letter(2)])
    assert box.replay("departures", lambda stored: True) == 1
    assert values(log, 0) == [b"2"]
    assert [stored.replayable for stored in box.letters("departures")] == [False, True]


def test_frames_between_stages_are_replayed_as_they_are_only() -> None:
    box, log = box_with([letter(0, headers={"penstock-from": b"0 "})])
    with pytest.raises(InvalidInput, match="cannot be mended"):
        box.replay("departures", lambda stored: True, lambda: iter([b"{}"]))
    assert values(log, 0) == []
    assert box.replay("departures", lambda stored: True) == 1
    assert values(log, 0) == [b"0"]


def test_topics_without_letters_are_not_named() -> None:
    box, _ = box_with([], DictLog(departures=1, departures_dead=1))
    assert box.topics() == ()
