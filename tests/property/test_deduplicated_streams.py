"""Duplicates against a loop over single events, in any frames, restored anywhere."""

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.streams.deduplicating import DeduplicateConfig
from penstock.streams.operator import OFFSET, TIME, Moment
from penstock.streams.watermark import WatermarkConfig

LATENESS_MS = 15
SCHEMA = {"key": pl.String(), "part": pl.Int64(), TIME: pl.Int64(), OFFSET: pl.Int64()}

keys = st.sampled_from(["x", "x", "x", "y", "z", None])
event = st.tuples(keys, st.integers(0, 1), st.integers(-20, 80))
events = st.lists(event, max_size=5) | st.lists(event, min_size=30, max_size=80)


def frame_of(rows: list[tuple[str | None, int, int]]) -> pl.DataFrame:
    return pl.DataFrame([(*row, number) for number, row in enumerate(rows)], schema=SCHEMA, orient="row")


def expected(frame: pl.DataFrame, within_ms: int) -> list[int]:
    gone_on: dict[tuple[str, int], list[int]] = {}
    offsets: list[int] = []
    for key, part, time, offset in frame.iter_rows():
        times = gone_on.setdefault((key, part), [])
        if key is not None and any(abs(time - other) <= within_ms for other in times):
            continue
        times.append(time)
        offsets.append(offset)
    return offsets


@settings(max_examples=60, deadline=None)
@given(events, st.sampled_from([0, 1, 10, 100]), st.data())
def test_what_goes_on_was_not_seen(
    rows: list[tuple[str | None, int, int]], within_ms: int, data: st.DataObject
) -> None:
    frame = frame_of(rows)
    mark = WatermarkConfig(lateness_ms=LATENESS_MS).build(None)
    frame = frame.filter(~mark.split(frame[TIME].to_numpy()))
    mark = WatermarkConfig(lateness_ms=LATENESS_MS).build(None)
    config = DeduplicateConfig(key=["key", "part"], within_ms=within_ms)
    operator = config.build(None)
    snapshot, changes = operator.snapshot(), list[bytes]()
    out: list[int] = []
    start = 0
    while start < frame.height:
        piece = frame.slice(start, data.draw(st.sampled_from([1, 2, 7, 80])))
        start += piece.height
        before_ms = mark.watermark_ms
        mark.split(piece[TIME].to_numpy())
        moment = Moment(watermark_ms=before_ms, next_watermark_ms=mark.watermark_ms, now_ms=0)
        out += operator.process(piece, moment)[OFFSET].to_list()
        changes.append(operator.take_changes())
        restoring = data.draw(st.sampled_from([None, None, False, True]))
        if restoring is None:
            continue
        if restoring:
            snapshot, changes = operator.snapshot(), []
        statistics = operator.statistics()
        operator = config.build(snapshot)
        for change in changes:
            operator.apply_changes(change)
        assert operator.statistics().events == statistics.events
        assert operator.statistics().duplicates == statistics.duplicates
    assert out == expected(frame, within_ms)
    assert operator.statistics().duplicates == frame.height - len(out)
    operator.process(frame.clear(), Moment(watermark_ms=0, next_watermark_ms=10**9, now_ms=0))
    assert operator.statistics().events == 0
