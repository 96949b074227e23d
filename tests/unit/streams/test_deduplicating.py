"""Duplicates: single cases, bounds and damage; the property test has the rest."""

import msgspec
import polars as pl
import pytest

from penstock.core.errors import ConfigurationError, CorruptState, InvalidInput
from penstock.streams.deduplicating import DeduplicateConfig
from penstock.streams.operator import OFFSET, TIME, Moment


def frame_of(*events: tuple[str | None, int]) -> pl.DataFrame:
    schema = {"id": pl.String(), TIME: pl.Int64(), OFFSET: pl.Int64()}
    return pl.DataFrame([(*event, number) for number, event in enumerate(events)], schema=schema, orient="row")


def moment_at(watermark_ms: int) -> Moment:
    return Moment(watermark_ms=watermark_ms, next_watermark_ms=watermark_ms, now_ms=0)


def test_what_is_sent_twice_goes_on_once() -> None:
    operator = DeduplicateConfig(key=["id"], within_ms=10).build(None)
    frame = frame_of(("a", 0), ("b", 0), ("a", 10), (None, 0), (None, 0))
    assert operator.process(frame, moment_at(-9))[OFFSET].to_list() == [0, 1, 3, 4]
    again = operator.process(frame_of(("b", 10), ("a", 11), ("b", -11)), moment_at(-9))
    assert again[OFFSET].to_list() == [1, 2]
    statistics = operator.statistics()
    assert (statistics.duplicates, statistics.events, statistics.events_evicted) == (2, 4, 0)


def test_one_key_that_comes_all_the_time_goes_on_now_and_then() -> None:
    operator = DeduplicateConfig(key=["id"], within_ms=4).build(None)
    frame = frame_of(*[("a", time) for time in range(500)])
    assert operator.process(frame, moment_at(0))[TIME].to_list() == list(range(0, 500, 5))


def test_the_oldest_are_forgotten_where_there_are_too_many() -> None:
    config = DeduplicateConfig(key=["id"], within_ms=1000, events_max=20)
    operator = config.build(None)
    operator.process(frame_of(*[(str(number), number) for number in range(25)]), moment_at(0))
    statistics = operator.statistics()
    assert (statistics.events, statistics.events_evicted) == (18, 7)
    again = operator.process(frame_of(("6", 6), ("7", 7), ("24", 24)), moment_at(0))
    assert again["id"].to_list() == ["6"]
    restored = config.build(operator.snapshot())
    assert msgspec.structs.replace(restored.statistics(), keys=25) == operator.statistics()


def test_keys_of_what_was_forgotten_are_forgotten() -> None:
    operator = DeduplicateConfig(key=["id"], within_ms=10).build(None)
    for start in range(0, 50_000, 500):
        frame = frame_of(*[(str(number), number) for number in range(start, start + 500)])
        operator.process(frame, moment_at(start))
    statistics = operator.statistics()
    assert statistics.events <= 520
    assert statistics.keys <= 3 * 1024


def test_damage_is_seen() -> None:
    config = DeduplicateConfig(key=["id"], within_ms=10)
    operator = config.build(None)
    assert operator.take_changes() == b""
    operator.process(frame_of(("a", 0)), moment_at(0))
    changes = operator.take_changes()
    config.build(None).apply_changes(changes)
    for other in (
        DeduplicateConfig(key=["id"], within_ms=11),
        DeduplicateConfig(key=["name"], within_ms=10),
    ):
        with pytest.raises(CorruptState):
            other.build(operator.snapshot())
    with pytest.raises(CorruptState):
        config.build(None).apply_changes(changes[:-9])


def test_a_key_must_be_there() -> None:
    with pytest.raises(InvalidInput, match="'name'"):
        DeduplicateConfig(key=["name"], within_ms=10).build(None).process(frame_of(("a", 0)), moment_at(0))


@pytest.mark.parametrize(
    ("key", "within_ms", "events_max"), [([], 1, 1), (["id"], -1, 1), (["id"], 10**15, 1), (["id"], 1, 0)]
)
def test_what_cannot_work_is_refused(key: list[str], within_ms: int, events_max: int) -> None:
    with pytest.raises(ConfigurationError):
        DeduplicateConfig(key=key, within_ms=within_ms, events_max=events_max)
