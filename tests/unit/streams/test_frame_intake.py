"""Frames of another stage: event time is as far as the slowest partition that is not idle."""

import numpy as np
import polars as pl
import pytest

from penstock.core.errors import CorruptRecords, CorruptState
from penstock.log.records import Fetched, Records, TopicPartition
from penstock.streams.frame_intake import FrameIntakeConfig
from penstock.streams.frame_records import FrameRecord, Origin, read_frame_record
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
    ("value", "headers"), [(b"junk", None), (b"junk", {}), (b"junk", record(0, 5).headers())]
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


def test_rows_have_offsets_of_their_own() -> None:
    intake = FrameIntakeConfig(inputs={"": 1}).build(SOURCE, None)
    (part,) = intake.take(fetched(record(0, 5, 7, 8, 9), record(0, 5, 10)), NOW).parts
    offsets = part.frame["_offset"]
    assert offsets.is_sorted()
    assert offsets.n_unique() == 4


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
