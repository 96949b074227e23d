"""Branches: each row goes where its predicate says, also beside rows that break it."""

import polars as pl
import pytest

from penstock.core.errors import ConfigurationError
from penstock.streams.branching import BranchesConfig
from penstock.streams.operator import OFFSET, TIME

SCHEMA = pl.Schema({"a": pl.Int64(), "s": pl.String()})
PREDICATES = {"a": pl.col("a") >= 2, "odd": pl.col("a") % 2 == 1}


def frame_of(values: list[int | None], texts: list[str] | None = None) -> pl.DataFrame:
    return pl.DataFrame(
        {"a": values, "s": texts or ["0"] * len(values), TIME: 0, OFFSET: range(len(values))},
        schema={"a": pl.Int64, "s": pl.String, TIME: pl.Int64, OFFSET: pl.Int64},
    )


def test_a_row_takes_the_first_branch_that_fits() -> None:
    result = (
        BranchesConfig(predicates=PREDICATES, otherwise="rest")
        .build(SCHEMA)
        .apply(frame_of([0, 1, 2, 3, None]))
    )
    assert {name: frame[OFFSET].to_list() for name, frame in result.frames.items()} == {
        "a": [2, 3],
        "odd": [1],
        "rest": [0, 4],
    }
    assert all(frame.columns == ["a", "s", TIME, OFFSET] for frame in result.frames.values())


def test_or_all_that_fit() -> None:
    result = BranchesConfig(predicates=PREDICATES, all_matches=True).build(SCHEMA).apply(frame_of([0, 1, 2, 3]))
    assert {name: frame["a"].to_list() for name, frame in result.frames.items()} == {"a": [2, 3], "odd": [1, 3]}


def test_rows_on_which_a_predicate_raises_are_set_aside() -> None:
    config = BranchesConfig(predicates={"big": pl.col("s").cast(pl.Int64) > 1, "all": pl.lit(value=True)})
    result = config.build(SCHEMA).apply(frame_of([1, 2, 3, 4], ["2", "x", "1", "3"]))
    assert result.frames["big"]["a"].to_list() == [1, 4]
    assert result.frames["all"]["a"].to_list() == [3]
    assert [row.offset for row in result.failed] == [1]
    everything = config.build(SCHEMA).apply(frame_of([1], ["x"]))
    assert [row.offset for row in everything.failed] == [0]
    assert all(frame.is_empty() for frame in everything.frames.values())


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (BranchesConfig(predicates={}), "no predicate"),
        (BranchesConfig(predicates={"x": pl.col("q") > 1}), '"q"'),
        (BranchesConfig(predicates={"x": pl.col("a") > 1}, otherwise="x"), "'x'"),
        (BranchesConfig(predicates={"x": pl.all_horizontal(pl.exclude("s") > 1)}), "several columns"),
    ],
)
def test_what_cannot_work_is_refused(config: BranchesConfig, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        config.build(SCHEMA)
