"""What windows tell of keys, against a loop over events: whenever it is read, it is the window as of then."""

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from test_windows import (
    AGGREGATES,
    BEFORE_ALL,
    ESTIMATES,
    Stream,
    Tile,
    check_estimates,
    frame_of,
    read,
    streams,
)

from penstock.streams.operator import TIME, Moment
from penstock.streams.updating import FROM, TIMELINE
from penstock.streams.windows import Window

Tiles = dict[tuple[str | None, int], Tile]
EXACT = list(AGGREGATES)


def fold_in(tiles: Tiles, frame: pl.DataFrame, every_ms: int) -> None:
    for key, number, integer, time in frame.select("k", "v", "i", TIME).rows():
        tiles.setdefault((key, time // every_ms), Tile()).add(time, number, integer)


def timelines(updates: pl.DataFrame) -> dict[str | None, pl.DataFrame]:
    """By key. Each key has one, its rows stand together and ascend."""
    if not updates.height:
        return {}
    found = {}
    numbers = updates[TIMELINE].to_numpy()
    assert (np.diff(numbers) >= 0).all()
    for part in updates.partition_by(TIMELINE, maintain_order=True):
        assert part["k"].n_unique() == 1
        assert (np.diff(part[FROM].to_numpy()) > 0).all()
        assert part["k"][0] not in found
        found[part["k"][0]] = part
    return found


def as_of(timeline: pl.DataFrame, time_ms: int) -> pl.DataFrame:
    begun = timeline.filter(pl.col(FROM) <= time_ms)
    return begun[-1] if begun.height else timeline[0]


@settings(max_examples=100, deadline=None)
@given(streams(), st.booleans(), st.lists(st.sampled_from([None, False, True]), min_size=1, max_size=5))
def test_a_timeline_is_what_a_loop_finds_at_each_step(
    stream: Stream, reading: bool, crashes: list[bool | None]
) -> None:
    config = stream.config(updates="keys", lateness_ms=stream.lateness_ms, reading=reading)
    window, shadow = config.build(None), config.build(None)
    tiles: Tiles = {}
    reach = stream.over_ms // stream.every_ms
    newest_ms = BEFORE_ALL
    for number, (frame, moment) in enumerate(stream.frames()):
        window.process(frame, moment)
        found = timelines(window.take_updates())
        fold_in(tiles, frame, stream.every_ms)
        newest_ms = max([newest_ms, *frame[TIME].to_list()])
        assert set(found) == set(frame["k"].to_list())
        for key, timeline in found.items():
            assert timeline[TIME].to_list() == [newest_ms] * timeline.height
            last = max(step for at, step in tiles if at == key)
            assert timeline[FROM][0] == last * stream.every_ms
            for step in range(last, last + reach + 2):
                row = as_of(timeline, step * stream.every_ms + stream.every_ms - 1)
                *exact, floats, integers = read(tiles, key, step, reach)
                assert row.select(EXACT).row(0) == tuple(exact)
                check_estimates(row.select(*ESTIMATES).row(0), floats, integers)
            assert timeline["n"][-1] == 0
        shadow.apply_changes(window.take_changes())
        if (swap := crashes[number % len(crashes)]) is not None:
            snapshot = window.snapshot()
            assert snapshot == shadow.snapshot()
            window = shadow if swap else config.build(snapshot)
            shadow = config.build(snapshot)


@settings(max_examples=100, deadline=None)
@given(streams(), st.data())
def test_a_timeline_is_what_an_event_would_have_been_given(stream: Stream, data: st.DataObject) -> None:
    config = stream.config(updates="keys", reading=True, inclusive=False)
    window = config.build(None)
    for frame, moment in stream.frames():
        window.process(frame, moment)
        for key, timeline in timelines(window.take_updates()).items():
            begin_ms = int(timeline[FROM][0])
            later_ms = data.draw(st.integers(0, stream.over_ms + 2 * stream.every_ms))
            # One that is older than the watermark would not be let in.
            at_ms = max(begin_ms + later_ms, moment.next_watermark_ms)
            probe = frame_of([(key, at_ms, None, None)], 10**6)
            unmoved = Moment(watermark_ms=BEFORE_ALL, next_watermark_ms=BEFORE_ALL, now_ms=0)
            given_ = config.build(window.snapshot()).process(probe, unmoved)
            mine = as_of(timeline, at_ms)
            # The last bits of a variance depend on how its tiles are brought together.
            names = [name for name in (*AGGREGATES, *ESTIMATES) if name != "variance"]
            bits = pl.col(pl.Float64).reinterpret(signed=True)
            assert mine.select(names).with_columns(bits).equals(given_.select(names).with_columns(bits))


@st.composite
def ordered(draw: st.DrawFn) -> Stream:
    stream = draw(streams())
    return Stream(
        sorted(stream.events, key=lambda event: event[1]), stream.cuts, 0, stream.over_ms, stream.every_ms
    )


@settings(max_examples=100, deadline=None)
@given(ordered(), st.data())
def test_told_of_each_event_any_time_can_be_read(stream: Stream, data: st.DataObject) -> None:
    """However the events are cut: by the last one of the key until then, and the last row of it."""
    window = stream.config(updates="events", reading=data.draw(st.booleans())).build(None)
    told = [told_of(window, frame, moment) for frame, moment in stream.frames()]
    rows = pl.concat([part for part in told if part.height]) if stream.events else pl.DataFrame()
    numbers = rows.select("_frame", TIMELINE).n_unique() if rows.height else 0
    assert numbers == len(stream.events)
    reach = stream.over_ms // stream.every_ms
    for key, time, *_ in stream.events:
        time_ms = time + data.draw(st.integers(0, stream.over_ms + stream.every_ms))
        tiles: Tiles = {}
        until = [event for event in stream.events if event[1] <= time_ms]
        fold_in(tiles, frame_of(until, 0), stream.every_ms)
        *exact, floats, integers = read(tiles, key, time_ms // stream.every_ms, reach)
        mine = rows.filter(pl.col("k").eq_missing(pl.lit(key)) & (pl.col(TIME) <= time_ms))
        last = mine.filter(pl.struct("_frame", TIMELINE) == pl.struct("_frame", TIMELINE).last())
        row = as_of(last, time_ms)
        assert row.select(EXACT).row(0) == tuple(exact)
        check_estimates(row.select(*ESTIMATES).row(0), floats, integers)


def told_of(window: Window, frame: pl.DataFrame, moment: Moment) -> pl.DataFrame:
    window.process(frame, moment)
    updates = window.take_updates()
    return updates.with_columns(_frame=pl.lit(int(frame["_offset"][0]))) if updates.height else updates


def test_the_streams_time_does_not_go_back_where_its_watermark_waits_for_others() -> None:
    window = Window(Stream([], [], 0, 10, 10).config(updates="keys", lateness_ms=3), None)
    told = []
    for time_ms, watermark_ms in ((100, 20), (90, 20), (50, 140)):
        moment = Moment(watermark_ms=0, next_watermark_ms=watermark_ms, now_ms=0)
        window.process(frame_of([("a", time_ms, 1.0, 1)], 0), moment)
        told.append(window.take_updates()[TIME][0])
    assert told == [100, 100, 143]


def test_what_nobody_asks_for_is_not_told() -> None:
    window = Stream([("a", 5, 1.0, 1)], [], 0, 10, 10).config().build(None)
    window.process(frame_of([("a", 5, 1.0, 1)], 0), Moment(watermark_ms=0, next_watermark_ms=5, now_ms=0))
    assert window.take_updates().is_empty()
    assert "newest_ms" in window._store.marks
    assert window._store.marks["newest_ms"] < 0
