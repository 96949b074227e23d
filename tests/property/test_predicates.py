"""Predicates that go by the columns' own operators keep the rows that Polars' expressions keep."""

import operator

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from penstock.streams.predicates import direct

VALUES: dict[str, tuple[pl.DataType, SearchStrategy[object]]] = {
    "whole": (pl.Int64(), st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3)),
    "other": (pl.Int64(), st.integers(-3, 3)),
    "small": (pl.Int8(), st.integers(-128, 127)),
    "real": (pl.Float64(), st.floats() | st.integers(-3, 3).map(float)),
    "text": (pl.String(), st.text(max_size=3)),
    "true": (pl.Boolean(), st.booleans()),
}
SCHEMA = {name: dtype for name, (dtype, _) in VALUES.items()}
COMPARISONS = [operator.gt, operator.ge, operator.lt, operator.le, operator.eq, operator.ne]

rows = st.lists(st.fixed_dictionaries({name: st.none() | values for name, (_, values) in VALUES.items()}))
literals = {
    "whole": st.integers(-(2**70), 2**70) | st.integers(-3, 3) | st.floats(-3, 3),
    "small": st.integers(-300, 300),
    "real": st.floats() | st.integers(-(2**60), 2**60) | st.integers(-3, 3),
    "text": st.text(max_size=3),
}


@st.composite
def comparisons(draw: st.DrawFn) -> pl.Expr:
    name = draw(st.sampled_from(sorted(literals)))
    other = pl.col(draw(st.sampled_from(["whole", "other"]))) if name == "whole" else None
    right = draw(st.just(other) | literals[name]) if other is not None else draw(literals[name])
    expression: pl.Expr = draw(st.sampled_from(COMPARISONS))(pl.col(name), right)
    return expression


leaves = (
    comparisons()
    | st.sampled_from(sorted(VALUES)).map(lambda name: pl.col(name).is_not_null())
    | st.sampled_from(sorted(VALUES)).map(lambda name: pl.col(name).is_null())
    | st.just(pl.col("true"))
    | st.just(pl.col("whole").is_in([1, 2]))
)
predicates = st.recursive(
    leaves,
    lambda inner: (
        st.builds(operator.and_, inner, inner)
        | st.builds(operator.or_, inner, inner)
        | inner.map(operator.invert)
    ),
    max_leaves=5,
)


@given(predicates, rows)
def test_the_same_rows_are_kept(predicate: pl.Expr, given_rows: list[dict[str, object]]) -> None:
    frame = pl.DataFrame(given_rows, schema=SCHEMA)
    try:
        wanted = frame.filter(predicate)
    except pl.exceptions.PolarsError:
        return  # what Polars cannot do was refused where it was declared
    holds = direct(predicate, SCHEMA)
    if holds is not None:
        assert frame.filter(holds(frame)).equals(wanted)


@pytest.mark.parametrize(
    "predicate",
    [
        pl.col("whole").is_not_null(),
        (pl.col("whole") > 3) & pl.col("real").is_not_null(),
        ~((pl.col("text") == "x") | (pl.col("real") <= 0.5)),
        (pl.col("whole") != pl.col("other")) & pl.col("true"),
    ],
)
def test_the_common_forms_are_known(predicate: pl.Expr) -> None:
    assert direct(predicate, SCHEMA) is not None


@pytest.mark.parametrize(
    "predicate",
    [
        ~pl.col("whole").is_not_null(),  # null there is no false
        pl.col("whole") > 2**64,
        pl.col("small") > 1000,
        pl.col("whole") > 0.5,
        pl.col("real") > 2**53 + 1,
        pl.col("whole").is_in([1, 2]),
        pl.col("whole") + 1 > 3,
        pl.lit(value=True),
    ],
)
def test_all_else_is_for_polars(predicate: pl.Expr) -> None:
    assert direct(predicate, SCHEMA) is None
