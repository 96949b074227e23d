"""Watermarks: never backwards, the same in any frames, and never further than real time has gone."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.streams.watermark import BEGINNING_MS, CombinedWatermark, WatermarkConfig

times = st.lists(st.integers(-1000, 1000), max_size=60)
# The clock may stand still, go on, or jump by an hour either way.
steps = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1.0, 40.0, 3_600_000.0, -3_600_000.0]), st.lists(st.integers(0, 500), max_size=2)
    ),
    max_size=40,
)


@settings(deadline=None)
@given(times, st.integers(0, 500), st.lists(st.integers(0, 60), max_size=8))
def test_frames_change_nothing(events: list[int], lateness_ms: int, cuts: list[int]) -> None:
    config = WatermarkConfig(lateness_ms=lateness_ms)
    watermark = config.build(None)
    late: list[bool] = []
    borders = sorted({0, len(events), *(cut for cut in cuts if cut < len(events))})
    for start, end in pairwise(borders):
        late += watermark.split(np.array(events[start:end], np.int64)).tolist()
        watermark = config.build(watermark.snapshot())
    expected = [
        any(earlier - lateness_ms > time for earlier in events[:number]) for number, time in enumerate(events)
    ]
    assert late == expected
    assert watermark.watermark_ms == (max(events) - lateness_ms if events else BEGINNING_MS)
    assert watermark.statistics(0).late == sum(expected)


@settings(deadline=None)
@given(steps, st.integers(0, 100))
def test_it_never_goes_backwards_nor_further_than_real_time(
    walk: list[tuple[float, list[int]]], lateness_ms: int
) -> None:
    config = WatermarkConfig(lateness_ms=lateness_ms, idle_ms=100)
    watermark, other, followed = config.build(None), config.build(None), config.build(None)
    combined = CombinedWatermark()
    now_ms, passed_ms, largest_ms, before_ms, together_ms = 0.0, 0.0, BEGINNING_MS, BEGINNING_MS, BEGINNING_MS
    for step_ms, events in walk:
        now_ms += step_ms
        passed_ms += min(max(step_ms, 0.0), 50.0)
        if events:
            largest_ms = max(largest_ms, *events)
            watermark.split(np.array(events, np.int64))
        else:
            other.split(np.array([int(now_ms) % 1000], np.int64))
        for one in (watermark, other):
            one.tick(now_ms)
        followed.apply_changes(watermark.take_changes())
        assert followed.watermark_ms == watermark.watermark_ms >= before_ms
        before_ms = watermark.watermark_ms
        if largest_ms > BEGINNING_MS:
            assert before_ms <= largest_ms - lateness_ms + passed_ms
        assert combined.update([watermark, other]) >= together_ms
        together_ms = combined.value_ms
        if not watermark.idle and not other.idle:
            reached_ms = CombinedWatermark().update([watermark, other])
            assert reached_ms == min(watermark.watermark_ms, other.watermark_ms)
