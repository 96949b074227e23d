"""Windows against a loop over events and against Polars over the whole history, however frames are cut."""

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.streams.operator import OFFSET, TIME, Moment
from penstock.streams.windows import SessionConfig, Sessions, Window, WindowConfig
from penstock.streams.windows.aggregates import Count, Distinct, Last, Max, Mean, Min, Quantile, Sum, Variance

AGGREGATES = {
    "n": Count(), "present": Count("v"), "total": Sum("v"), "mean": Mean("v"), "greatest": Max("v"),
    "least": Min("v"), "whole": Sum("i"), "most": Max("i"), "last": Last("i"),
}  # fmt: skip
ESTIMATES = {"variance": Variance("v"), "different": Distinct("i"), "median": Quantile("v", 0.5)}
Event = tuple[str | None, int, float | None, int | None]
BEFORE_ALL = -(1 << 60)


@dataclass(frozen=True)
class Stream:
    """Events in arrival order, none of them late, and where frames end."""

    events: list[Event]
    cuts: list[int]
    lateness_ms: int
    over_ms: int
    every_ms: int

    def frames(self) -> Iterator[tuple[pl.DataFrame, Moment]]:
        """With a tick of the clock at the end, when all has been seen."""
        watermark_ms, start = BEFORE_ALL, 0
        for end in sorted({*(cut for cut in self.cuts if cut < len(self.events)), len(self.events)}):
            frame = frame_of(self.events[start:end], start)
            newest = max((time for _, time, *_ in self.events[start:end]), default=BEFORE_ALL)
            following = max(watermark_ms, newest - self.lateness_ms)
            yield frame, Moment(watermark_ms=watermark_ms, next_watermark_ms=following, now_ms=0)
            watermark_ms, start = following, end
        end_ms = watermark_ms + 2 * self.over_ms + self.lateness_ms + 1
        yield frame_of([], start), Moment(watermark_ms=watermark_ms, next_watermark_ms=end_ms, now_ms=0)

    def config(self, **options: object) -> WindowConfig:
        lengths = {
            "over_ms": self.over_ms,
            "every_ms": self.every_ms,
            "aggregates": {**AGGREGATES, **ESTIMATES},
        }
        return WindowConfig(keys=("k",), **{**lengths, **options})


def frame_of(events: list[Event], start: int) -> pl.DataFrame:
    keys, times, floats, integers = zip(*events, strict=True) if events else ([], [], [], [])
    return pl.DataFrame(
        {
            "k": pl.Series(keys, dtype=pl.String),
            "v": pl.Series(floats, dtype=pl.Float64),
            "i": pl.Series(integers, dtype=pl.Int64),
            TIME: pl.Series(times, dtype=pl.Int64),
            OFFSET: pl.int_range(start, start + len(events), eager=True),
        }
    )


FLOATS = st.one_of(
    st.none(),
    st.sampled_from([0.0, -0.0, 0.1, 1e-9, 1e16, -1e16, 5e-324, math.nan]),
    st.floats(-1e6, 1e6),
)
INTEGERS = st.one_of(st.none(), st.integers(-5, 5), st.integers(-(1 << 63), (1 << 63) - 1))


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    every_ms = draw(st.sampled_from([1, 10, 60]))
    lateness_ms = draw(st.sampled_from([0, 25, 200]))
    keys = draw(st.sampled_from([["a"], ["a", "b", None], [f"k{number}" for number in range(12)]]))
    gaps = st.one_of(st.integers(0, 3), st.integers(0, 100), st.sampled_from([0, 5000, 10**9]))
    drawn = draw(
        st.lists(
            st.tuples(st.sampled_from(keys), gaps, st.integers(0, lateness_ms), FLOATS, INTEGERS), max_size=60
        )
    )
    events: list[Event] = []
    clock = newest = draw(st.sampled_from([-500, 0, 1_360_000_000_000]))
    for key, gap, delay, number, integer in drawn:
        clock += gap
        time = max(clock - delay, newest - lateness_ms)
        newest = max(newest, time)
        events.append((key, time, number, integer))
    cuts = draw(st.lists(st.integers(0, 60), max_size=8))
    return Stream(events, cuts, lateness_ms, every_ms * draw(st.sampled_from([1, 2, 5, 12])), every_ms)


class Tile:
    """What an event-by-event loop keeps of a key's step."""

    def __init__(self) -> None:
        self.rows = 0
        self.total = 0.0
        self.floats: list[float] = []
        self.integers: list[int] = []
        self.last: tuple[int, int] | None = None

    def add(self, time: int, number: float | None, integer: int | None) -> None:
        self.rows += 1
        if number is not None and not math.isnan(number):
            self.total += number
            self.floats.append(number)
        if integer is not None:
            self.integers.append(integer)
            if self.last is None or time >= self.last[0]:
                self.last = (time, integer)


def wrapped(total: int) -> int:
    return (total + (1 << 63)) % (1 << 64) - (1 << 63)


def read(
    tiles: dict[tuple[str | None, int], Tile], key: str | None, step: int, reach: int
) -> tuple[object, ...]:
    """The aggregates in the order of `AGGREGATES`, and what estimates are of: floats and integers."""
    mine = [tiles[key, at] for at in range(step - reach + 1, step + 1) if (key, at) in tiles]
    floats = [number for tile in mine for number in tile.floats]
    integers = [number for tile in mine for number in tile.integers]
    lasts = [tile.last[1] for tile in mine if tile.last is not None]
    total = 0.0
    for tile in mine:
        total += tile.total
    return (
        sum(tile.rows for tile in mine),
        len(floats),
        total if floats else None,
        total / len(floats) if floats else None,
        max(floats, default=None),
        min(floats, default=None),
        wrapped(sum(integers)) if integers else None,
        max(integers, default=None),
        lasts[-1] if lasts else None,
        floats,
        integers,
    )


def check_estimates(row: tuple[object, ...], floats: list[float], integers: list[int]) -> None:
    """Variance, different values and the median, each within what its algorithm promises."""
    spread, different, median = row
    if len(floats) < 2:
        assert spread is None
    else:
        exact = statistics.variance([Fraction(number) for number in floats])
        scale = max(map(abs, floats)) ** 2
        assert spread == pytest.approx(float(exact), rel=1e-9, abs=1e-12 * scale)
    assert abs(different - len(set(integers))) <= 1
    if not floats:
        assert median is None
    else:
        nearest = sorted(floats)[math.floor(0.5 * (len(floats) - 1))]
        clipped = math.copysign(min(abs(nearest), 1e15), nearest) if abs(nearest) >= 1e-12 else 0.0
        assert median == pytest.approx(clipped, rel=0.0101, abs=0)


def as_of(stream: Stream, inclusive: bool) -> list[tuple[object, ...]]:
    tiles: dict[tuple[str | None, int], Tile] = {}
    rows = []
    reach = stream.over_ms // stream.every_ms
    for key, time, number, integer in stream.events:
        step = time // stream.every_ms
        if not inclusive:
            rows.append(read(tiles, key, step, reach))
        tiles.setdefault((key, step), Tile()).add(time, number, integer)
        if inclusive:
            rows.append(read(tiles, key, step, reach))
    return rows


class Recovering:
    """An operator, and a shadow that follows it by changes alone; each may be rebuilt at any time."""

    def __init__(self, config: WindowConfig | SessionConfig) -> None:
        self.config = config
        self.window: Window | Sessions = config.build(None)
        self.shadow: Window | Sessions = config.build(None)

    def process(self, frame: pl.DataFrame, moment: Moment) -> tuple[pl.DataFrame, pl.DataFrame]:
        read, closed = self.window.process(frame, moment), self.window.take_closed()
        self.shadow.apply_changes(self.window.take_changes())
        return read, closed

    def recover(self, swap: bool) -> None:
        snapshot = self.window.snapshot()
        assert snapshot == self.shadow.snapshot()
        self.window, self.shadow = (
            (self.shadow if swap else self.config.build(snapshot)),
            self.config.build(snapshot),
        )


@settings(max_examples=150, deadline=None)
@given(streams(), st.booleans(), st.lists(st.sampled_from([None, False, True]), min_size=1, max_size=5))
def test_as_of_reads_equal_a_loop_over_events(
    stream: Stream, inclusive: bool, crashes: list[bool | None]
) -> None:
    operator = Recovering(stream.config(inclusive=inclusive))
    rows: list[tuple[object, ...]] = []
    estimates: list[tuple[object, ...]] = []
    for number, (frame, moment) in enumerate(stream.frames()):
        read = operator.process(frame, moment)[0]
        rows += read.select(*AGGREGATES).rows()
        estimates += read.select(*ESTIMATES).rows()
        if (swap := crashes[number % len(crashes)]) is not None:
            operator.recover(swap)
    expected = as_of(stream, inclusive)
    assert rows == [row[:-2] for row in expected]
    for row, (*_, floats, integers) in zip(estimates, expected, strict=True):
        check_estimates(row, floats, integers)
    assert operator.window.statistics().dropped == 0


@settings(max_examples=100, deadline=None)
@given(streams())
def test_sliding_windows_are_exact_to_the_millisecond(stream: Stream) -> None:
    window = stream.config(every_ms=None).build(None)
    rows = [row for frame, moment in stream.frames() for row in window.process(frame, moment)["n"].to_list()]
    expected = [
        sum(
            other == key and time - stream.over_ms < at <= time for other, at, *_ in stream.events[: number + 1]
        )
        for number, (key, time, *_) in enumerate(stream.events)
    ]
    assert rows == expected


def history(stream: Stream) -> pl.DataFrame:
    """All windows over the whole history by Polars, each event in all its windows; sums have another order."""
    present = pl.col("v").is_not_null() & pl.col("v").is_not_nan()
    values = pl.col("v").filter(present)
    times = pl.col(TIME).filter(pl.col("i").is_not_null())
    step = pl.lit(stream.every_ms)
    ends = (pl.col(TIME).floordiv(step) + 1) * step
    return (
        frame_of(stream.events, 0)
        .with_columns(window_end=pl.int_ranges(ends, ends + stream.over_ms, stream.every_ms))
        .explode("window_end")
        .group_by("k", "window_end")
        .agg(
            n=pl.len().cast(pl.Int64),
            present=present.sum().cast(pl.Int64),
            total=values.sum(),
            greatest=values.max(),
            least=values.min(),
            most=pl.col("i").max(),
            last=pl.col("i").drop_nulls().sort_by(times, maintain_order=True).last(),
            floats=values,
            integers=pl.col("i").drop_nulls(),
        )
        .with_columns(window_start=pl.col("window_end") - stream.over_ms)
        .with_columns(pl.col("window_start", "window_end").cast(pl.Datetime("ms", "UTC")))
        .sort("window_end", "k")
    )


@settings(max_examples=150, deadline=None)
@given(streams(), st.booleans(), st.lists(st.sampled_from([None, False, True]), min_size=1, max_size=5))
def test_closed_windows_equal_the_history(stream: Stream, reading: bool, crashes: list[bool | None]) -> None:
    operator = Recovering(stream.config(reading=reading, closing=True))
    parts = []
    for number, (frame, moment) in enumerate(stream.frames()):
        parts.append(operator.process(frame, moment)[1])
        ends = parts[-1].get_column("window_end").dt.epoch("ms")
        assert all(moment.watermark_ms < end <= moment.next_watermark_ms for end in ends)
        if (swap := crashes[number % len(crashes)]) is not None:
            operator.recover(swap)
    closed = pl.concat(parts)
    expected = history(stream)
    exact = ["k", "window_start", "window_end", "n", "present", "greatest", "least", "most", "last"]
    assert closed.select(exact).rows() == expected.select(exact).rows()
    for mine, polars_sum, count in zip(closed["total"], expected["total"], closed["present"], strict=True):
        assert (mine is None) == (count == 0)
        assert mine is None or mine == pytest.approx(polars_sum, rel=1e-9, abs=64)
    for row, floats, integers in zip(
        closed.select(*ESTIMATES).rows(), expected["floats"], expected["integers"], strict=True
    ):
        check_estimates(row, floats.to_list(), integers.to_list())


def sessions_of(stream: Stream, gap_ms: int) -> list[tuple[object, ...]]:
    """By Polars: sessions over the whole history."""
    return (
        frame_of(stream.events, 0)
        .sort("k", TIME, maintain_order=True)
        .with_columns(new=(pl.col(TIME).diff() >= gap_ms).fill_null(True).over("k").cum_sum().over("k"))
        .group_by("k", "new")
        .agg(
            start=pl.col(TIME).min(),
            end=pl.col(TIME).max() + gap_ms,
            n=pl.len().cast(pl.Int64),
            most=pl.col("i").max(),
            different=pl.col("i").drop_nulls().n_unique(),
        )
        .sort("end", "k")
        .select("k", "start", "end", "n", "most", "different")
        .rows()
    )


@settings(max_examples=150, deadline=None)
@given(streams(), st.integers(1, 150), st.lists(st.sampled_from([None, False, True]), min_size=1, max_size=5))
def test_sessions_equal_the_history(stream: Stream, gap_ms: int, crashes: list[bool | None]) -> None:
    aggregates = {"n": Count(), "most": Max("i"), "different": Distinct("i"), "total": Sum("v")}
    operator = Recovering(SessionConfig(keys=("k",), gap_ms=gap_ms, aggregates=aggregates))
    whole = operator.config.build(None)
    closed, frames = [], list(stream.frames())
    end_ms = frames[-1][1].next_watermark_ms + gap_ms
    frames.append((frames[-1][0], Moment(watermark_ms=end_ms, next_watermark_ms=end_ms, now_ms=0)))
    for number, (frame, moment) in enumerate(frames):
        closed.append(operator.process(frame, moment)[1])
        if (swap := crashes[number % len(crashes)]) is not None:
            operator.recover(swap)
    found = pl.concat(closed)
    times = [found.get_column(name).dt.epoch("ms").alias(name) for name in ("window_start", "window_end")]
    shown = found.with_columns(times).select("k", "window_start", "window_end", "n", "most", "different")
    for mine, expected in zip(shown.rows(), sessions_of(stream, gap_ms), strict=True):
        assert mine[:-1] == expected[:-1]
        assert abs(mine[-1] - expected[-1]) <= 1
    assert operator.window.statistics().keys == 0
    whole.process(
        frame_of(stream.events, 0), Moment(watermark_ms=BEFORE_ALL, next_watermark_ms=end_ms, now_ms=0)
    )
    assert whole.take_closed().equals(found)


@settings(max_examples=100, deadline=None)
@given(streams(), st.lists(st.integers(0, 60), max_size=30))
def test_framing_changes_no_bit(stream: Stream, cuts: list[int]) -> None:
    other = Stream(stream.events, cuts, stream.lateness_ms, stream.over_ms, stream.every_ms)
    results = []
    for each in (stream, other):
        window = each.config(closing=True).build(None)
        pairs = [(window.process(*at), window.take_closed()) for at in each.frames()]
        read, closed = (pl.concat(frames) for frames in zip(*pairs, strict=True))
        floats = read.select(pl.col(pl.Float64).exclude("v").reinterpret(signed=True)).rows()
        results.append((floats, read.drop("v").rows(), closed.rows()))
    assert results[0] == results[1]
