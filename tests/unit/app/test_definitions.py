import polars as pl
import pytest

import penstock as ps
from penstock.app.streams import Stream

SCHEMA = {"origin": pl.String, "delay": pl.Float64, "at": pl.Int64}


def doubled(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col("delay") * 2)


def tripled(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col("delay") * 3)


def stream(**options: object) -> Stream:
    return ps.App("flights").stream("departures", schema=SCHEMA, time="at", **options)  # type: ignore[arg-type]


def definition(
    events: Stream, *expressions: pl.Expr, over: str = "1m", every: str = "10s", worst: object = None
) -> str:
    worst = worst or ps.max("delay")
    window = events.window(key="origin", over=over, every=every).agg(n=ps.count(), worst=worst)  # type: ignore[arg-type]
    return ps_features(window, *expressions)


def ps_features(window: object, *expressions: pl.Expr) -> str:
    app = ps.App("flights")
    return app.features("v", window, *expressions).view.definition  # type: ignore[arg-type]


IN_LIST = pl.col("origin").is_in(["JFK", "EWR"])
OTHERS = {
    "another length": lambda: definition(stream(), over="2m"),
    "another step": lambda: definition(stream(), every="20s"),
    "another aggregate": lambda: definition(stream(), worst=ps.min("delay")),
    "an expression": lambda: definition(stream(), pl.col("worst").round(2)),
    "another rounding": lambda: definition(stream(), pl.col("worst").round(3)),
    "an expectation": lambda: definition(stream(expect={"e": pl.col("delay") > 0})),
    "a filter": lambda: definition(stream().filter(IN_LIST)),
    "a filter of another list": lambda: definition(stream().filter(pl.col("origin").is_in(["JFK", "LGA"]))),
    "a column changed": lambda: definition(stream().with_columns(pl.col("delay") * 2)),
    "a function": lambda: definition(stream().map(doubled)),
    "another function": lambda: definition(stream().map(tripled)),
    "a branch": lambda: definition(stream().branch(a=IN_LIST, otherwise="b")["a"]),
    "the other branch": lambda: definition(stream().branch(a=IN_LIST, otherwise="b")["b"]),
}
SAME = {
    "again": lambda: definition(stream()),
    "more partitions": lambda: definition(stream(key="origin", partitions=4)),
    "a column that is not looked at": lambda: definition(stream().with_columns(x=pl.col("delay") * 2)),
    "repartitioned": lambda: definition(stream().repartition("origin")),
}


def test_all_that_changes_values_is_another_definition() -> None:
    found = {case: make() for case, make in OTHERS.items()} | {"as it was": definition(stream())}
    assert len(set(found.values())) == len(found), found
    again = {case: make() for case, make in OTHERS.items()}
    assert again.items() <= found.items()


@pytest.mark.parametrize("case", SAME)
def test_what_changes_no_value_is_the_same(case: str) -> None:
    assert SAME[case]() == definition(stream())
