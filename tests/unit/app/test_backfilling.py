"""Histories of older events against Polars: at any time what the window would have had."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock as ps
from penstock.app import backfilling
from penstock.app.backfilling import Backfilling
from penstock.app.features import DeclaredFeatures
from penstock.core.errors import ConfigurationError
from penstock.features.history import Asked, as_of_join
from penstock.features.timeline import read_timelines
from penstock.features.view import encode_keys

SCHEMA = {"origin": pl.String, "carrier": pl.String, "delay": pl.Int64, "at": pl.Int64}
KEYS = ["origin", "carrier"]
START_MS, OVER_MS, EVERY_MS = 1_700_000_000_000, 60_000, 10_000
NOW_MS = START_MS + 10**9


def declared(partitions: int = 3) -> DeclaredFeatures:
    app = ps.App("flights")
    departures = app.stream(
        "departures", schema=SCHEMA, time="at", key="origin", partitions=partitions, lateness="20s",
        expect={"known": pl.col("carrier") != "XX"},
    )  # fmt: skip
    flown = departures.filter(pl.col("delay").fill_null(0) < 1000).repartition("carrier")
    window = flown.window(key=KEYS, over=f"{OVER_MS}ms", every=f"{EVERY_MS}ms")
    view = window.agg(n=ps.count(), total=ps.sum("delay"), worst=ps.max("delay"), mean=ps.mean("delay"))
    return app.features("congestion", view, (pl.col("mean") > 0).alias("late"), defaults={"worst": -1})


@st.composite
def histories(draw: st.DrawFn) -> pl.DataFrame:
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["JFK", "EWR", None]),
                st.sampled_from(["AA", "UA", "XX"]),
                st.one_of(st.none(), st.integers(-50, 50), st.just(1000)),
                st.integers(0, 300_000).map(lambda after: START_MS + after),
            ),
            max_size=50,
        )
    )
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def windows(events: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """For each row of `asked` the aggregates of events until its time, in the steps that end with its own."""
    taken = events.filter(pl.col("carrier") != "XX", pl.col("delay").fill_null(0) < 1000)
    pairs = asked.with_row_index("row").join(taken, on=KEYS, how="inner", nulls_equal=True)
    steps = pl.col("time") // EVERY_MS - pl.col("at") // EVERY_MS
    read = (
        pairs.filter(pl.col("at") <= pl.col("time"), steps < OVER_MS // EVERY_MS)
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


QUESTIONS = st.lists(
    st.tuples(
        st.sampled_from(["JFK", "EWR", None, "LGA"]),
        st.sampled_from(["AA", "UA"]),
        st.integers(-10_000, 400_000).map(lambda after: START_MS + after),
    ),
    min_size=1, max_size=20,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(histories(), QUESTIONS, st.integers(1, 60))
def test_at_any_time_it_has_what_the_window_would_have_had(
    events: pl.DataFrame, questions: list[tuple], frame_rows: int
) -> None:
    features = declared()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backfilling, "FRAME_ROWS", frame_rows)
        computing = Backfilling(features, NOW_MS, online=True)
        frames = list(computing.rows(computing.in_order(events)))
    asked = pl.DataFrame(
        questions, schema={"origin": pl.String, "carrier": pl.String, "time": pl.Int64}, orient="row"
    )
    # Also at the very times of events.
    asked = pl.concat([asked, events.filter(pl.col("carrier") != "XX").select(*KEYS, time="at")])
    if not frames:
        assert windows(events, asked)["n"].sum() == 0
        return
    history = pl.concat(frames)
    times_ms = asked["time"].to_numpy()
    joined = as_of_join(features.view, history, Asked(asked.select(KEYS), times_ms, times_ms))
    assert joined.equals(windows(events, asked))
    assert (history["partition"] == -1).all()
    taken = events.filter(pl.col("carrier") != "XX", pl.col("delay").fill_null(0) < 1000)
    assert history["offset"].n_unique() == taken.height, "an update for each event"
    assert history["available_at"].equals(history["event_time"].alias("available_at"))
    assert computing.refused["expectation"] == events.filter(pl.col("carrier") == "XX").height
    check_last(features, computing, events)


def check_last(features: DeclaredFeatures, computing: Backfilling, events: pl.DataFrame) -> None:
    """What is known in the end, now and later."""
    known = computing.known()
    keys = events.filter(pl.col("carrier") != "XX", pl.col("delay").fill_null(0) < 1000).select(KEYS).unique()
    encoded = encode_keys([keys[name].to_list() for name in KEYS])
    by_key = {update.key: update for update in known}
    assert len(known) == len(by_key)
    assert set(by_key) == set(encoded)
    for after_ms in (300_000, 330_000, 10**8):
        read = read_timelines(
            [by_key[key].timeline for key in encoded], features.view.features, START_MS + after_ms
        )
        expected = windows(events, keys.with_columns(time=pl.lit(START_MS + after_ms)))
        assert np.where(read.known[0], read.columns[0], 0).tolist() == expected["n"].to_list()
        assert np.where(read.known[2], read.columns[2], -1).tolist() == expected["worst"].to_list()


def test_rows_that_no_event_can_be_are_refused_and_the_others_are_not() -> None:
    events = pl.DataFrame(
        {
            "origin": ["JFK", "JFK", "JFK", "JFK"],
            "carrier": ["AA"] * 4,
            "delay": [1, 2, 3, 4],
            "at": [START_MS + 3, None, -5, START_MS + 10**12],
        }
    )
    computing = Backfilling(declared(), NOW_MS)
    history = pl.concat(list(computing.rows(computing.in_order(events))))
    assert history["total"].max() == 1
    assert dict(computing.refused) == {"schema": 1, "time_out_of_range": 2}


def test_a_row_on_which_an_expression_fails_is_not_known() -> None:
    app = ps.App("flights")
    departures = app.stream("departures", schema=SCHEMA, time="at")
    view = departures.window(key="origin", over="1m").agg(n=ps.count())
    features = app.features(
        "congestion", view, (pl.col("n") - 3).cast(pl.UInt8).alias("above"), defaults={"n": -1}
    )
    events = pl.DataFrame(
        {"origin": ["JFK"] * 4, "at": [START_MS] * 4}, schema={"origin": pl.String, "at": pl.Int64}
    )
    computing = Backfilling(features, NOW_MS)
    history = pl.concat(list(computing.rows(events.with_columns(carrier=pl.lit("AA"), delay=pl.lit(1)))))
    heads = history.sort("offset", "valid_from").group_by("offset", maintain_order=True).first()
    assert heads["n"].to_list() == [None, None, 3, 4]
    assert heads["above"].to_list() == [None, None, 0, 1]
    assert computing.refused["raised"] >= 2


def test_a_view_may_stand_on_others_as_they_are_enriched_and_as_they_close() -> None:
    app = ps.App("flights")
    departures = app.stream("departures", schema=SCHEMA, time="at")
    first = app.features("first", departures.window(key="origin", over="1m", every="10s").agg(n=ps.count()))
    second = departures.enrich(first).window(key="carrier", over="1m", every="10s").agg(most=ps.max("n"))
    third = departures.window(key="origin", over="10s", name="tens").agg(ten=ps.count())
    views = [
        app.features("second", second),
        app.features(
            "third", third.closed.window(key="origin", over="1m", name="minutes").agg(most=ps.max("ten"))
        ),
    ]
    events = pl.DataFrame(
        {"origin": ["JFK"] * 6, "carrier": ["AA"] * 6, "delay": [1] * 6, "at": [START_MS + n for n in range(6)]}
    )
    late = events.with_columns(pl.col("at") + 120_000)
    for view, most in zip(views, (6, 6), strict=True):
        computing = Backfilling(view, NOW_MS)
        history = pl.concat(list(computing.rows(pl.concat([events, late]))))
        assert history["most"].max() == most
        for operator in computing._stage._single.values():
            assert operator._updated == []
            assert operator._closed == []


def test_what_comes_of_a_join_is_refused() -> None:
    app = ps.App("flights")
    left, right = (app.stream(name, schema=SCHEMA, time="at") for name in ("left", "right"))
    view = left.join(right, key="origin", before="1m").window(key="origin", over="1m").agg(n=ps.count())
    with pytest.raises(ConfigurationError, match="come of a join"):
        Backfilling(app.features("congestion", view), NOW_MS)


def test_a_stream_without_a_column_of_times_is_refused() -> None:
    app = ps.App("flights")
    view = app.stream("departures", schema=SCHEMA).window(key="origin", over="1m").agg(n=ps.count())
    computing = Backfilling(app.features("congestion", view), NOW_MS)
    with pytest.raises(ConfigurationError, match="has no column of times"):
        computing.in_order(pl.DataFrame(schema=SCHEMA))
