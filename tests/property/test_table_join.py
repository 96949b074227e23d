"""The table join against Polars over the whole history, and against a dictionary, restored anywhere."""

from collections.abc import Callable

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from penstock.streams.joins.columns import JoinColumns
from penstock.streams.joins.table import TableJoin, TableJoinConfig
from penstock.streams.operator import DELETED, OFFSET, TIME, TwoMoment
from penstock.streams.watermark import Watermark, WatermarkConfig

LEFT = pl.Schema({"key": pl.String(), "v": pl.Int64()})
TABLE = pl.Schema({"name": pl.String(), "v": pl.Int64()})
COLUMNS = JoinColumns(left=LEFT, right=TABLE, left_key=["key"], right_key=["name"])
OUT = pl.Schema(
    {"key": pl.String(), "v": pl.Int64(), "v_right": pl.Int64(), TIME: pl.Int64(), OFFSET: pl.Int64()}
)
LATENESS_MS = 8
END_MS = 10**9

keys = st.sampled_from(["x", "x", "y", None])
event = st.tuples(keys, st.integers(-10, 30))
events = st.lists(event, max_size=5) | st.lists(event, min_size=20, max_size=40)
record = st.tuples(keys, st.integers(-10, 30), st.sampled_from([False, False, True]))
records = st.lists(record, max_size=5) | st.lists(record, min_size=20, max_size=40)


def stream_of(side: list[tuple[str | None, int]]) -> pl.DataFrame:
    numbers = list(range(len(side)))
    columns = {"key": [key for key, _ in side], "v": numbers, TIME: [time for _, time in side], OFFSET: numbers}
    return pl.DataFrame(columns, schema={**LEFT, TIME: pl.Int64(), OFFSET: pl.Int64()})


def table_of(side: list[tuple[str | None, int, bool]]) -> pl.DataFrame:
    numbers = list(range(len(side)))
    columns = {
        "name": [key for key, _, _ in side],
        "v": [None if deleted else number for number, (_, _, deleted) in enumerate(side)],
        TIME: [time for _, time, _ in side],
        OFFSET: numbers,
        DELETED: [deleted for _, _, deleted in side],
    }
    schema = {**TABLE, TIME: pl.Int64(), OFFSET: pl.Int64(), DELETED: pl.Boolean()}
    return pl.DataFrame(columns, schema=schema)


class Run:
    """Feeds both sides, without their late events, and carries the join over by what it kept."""

    def __init__(self, config: TableJoinConfig) -> None:
        self.config = config
        self.join: TableJoin = config.build(None)
        self.marks: dict[bool, Watermark] = {
            left: WatermarkConfig(lateness_ms=LATENESS_MS).build(None) for left in (True, False)
        }
        self.out: list[pl.DataFrame] = [pl.DataFrame(schema=OUT)]
        self.seen: dict[bool, list[pl.DataFrame]] = {True: [], False: []}
        self.kept = self.join.snapshot()
        self.changes: list[bytes] = []

    def feed(self, frame: pl.DataFrame, *, left: bool) -> None:
        late = self.marks[left].split(frame[TIME].to_numpy())
        frame = frame.filter(~late)
        self.seen[left].append(frame)
        moment = TwoMoment(
            left_watermark_ms=self.marks[True].watermark_ms,
            right_watermark_ms=self.marks[False].watermark_ms,
            now_ms=0,
        )
        self.process(frame, moment, left=left)

    def process(self, frame: pl.DataFrame, moment: TwoMoment, *, left: bool) -> None:
        process = self.join.process_left if left else self.join.process_right
        self.out += process(frame, moment)
        self.changes.append(self.join.take_changes())

    def restore(self, *, anew: bool) -> None:
        if anew:
            self.kept = self.join.snapshot()
            self.changes.clear()
        before = self.join.statistics()
        self.join = self.config.build(self.kept)
        for change in self.changes:
            self.join.apply_changes(change)
        assert self.join.statistics() == before


def drive(run: Run, stream: pl.DataFrame, table: pl.DataFrame, data: st.DataObject) -> None:
    """Any interleaving, any frames, restored now and then."""
    sides, done = {True: stream, False: table}, {True: 0, False: 0}
    while open_sides := [left for left in (True, False) if done[left] < sides[left].height]:
        left = data.draw(st.sampled_from(open_sides))
        height = data.draw(st.sampled_from([1, 2, 5, 40]))
        run.feed(sides[left].slice(done[left], height), left=left)
        done[left] += height
        restoring = data.draw(st.sampled_from([None, None, False, True]))
        if restoring is not None:
            run.restore(anew=restoring)


def as_of(stream: pl.DataFrame, table: pl.DataFrame, ttl_ms: int) -> pl.DataFrame:
    """Polars' own, over everything."""
    versions = table.filter(pl.col("name").is_not_null()).sort(TIME, maintain_order=True)
    versions = versions.rename({"v": "v_right", "name": "key"}).drop(OFFSET)
    joined = stream.sort(TIME, maintain_order=True).join_asof(
        versions, on=TIME, by="key", strategy="backward", tolerance=ttl_ms, check_sortedness=False
    )
    return joined.select(OUT.names())


@settings(max_examples=60, deadline=None)
@given(events, records, st.sampled_from([0, 5, 30, 1000]), st.data())
def test_as_of_is_the_asof_join_of_the_whole_history(
    left: list[tuple[str | None, int]],
    right: list[tuple[str | None, int, bool]],
    ttl_ms: int,
    data: st.DataObject,
) -> None:
    run = Run(TableJoinConfig(columns=COLUMNS, ttl_ms=ttl_ms, mode="as_of"))
    drive(run, stream_of(left), table_of(right), data)
    end = TwoMoment(left_watermark_ms=END_MS, right_watermark_ms=END_MS, now_ms=0)
    run.process(stream_of([]), end, left=True)
    assert run.join.statistics().waiting_rows == 0
    assert run.join.statistics().versions == 0, "nothing is kept for ever"
    wanted = as_of(
        pl.concat([stream_of([]), *run.seen[True]]), pl.concat([table_of([]), *run.seen[False]]), ttl_ms
    )
    assert_frame_equal(pl.concat(run.out).sort(OFFSET), wanted.sort(OFFSET))


@settings(max_examples=60, deadline=None)
@given(events, records, st.sampled_from([0, 5, 30, 1000]), st.data())
def test_latest_is_what_a_dictionary_has(
    left: list[tuple[str | None, int]],
    right: list[tuple[str | None, int, bool]],
    ttl_ms: int,
    data: st.DataObject,
) -> None:
    run = Run(TableJoinConfig(columns=COLUMNS, ttl_ms=ttl_ms))
    known: dict[str, tuple[int, int | None]] = {}
    wanted: list[tuple[int, int | None]] = []
    feed: Callable[..., None] = run.feed

    def following(frame: pl.DataFrame, *, left: bool) -> None:
        feed(frame, left=left)
        for row in run.seen[left][-1].iter_rows(named=True):
            if left:
                time, value = known.get(row["key"], (row[TIME], None))
                wanted.append((row[OFFSET], value if row[TIME] - time <= ttl_ms else None))
            elif row["name"] is not None:
                known[row["name"]] = (row[TIME], row["v"])

    run.feed = following  # type: ignore[method-assign]
    drive(run, stream_of(left), table_of(right), data)
    assert pl.concat(run.out).select(OFFSET, "v_right").rows() == wanted
