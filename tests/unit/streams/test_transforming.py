"""Transforms by expressions: what is refused where they are declared, and rows that break them."""

from collections.abc import Callable

import polars as pl
import pytest
from polars import selectors as cs

from penstock.core.errors import ConfigurationError
from penstock.streams.operator import OFFSET, TIME
from penstock.streams.transforming import (
    Drop,
    Filter,
    Rename,
    Select,
    TransformConfig,
    WithColumns,
    empty_frame,
)

SCHEMA = pl.Schema({"a": pl.Int64(), "b": pl.Float64(), "s": pl.String()})


def frame_of(*texts: str | None) -> pl.DataFrame:
    count = len(texts)
    return pl.DataFrame(
        {
            "a": list(range(count)),
            "b": [float(number) for number in range(count)],
            "s": list(texts),
            TIME: [1000 + number for number in range(count)],
            OFFSET: [10 + number for number in range(count)],
        },
        schema={**SCHEMA, TIME: pl.Int64(), OFFSET: pl.Int64()},
    )


def test_filter_keeps_what_is_true_and_not_null() -> None:
    transform = Filter(predicate=pl.col("s") != "x").build(SCHEMA)
    result = transform.apply(frame_of("x", "y", None, "z"))
    assert result.frame[OFFSET].to_list() == [11, 13]
    assert result.failed == ()
    assert transform.schema == SCHEMA


def test_what_expands_does_not_see_the_reserved_columns() -> None:
    frame = frame_of("x", "y")
    assert Filter(predicate=pl.all_horizontal(pl.exclude("s") < 1)).build(SCHEMA).apply(frame).frame.height == 1
    transform = WithColumns(expressions=[cs.numeric().cast(pl.Int8)]).build(SCHEMA)
    result = transform.apply(frame).frame
    assert result.schema[TIME] == pl.Int64()
    assert transform.schema == {"a": pl.Int8(), "b": pl.Int8(), "s": pl.String()}
    selected = Select(expressions=[pl.all(), pl.lit(1).alias("one")]).build(SCHEMA)
    result = selected.apply(frame).frame
    assert result.columns == ["a", "b", "s", "one", TIME, OFFSET]
    assert result["one"].to_list() == [1, 1]


def test_columns_are_added_chosen_renamed_and_dropped() -> None:
    frame = frame_of("x", "y")
    added = WithColumns(expressions=[(pl.col("a") + 1).alias("c"), pl.col(TIME).alias("at")]).build(SCHEMA)
    assert added.apply(frame).frame["c"].to_list() == [1, 2]
    assert added.schema.names() == ["a", "b", "s", "c", "at"]
    chosen = Select(expressions=[pl.lit("k").alias("k")]).build(SCHEMA)
    assert chosen.apply(frame).frame.columns == ["k", TIME, OFFSET]
    assert chosen.apply(frame).frame["k"].to_list() == ["k", "k"]
    renamed = Rename(names={"a": "z"}).build(SCHEMA)
    assert renamed.apply(frame).frame.columns[:3] == ["z", "b", "s"]
    assert renamed.schema.names() == ["z", "b", "s"]
    dropped = Drop(names=["a", "s"]).build(SCHEMA)
    assert dropped.apply(frame).frame.columns == ["b", TIME, OFFSET]
    assert dropped.schema.names() == ["b"]


@pytest.mark.parametrize(
    "config",
    [
        Filter(predicate=pl.col("a") > 1),
        WithColumns(expressions=[pl.lit(1).alias("one")]),
        WithColumns(expressions=[pl.all().cast(pl.String)]),
        Select(expressions=[pl.lit(1).alias("one")]),
        Select(expressions=[pl.all(), pl.lit(1).alias("one")]),
        Rename(names={"a": "z"}),
        Drop(names=["a"]),
    ],
    ids=lambda config: type(config).__name__,
)
def test_what_is_declared_is_what_comes(config: TransformConfig) -> None:
    transform = config.build(SCHEMA)
    for frame in (frame_of("x", "y"), frame_of()):
        result = transform.apply(frame).frame
        assert dict(result.schema) == dict(empty_frame(transform.schema).schema)
        assert result[TIME].to_list() == frame[TIME].to_list()[2 - result.height :]


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (Filter(predicate=pl.col("q") > 1), '"q"'),
        (Filter(predicate=pl.col("a") + 1), "Boolean"),
        (Filter(predicate=pl.col("a").shift(1) > 0), "several rows"),
        (Filter(predicate="a > 1"), "no Polars expression"),  # type: ignore[arg-type]
        (WithColumns(expressions=[pl.col("a").cum_sum().alias("c")]), "several rows"),
        (WithColumns(expressions=[pl.len().alias("n")]), "several rows"),
        (WithColumns(expressions=[pl.col("a").alias("_c")]), "'_c'"),
        (WithColumns(expressions=[pl.col("a").alias(TIME)]), "reserved"),
        (WithColumns(expressions=[]), "no expression"),
        (Select(expressions=[pl.col("q")]), '"q"'),
        (Select(expressions=[pl.col("a"), pl.col("b").alias("a")]), "select"),
        (Select(expressions=[pl.col(TIME)]), "reserved"),
        (Rename(names={"q": "r"}), "'q'"),
        (Rename(names={"a": "b"}), "rename"),
        (Rename(names={"a": "_b"}), "'_b'"),
        (Rename(names={TIME: "t"}), TIME),
        (Drop(names=["q"]), "'q'"),
        (Drop(names=["a", "b", "s"]), "leaves no column"),
    ],
)
def test_what_cannot_work_is_refused_where_it_is_declared(config: TransformConfig, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as raised:
        config.build(SCHEMA)
    assert raised.value.hint


def test_columns_that_exist_are_named() -> None:
    with pytest.raises(ConfigurationError) as raised:
        Filter(predicate=pl.col("q") > 1).build(SCHEMA)
    assert raised.value.hint == "the columns are a, b, s"


@pytest.mark.parametrize(
    "make",
    [
        lambda number: WithColumns(expressions=[number.alias("n")]),
        lambda number: Select(expressions=[number.alias("n")]),
        lambda number: Filter(predicate=number >= 0),
    ],
)
def test_rows_on_which_an_expression_raises_are_set_aside(make: Callable[[pl.Expr], TransformConfig]) -> None:
    transform = make(pl.col("s").cast(pl.Int64)).build(SCHEMA)
    texts = [str(number) for number in range(500)]
    texts[17] = "poison"
    texts[400] = ""
    result = transform.apply(frame_of(*texts))
    assert [row.offset for row in result.failed] == [27, 410]
    assert [row.time_ms for row in result.failed] == [1017, 1400]
    assert {row.reason for row in result.failed} == {"raised"}
    assert "poison" in result.failed[0].detail
    assert "\n" not in result.failed[0].detail
    assert result.frame[OFFSET].to_list() == [10 + n for n in range(500) if n not in (17, 400)]


def test_where_all_rows_raise_none_goes_on() -> None:
    transform = Select(expressions=[pl.col("s").cast(pl.Int64).alias("n")]).build(SCHEMA)
    result = transform.apply(frame_of("x", "y"))
    assert result.frame.is_empty()
    assert result.frame.schema == {"n": pl.Int64(), TIME: pl.Int64(), OFFSET: pl.Int64()}
    assert len(result.failed) == 2


@pytest.mark.parametrize(
    "predicate",
    [
        pl.col("delay") > 1,
        pl.col("delay").is_not_null() & (pl.col("carrier") != "B"),
        pl.lit(value=True),
        pl.lit(value=False),
        pl.lit(None, dtype=pl.Boolean),
    ],
)
@pytest.mark.parametrize("height", [0, 1, 5])
def test_a_filter_gives_what_polars_gives(predicate: pl.Expr, height: int) -> None:
    """Null is not true; a literal counts for each row."""
    rows = pl.DataFrame(
        {
            "delay": pl.Series([1, 2, None, 4, 0], dtype=pl.Int64),
            "carrier": ["A", "B", "C", None, "B"],
            TIME: [10, 20, 30, 40, 50],
            OFFSET: [0, 1, 2, 3, 4],
        }
    ).head(height)
    built = Filter(predicate=predicate).build(pl.Schema({"delay": pl.Int64(), "carrier": pl.String()}))
    assert built.apply(rows).frame.equals(rows.filter(predicate))
