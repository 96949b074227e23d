"""The watermark against a loop over single events, whatever the frames, the pauses and the clock."""

import numpy as np
import pytest

from penstock.core.errors import ConfigurationError, CorruptState
from penstock.streams.packing import pack
from penstock.streams.watermark import BEGINNING_MS, CombinedWatermark, Watermark, WatermarkConfig

HOUR_MS = 3_600_000


def watermark_of(lateness_ms: int = 10, idle_ms: int | None = 1000) -> Watermark:
    return WatermarkConfig(lateness_ms=lateness_ms, idle_ms=idle_ms).build(None)


def see(watermark: Watermark, *times_ms: int) -> list[bool]:
    late: list[bool] = watermark.split(np.array(times_ms, np.int64)).tolist()
    return late


def test_each_event_is_judged_by_those_before_it() -> None:
    watermark = watermark_of()
    assert watermark.watermark_ms == BEGINNING_MS
    assert see(watermark, 100, 90, 89, 150, 139, 140) == [False, False, True, False, True, False]
    assert watermark.watermark_ms == 140
    assert see(watermark, 140, 139) == [False, True]
    assert see(watermark) == []
    statistics = watermark.statistics(now_ms=1140)
    assert (statistics.events, statistics.late, statistics.time_max_ms) == (8, 3, 150)
    assert (statistics.watermark_ms, statistics.lag_ms) == (140, 1000)


def test_times_before_1970_are_times() -> None:
    watermark = watermark_of()
    assert see(watermark, -100, -110, -111) == [False, False, True]
    assert watermark.watermark_ms == -110


def test_without_events_nothing_is_known() -> None:
    watermark = watermark_of()
    for second in range(10):
        watermark.tick(second * 500.0)
    assert watermark.idle
    assert watermark.watermark_ms == BEGINNING_MS
    statistics = watermark.statistics(now_ms=5)
    assert (statistics.time_max_ms, statistics.watermark_ms, statistics.lag_ms) == (None, None, None)


def test_event_time_goes_on_with_real_time_once_idle() -> None:
    watermark = watermark_of()
    see(watermark, 5000)
    watermark.tick(0.0)
    for at_ms in (300.0, 600.0, 900.0):
        watermark.tick(at_ms)
        assert not watermark.idle
        assert watermark.watermark_ms == 4990
    watermark.tick(1200.0)
    assert watermark.idle
    assert watermark.watermark_ms == 4990 + 1200
    watermark.tick(1500.0)
    assert watermark.watermark_ms == 4990 + 1500
    assert see(watermark, 6489, 6490) == [True, False], "what was given up is late"
    assert not watermark.idle
    watermark.tick(1600.0)
    assert watermark.watermark_ms == 6490, "an event that is older does not set it back"


def test_a_process_that_was_stopped_for_an_hour_closes_nothing_at_a_stroke() -> None:
    watermark = watermark_of()
    see(watermark, 5000)
    watermark.tick(0.0)
    watermark.tick(float(HOUR_MS))
    assert not watermark.idle
    assert watermark.watermark_ms == 4990
    assert see(watermark, 5100) == [False]
    watermark.tick(HOUR_MS + 1.0)
    for step in range(1, 4):
        watermark.tick(HOUR_MS + 600.0 * step)
    reached_ms = watermark.watermark_ms
    watermark.tick(2.0 * HOUR_MS)
    assert watermark.watermark_ms - reached_ms <= 500, "at most half of the idle time a tick"


def test_a_clock_that_goes_backwards_moves_nothing() -> None:
    watermark = watermark_of()
    see(watermark, 5000)
    watermark.tick(float(HOUR_MS))
    for _ in range(100):
        watermark.tick(0.0)
    assert watermark.watermark_ms == 4990
    assert not watermark.idle


def test_without_an_idle_time_it_waits_for_ever() -> None:
    watermark = watermark_of(idle_ms=None)
    see(watermark, 5000)
    for second in range(100):
        watermark.tick(second * 1000.0)
    assert not watermark.idle
    assert watermark.watermark_ms == 4990


def test_changes_and_snapshots_bring_it_back() -> None:
    config = WatermarkConfig(lateness_ms=10, idle_ms=1000)
    watermark = config.build(None)
    assert watermark.take_changes() == b""
    see(watermark, 5000, 1)
    changes = watermark.take_changes()
    assert watermark.take_changes() == b""
    followed = config.build(None)
    followed.apply_changes(changes)
    followed.apply_changes(b"")
    for at_ms in range(0, 3000, 400):
        watermark.tick(float(at_ms))
    followed.apply_changes(watermark.take_changes())
    assert followed.watermark_ms == watermark.watermark_ms > 5000
    assert config.build(watermark.snapshot()).statistics(0) == followed.statistics(0)
    assert followed.statistics(0).late == 1
    assert not followed.idle, "it has seen no quiet of its own"


@pytest.mark.parametrize("state", [b"x", pack({}, {}), pack({"form": "watermark-1", "time_max_ms": "1"}, {})])
def test_what_is_no_state_is_refused(state: bytes) -> None:
    with pytest.raises(CorruptState):
        WatermarkConfig(lateness_ms=1).build(state)


@pytest.mark.parametrize(("lateness_ms", "idle_ms"), [(-1, None), (10**12, None), (0, 0), (0, -5)])
def test_durations_that_mean_nothing_are_refused(lateness_ms: int, idle_ms: int | None) -> None:
    with pytest.raises(ConfigurationError, match="cannot work"):
        WatermarkConfig(lateness_ms=lateness_ms, idle_ms=idle_ms)


def go_idle(watermark: Watermark) -> None:
    for at_ms in range(0, 3000, 500):
        watermark.tick(float(at_ms))


def test_several_inputs_are_as_far_as_the_last_that_is_awake() -> None:
    slow, fast, silent = watermark_of(), watermark_of(), watermark_of()
    combined = CombinedWatermark()
    see(slow, 1000)
    see(fast, 2000)
    assert combined.update([slow, fast]) == 990
    assert combined.update([slow, fast, silent]) == 990, "never backwards"
    assert CombinedWatermark().update([slow, fast, silent]) == BEGINNING_MS
    go_idle(silent)
    assert CombinedWatermark().update([slow, fast, silent]) == 990
    go_idle(slow)
    assert slow.watermark_ms > fast.watermark_ms
    assert combined.update([slow, fast, silent]) == 1990, "the idle ones do not lead either"
    go_idle(fast)
    assert combined.update([slow, fast, silent]) == max(slow.watermark_ms, fast.watermark_ms)
    see(slow, 1)
    assert combined.update([slow, fast, silent]) == combined.value_ms
    assert CombinedWatermark().update([]) == BEGINNING_MS
