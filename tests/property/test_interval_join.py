"""The interval join against Polars over the whole history: any interleaving and framing, restored anywhere."""

from collections.abc import Iterator

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from penstock.streams.joins.columns import JoinColumns
from penstock.streams.joins.interval import IntervalJoin, IntervalJoinConfig
from penstock.streams.operator import OFFSET, TIME, TwoMoment
from penstock.streams.watermark import Watermark, WatermarkConfig

LEFT = pl.Schema({"key": pl.String(), "a": pl.Int64()})
RIGHT = pl.Schema({"name": pl.String(), "a": pl.Int64(), "b": pl.Int64()})
COLUMNS = JoinColumns(left=LEFT, right=RIGHT, left_key=["key"], right_key=["name"])
LATENESS_MS = 8
END_MS = 10**9

Event = tuple[str | None, int]
keys = st.sampled_from(["x", "x", "y", "z", None])
event = st.tuples(keys, st.integers(-10, 30))
events = st.lists(event, max_size=5) | st.lists(event, min_size=20, max_size=40)


@st.composite
def configs(draw: st.DrawFn) -> IntervalJoinConfig:
    before_ms = draw(st.integers(-5, 12))
    return IntervalJoinConfig(
        columns=COLUMNS,
        before_ms=before_ms,
        after_ms=draw(st.integers(-before_ms, 12)),
        how=draw(st.sampled_from(["inner", "left"])),
        chunk_rows=draw(st.sampled_from([1, 3, 1000])),
    )


def frame_of(side: list[Event], *, left: bool) -> pl.DataFrame:
    names = [key for key, _ in side]
    numbers = list(range(len(side)))
    times = [time for _, time in side]
    columns = {"key": names, "a": numbers} if left else {"name": names, "a": numbers, "b": numbers}
    schema = {**(LEFT if left else RIGHT), TIME: pl.Int64(), OFFSET: pl.Int64()}
    return pl.DataFrame({**columns, TIME: times, OFFSET: numbers}, schema=schema)


def on_time(frame: pl.DataFrame) -> pl.DataFrame:
    """An event is late if it is older than the oldest that the ones before it allow."""
    before = pl.col(TIME).cum_max().shift(1) - LATENESS_MS
    return frame.filter((pl.col(TIME) >= before).fill_null(value=True))


def expected(config: IntervalJoinConfig, left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
    right = on_time(right).rename({"a": "a_right", TIME: "right_time"}).drop(OFFSET)
    left = on_time(left)
    pairs = left.join(right, left_on="key", right_on="name").filter(
        pl.col("right_time").is_between(pl.col(TIME) - config.before_ms, pl.col(TIME) + config.after_ms)
    )
    if config.how == "left":
        alone = left.join(pairs, on=OFFSET, how="anti")
        pairs = pl.concat([pairs, alone], how="diagonal")
    later = pl.max_horizontal(TIME, "right_time").alias(TIME)
    return pairs.select("key", "a", "a_right", "b", later, OFFSET)


def in_order(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.sort(OFFSET, "b", nulls_last=True)


class Run:
    """Feeds both sides as they were read, and carries the join over by what it kept."""

    def __init__(self, config: IntervalJoinConfig) -> None:
        self.config = config
        self.join: IntervalJoin = config.build(None)
        self.marks: dict[bool, Watermark] = {
            left: WatermarkConfig(lateness_ms=LATENESS_MS).build(None) for left in (True, False)
        }
        self.out: list[pl.DataFrame] = [pl.DataFrame(schema=config.schema | {TIME: pl.Int64, OFFSET: pl.Int64})]
        self.kept = self.join.snapshot()
        self.changes: list[bytes] = []
        self.promised_ms = -(2**62)

    def feed(self, frame: pl.DataFrame, *, left: bool) -> None:
        late = self.marks[left].split(frame[TIME].to_numpy())
        self.process(frame.filter(~late), self.moment(), left=left)

    def moment(self) -> TwoMoment:
        left_ms, right_ms = self.marks[True].watermark_ms, self.marks[False].watermark_ms
        return TwoMoment(left_watermark_ms=left_ms, right_watermark_ms=right_ms, now_ms=0)

    def process(self, frame: pl.DataFrame, moment: TwoMoment, *, left: bool) -> None:
        process = self.join.process_left if left else self.join.process_right
        pieces: Iterator[pl.DataFrame] = process(frame, moment)
        for piece in pieces:
            assert 0 < piece.height <= self.config.chunk_rows
            assert piece[TIME].min() >= self.promised_ms  # type: ignore[operator]
            self.out.append(piece)
        self.promised_ms = max(self.promised_ms, self.join.output_watermark_ms(moment))
        self.changes.append(self.join.take_changes())

    def restore(self, *, anew: bool) -> None:
        """Out of the last snapshot and what changed since; `anew`: with a snapshot of now."""
        if anew:
            self.kept = self.join.snapshot()
            self.changes.clear()
        statistics = self.join.statistics()
        self.join = self.config.build(self.kept)
        for change in self.changes:
            self.join.apply_changes(change)
        again = self.join.statistics()
        assert (again.left_rows, again.right_rows, again.pairs) == (
            statistics.left_rows,
            statistics.right_rows,
            statistics.pairs,
        )

    def end(self) -> pl.DataFrame:
        moment = TwoMoment(left_watermark_ms=END_MS, right_watermark_ms=END_MS, now_ms=0)
        self.process(frame_of([], left=True), moment, left=True)
        statistics = self.join.statistics()
        assert (statistics.left_rows, statistics.right_rows) == (0, 0), "nothing is kept for ever"
        return pl.concat(self.out)


@settings(max_examples=60, deadline=None)
@given(configs(), events, events, st.data())
def test_it_is_the_join_of_the_whole_history(
    config: IntervalJoinConfig, left_events: list[Event], right_events: list[Event], data: st.DataObject
) -> None:
    sides = {True: frame_of(left_events, left=True), False: frame_of(right_events, left=False)}
    done = {True: 0, False: 0}
    run = Run(config)
    while open_sides := [left for left in (True, False) if done[left] < sides[left].height]:
        left = data.draw(st.sampled_from(open_sides))
        height = data.draw(st.sampled_from([1, 2, 5, 40]))
        run.feed(sides[left].slice(done[left], height), left=left)
        done[left] += height
        restoring = data.draw(st.sampled_from([None, None, False, True]))
        if restoring is not None:
            run.restore(anew=restoring)
    result = run.end()
    wanted = expected(config, sides[True], sides[False])
    assert_frame_equal(in_order(result), in_order(wanted))
    assert run.join.statistics().pairs == wanted["b"].count()


@pytest.mark.parametrize("how", ["inner", "left"])
def test_many_frames_of_many_keys(how: str) -> None:
    """Enough for tiers to be merged and cleared away, one side ahead of the other now and then."""
    config = IntervalJoinConfig(columns=COLUMNS, before_ms=300, after_ms=200, how=how)  # type: ignore[arg-type]
    count = 20_000
    sides = {
        left: frame_of(
            [(str((number * step) % 97), number // 2 - (number * 7) % 9) for number in range(count)], left=left
        )
        for left, step in ((True, 31), (False, 43))
    }
    run = Run(config)
    for start in range(0, count, 400):
        run.feed(sides[True].slice(start, 400), left=True)
        if start % 2000 == 1600:
            for begin in range(start - 1600, start + 400, 100):
                run.feed(sides[False].slice(begin, 100), left=False)
    assert run.join.statistics().left_rows < 5000
    assert_frame_equal(in_order(run.end()), in_order(expected(config, sides[True], sides[False])))
