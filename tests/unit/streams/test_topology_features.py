"""Views through all stages of an app, late events and restarts among them, against Polars over all events: what
is kept for reading, and what is appended to the history.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_runner import START_MS, StageRunner

import penstock as ps
from penstock.app.features import DeclaredFeatures
from penstock.app.streams import Stream
from penstock.core.errors import ConfigurationError
from penstock.features.embedded import EmbeddedOnlineStore
from penstock.features.history import Asked, as_of_join, as_served, history_schema
from penstock.features.online import Progress, Update
from penstock.features.timeline import read_timelines
from penstock.features.view import FeatureView, encode_keys

SCHEMA = {"flight": pl.Int64, "origin": pl.String, "carrier": pl.String, "delay": pl.Int64, "at": pl.Int64}
OVER_MS, EVERY_MS, LATENESS_MS = 60_000, 10_000, 20_000
KEYS = ["origin", "carrier"]


class KeptOnline:
    """What was put, and what was put last."""

    def __init__(self) -> None:
        self.puts: list[tuple[int, Update]] = []
        self.progress: dict[int, Progress] = {}
        self.last: dict[bytes, tuple[int, Update]] = {}

    def writer(self, view: FeatureView) -> "KeptOnline":
        return self

    def put(self, partition: int, updates: list[Update], progress: Progress) -> None:
        before = self.progress.get(partition)
        assert before is None or before.next_offset < progress.next_offset
        assert [each.offset for each in updates] == sorted(each.offset for each in updates)
        assert progress.partition == partition
        as_of_ms = max(progress.as_of_ms, before.as_of_ms if before is not None else -(2**62))
        self.progress[partition] = progress._replace(as_of_ms=as_of_ms)
        for update in updates:
            assert update.offset < progress.next_offset
            self.puts.append((partition, update))
            self.last[update.key] = (partition, update)


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, object]]:
    """Some events come later than others of before, and some later than the stream allows."""
    drawn = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["JFK", "EWR", None]),
                st.sampled_from(["AA", "UA"]),
                st.one_of(st.none(), st.integers(-50, 50)),
                st.sampled_from([0, 1, 900, 4_000, 15_000, 200_000]),
                st.sampled_from([0, 0, 0, 10, 5_000, 19_000, 30_000]),
            ),
            min_size=1, max_size=50,
        )
    )  # fmt: skip
    clock_ms, events = START_MS, []
    for number, (origin, carrier, delay, gap, behind) in enumerate(drawn):
        clock_ms += gap
        event = {"flight": number, "origin": origin, "carrier": carrier, "delay": delay}
        events.append({**event, "at": clock_ms - behind})
    return events


def on_time(events: pl.DataFrame) -> pl.DataFrame:
    """By Polars: what is not behind the watermark of its partition, all of which is one here."""
    before = pl.col("at").cum_max().shift().fill_null(0)
    return events.filter(pl.col("at") >= before - LATENESS_MS)


def windows(events: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """By Polars: for each row of `asked` (key, `time`) the aggregates of the events in the steps that end with
    that of its time.
    """
    step = pl.col("time") // EVERY_MS
    mine = pl.col("at") // EVERY_MS
    pairs = asked.with_row_index("row").join(events, on=KEYS, how="inner", nulls_equal=True)
    read = (
        pairs.filter(mine <= step, mine > step - OVER_MS // EVERY_MS)
        .group_by("row")
        .agg(
            n=pl.len().cast(pl.Int64),
            total=pl.when(pl.col("delay").count() > 0).then(pl.col("delay").sum()),
            worst=pl.col("delay").max(),
            mean=pl.col("delay").mean(),
        )
    )
    return (
        asked.with_row_index("row")
        .join(read, on="row", how="left", maintain_order="left")
        .select(
            pl.col("n").fill_null(0),
            pl.col("total").fill_null(0),
            pl.col("worst").fill_null(-1),
            pl.col("mean").fill_null(float("nan")),
            (pl.col("mean") > 0).fill_null(False).alias("late"),
        )
    )


def declared(app: ps.App, folder: Path, partitions: int) -> object:
    departures = app.stream(
        "departures", schema=SCHEMA, time="at", key="flight", partitions=partitions, lateness=LATENESS_MS / 1000
    )
    view = departures.window(key=KEYS, over=f"{OVER_MS}ms", every=f"{EVERY_MS}ms").agg(
        n=ps.count(), total=ps.sum("delay"), worst=ps.max("delay"), mean=ps.mean("delay")
    )
    return app.features(
        "congestion", view, (pl.col("mean") > 0).alias("late"), defaults={"worst": -1},
        history=ps.parquet(folder, every="1ms"),
    )  # fmt: skip


def equal(mine: pl.DataFrame, theirs: pl.DataFrame) -> bool:
    """Bit for bit, all NaN being one."""
    return mine.equals(theirs)


@settings(max_examples=60, deadline=None)
@given(histories(), st.integers(1, 20), st.booleans(), st.lists(st.integers(0, 90_000), min_size=5, max_size=5))
def test_one_partition(events: list[dict[str, object]], rows: int, restarts: bool, later: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        app = ps.App("flights")
        view = declared(app, Path(folder), 1).view
        online = app.streams.graph.online = KeptOnline()
        runner = StageRunner(app, rows, restarts=restarts)
        runner.produce("departures", events)
        runner.run()
        runner.tick(2.0)
        assert not runner.dead
        history = pl.read_parquet(Path(folder) / "*.parquet")
    frame = pl.DataFrame(events, schema=SCHEMA)
    taken = on_time(frame)
    reached_ms = max(frame["at"])
    assert online.progress[0].as_of_ms == reached_ms
    # What is kept for reading is the window as of any time from now on.
    keys = taken.select(KEYS).unique(maintain_order=True)
    encoded = encode_keys([keys[name].to_list() for name in KEYS])
    assert set(online.last) == set(encoded)
    records = [online.last[key][1].timeline for key in encoded]
    for after_ms in later:
        asked = keys.with_columns(time=pl.lit(reached_ms + after_ms))
        values = read_timelines(records, view.features, reached_ms + after_ms)
        mine = pl.DataFrame(
            [
                pl.Series(each.name, np.where(known, column, each.default), dtype=asked_type)
                for each, column, known, asked_type in zip(
                    view.features, values.columns, values.known,
                    (pl.Int64, pl.Int64, pl.Int64, pl.Float64, pl.Boolean), strict=True,
                )
            ]
        )  # fmt: skip
        assert equal(mine, windows(taken, asked)), (mine, windows(taken, asked))
    check_history(view, history, online, reached_ms)


def check_history(view: FeatureView, history: pl.DataFrame, online: KeptOnline, reached_ms: int) -> None:
    """It has all updates, each once, and gives what was served by any of them bit for bit."""
    assert history.schema == history_schema(view)
    updates = history.select(*KEYS, "partition", "offset").unique()
    per_record = [(update.key, partition, update.offset) for partition, update in online.puts]
    keys = encode_keys([updates[name].to_list() for name in KEYS])
    assert set(zip(keys, updates["partition"], updates["offset"], strict=True)) >= set(per_record)
    assert history.select(*KEYS, "partition", "offset", "valid_from").is_duplicated().sum() == 0
    for partition, update in online.puts:
        for time_ms in (0, reached_ms, reached_ms + 25_000, reached_ms + 10**9):
            served = read_timelines([update.timeline], view.features, time_ms)
            key = msgspec.msgpack.decode(update.key)
            asked = Asked(
                pl.DataFrame([key], schema={"origin": pl.String, "carrier": pl.String}, orient="row"),
                np.array([time_ms]), np.array([0]),
            )  # fmt: skip
            again, found = as_served(view, history, asked, np.array([partition]), np.array([update.offset]))
            assert found.all()
            values = [
                column[0].item() if known[0] else None
                for column, known in zip(served.columns, served.known, strict=True)
            ]
            assert repr(list(again.row(0))) == repr(values)


@settings(max_examples=30, deadline=None)
@given(histories(), st.integers(1, 20), st.booleans())
def test_several_partitions_in_order(events: list[dict[str, object]], rows: int, restarts: bool) -> None:
    """Rows cross to the partition of their key. None is late: watermarks wait for each other."""
    events = sorted(events, key=lambda event: event["at"])
    with tempfile.TemporaryDirectory() as folder:
        app = ps.App("flights")
        view = declared(app, Path(folder), 3).view
        online = app.streams.graph.online = KeptOnline()
        runner = StageRunner(app, rows, restarts=restarts)
        runner.produce("departures", events, key="flight")
        runner.run()
        runner.tick(2.0)
        history = pl.read_parquet(Path(folder) / "*.parquet")
    frame = pl.DataFrame(events, schema=SCHEMA)
    keys = frame.select(KEYS).unique(maintain_order=True)
    asked = keys.with_columns(time=pl.lit(max(frame["at"])))
    ends = Asked(keys, asked["time"].to_numpy(), np.full(keys.height, 2**60))
    assert equal(as_of_join(view, history, ends), windows(frame, asked))
    assert set(online.last) == set(encode_keys([keys[name].to_list() for name in KEYS]))


def two_windows() -> tuple[ps.App, Stream, DeclaredFeatures, DeclaredFeatures]:
    app = ps.App("two")
    schema = {"origin": pl.String, "carrier": pl.String, "delay": pl.Float64, "at": pl.Int64}
    departures = app.stream("departures", schema=schema, time="at")
    airports = departures.window(key="origin", over="1h").agg(departures=ps.count(), delays=ps.sum("delay"))
    carriers = departures.window(key="carrier", over="1h").agg(flights=ps.count())
    by_airport = app.features("airports", airports, (pl.col("delays") * 2).alias("doubled"))
    return app, departures, by_airport, app.features("carriers", carriers, defaults={"flights": -1})


def test_a_stream_has_the_features_of_several_of_its_windows(tmp_path: Path) -> None:
    app, departures, airports, carriers = two_windows()
    departures.enrich(airports).with_columns(other=pl.lit(1)).enrich(carriers).into("enriched")
    app.streams.graph.online = EmbeddedOnlineStore(tmp_path)
    runner = StageRunner(app)
    runner.produce(
        "departures",
        [
            {"origin": "EWR", "carrier": "UA", "delay": 1.0, "at": START_MS},
            {"origin": "EWR", "carrier": "AA", "delay": 2.0, "at": START_MS + 1},
            {"origin": "JFK", "carrier": "UA", "delay": 4.0, "at": START_MS + 2},
        ],
    )
    runner.run()

    rows = [
        (row["departures"], row["delays"], row["doubled"], row["flights"]) for row in runner.rows("enriched")
    ]
    assert rows == [(1, 1.0, 2.0, 1), (2, 3.0, 6.0, 1), (1, 4.0, 8.0, 2)]


@pytest.mark.parametrize(
    "change",
    [
        lambda stream: stream.with_columns(pl.col("delay") * 2),
        lambda stream: stream.with_columns(origin=pl.lit("x")),
        lambda stream: stream.filter(pl.col("delay") > 0),
        lambda stream: stream.deduplicate("origin", within="1h"),
        lambda stream: stream.map(lambda frame: frame),
    ],
)
def test_a_window_is_not_read_by_a_stream_of_other_rows_or_values(change: Callable[[Stream], Stream]) -> None:
    _, departures, airports, _ = two_windows()

    with pytest.raises(ConfigurationError, match="is a window over another stream"):
        change(departures).enrich(airports)
