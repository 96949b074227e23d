"""Frames of another stage: event time is as far as the slowest partition that is not idle."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from penstock.core.errors import CorruptRecords, CorruptState
from penstock.log.records import Fetched, Records, TopicPartition
from penstock.streams.encoding import encoder_of
from penstock.streams.frame_intake import FrameIntakeConfig
from penstock.streams.frame_records import FrameRecord, Origin, event_of, read_frame_record, told_apart
from penstock.streams.intake import Instant

SOURCE = TopicPartition("app.events.by.key", 0)
NOW = Instant(now_ms=0, monotonic_ms=0.0)


def record(partition: int, watermark_ms: int, *times: int, name: str = "", idle: bool = False) -> FrameRecord:
    frame = pl.DataFrame({"value": times, "_time": times, "_offset": times}) if times else None
    return FrameRecord(origin=Origin(name, partition), watermark_ms=watermark_ms, idle=idle, frame=frame)


def fetched(*records: FrameRecord, first: int = 0) -> Fetched:
    return Fetched(
        source=SOURCE,
        offsets=np.arange(first, first + len(records), dtype=np.int64),
        records=Records(
            values=[each.value() for each in records],
            times_ms=np.zeros(len(records), dtype=np.int64),
            headers=[each.headers() for each in records],
        ),
        next_offset=first + len(records),
    )


def test_a_record_is_read_as_it_was_written() -> None:
    written = record(3, 500, 1, 2, name="left", idle=True)
    read = read_frame_record(written.value(), written.headers(), "here")
    assert (read.origin, read.watermark_ms, read.idle) == (Origin("left", 3), 500, True)
    assert read.frame is not None
    assert read.frame.equals(written.frame)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (b"junk", None),
        (b"junk", {}),
        (b"junk", record(0, 5).headers()),
        (b"", record(0, 2**70).headers()),
        (encoder_of("arrow").encode(pl.DataFrame({"value": [1]}))[0], record(0, 5).headers()),
    ],
)
def test_what_is_no_record_of_a_stage_is_told(value: bytes, headers: dict[str, bytes] | None) -> None:
    with pytest.raises(CorruptRecords, match="is no record of a stage"):
        read_frame_record(value, headers, "app.x/0 offset 7")


def test_the_slowest_partition_counts() -> None:
    intake = FrameIntakeConfig(inputs={"": 2}).build(SOURCE, None)
    (part,) = intake.take(fetched(record(0, 500, 600)), NOW).parts
    assert part.moment.next_watermark_ms < 0, "the other was not heard of"
    (part,) = intake.take(fetched(record(1, 300, 400), record(0, 900, 950), first=1), NOW).parts
    assert part.frame["value"].to_list() == [400, 950]
    assert part.moment.next_watermark_ms == 300
    (part,) = intake.take(fetched(record(1, 700), first=3), NOW).parts
    assert (part.frame.height, part.moment.watermark_ms, part.moment.next_watermark_ms) == (0, 300, 700)


def test_an_idle_partition_holds_nothing_back_and_a_woken_one_does_not_turn_back() -> None:
    intake = FrameIntakeConfig(inputs={"": 2}).build(SOURCE, None)
    intake.take(fetched(record(0, 500, 600), record(1, 0, idle=True)), NOW)
    assert intake.watermark_ms == 500
    assert not intake.idle
    intake.take(fetched(record(1, 100, 450), first=2), NOW)
    assert intake.watermark_ms == 500


def test_rows_keep_the_places_of_their_events() -> None:
    intake = FrameIntakeConfig(inputs={"": 2}).build(SOURCE, None)
    frame = pl.DataFrame({"value": [1, 2], "_time": [1, 2], "_offset": [7, 9]})
    crossed = told_apart(frame, 3, made=False)
    closed = told_apart(frame, 3, made=True)
    records = [
        FrameRecord(origin=Origin("", 1), watermark_ms=5, idle=False, frame=each) for each in (crossed, closed)
    ]
    (part,) = intake.take(fetched(*records), NOW).parts
    assert [event_of(offset) for offset in part.frame["_offset"]] == [(3, 7), (3, 9), None, None]
    assert told_apart(frame, 0, made=False) is frame


def test_what_no_stage_wrote_is_a_dead_letter_and_the_rest_goes_on() -> None:
    intake = FrameIntakeConfig(inputs={"": 1}, stage="totals").build(SOURCE, None)
    good = fetched(record(0, 5, 6), record(0, 7, 8), record(0, 9, 10))
    values = [good.records.values[0], b"junk", good.records.values[2]]
    assert good.records.headers is not None
    records = replace(good.records, values=values, headers=[*good.records.headers[:2], good.records.headers[2]])
    taken = intake.take(replace(good, records=records), NOW)
    (part,) = taken.parts
    assert part.frame["value"].to_list() == [6, 10]
    (letter,) = taken.dead
    assert (letter.offset, letter.value, letter.reason, letter.stage) == (1, b"junk", "undecodable", "totals")
    assert letter.source == SOURCE
    assert intake.statistics().bad == 1


def test_two_inputs_take_turns_as_their_records_do() -> None:
    intake = FrameIntakeConfig(inputs={"left": 1, "right": 1}).build(SOURCE, None)
    records = [
        record(0, at, at, name=name) for name, at in (("left", 1), ("left", 2), ("right", 3), ("left", 4))
    ]
    parts = intake.take(fetched(*records), NOW).parts
    assert [(part.input, part.frame["value"].to_list()) for part in parts] == [
        ("left", [1, 2]),
        ("right", [3]),
        ("left", [4]),
    ]
    assert parts[1].inputs is not None
    before, after = parts[1].inputs
    assert before.right_watermark_ms < 0
    assert (after.left_watermark_ms, after.right_watermark_ms) == (2, 3)


def test_its_state_comes_back_from_changes_and_snapshots() -> None:
    config = FrameIntakeConfig(inputs={"": 2})
    intake = config.build(SOURCE, None)
    intake.take(fetched(record(0, 500, 600)), NOW)
    first = intake.take_changes()
    snapshot = intake.snapshot()
    intake.take(fetched(record(1, 300, 400), first=1), NOW)
    second = intake.take_changes()
    assert intake.take_changes() == b""
    for restored, changes in (
        (config.build(SOURCE, None), (first, second)),
        (config.build(SOURCE, snapshot), (second,)),
    ):
        for each in changes:
            restored.apply_changes(each)
        assert restored.watermark_ms == intake.watermark_ms == 300
        (part,) = restored.take(fetched(record(1, 400), first=2), NOW).parts
        assert part.frame.columns == ["value", "_time", "_offset"]
    with pytest.raises(CorruptState):
        config.build(SOURCE, b"junk")
