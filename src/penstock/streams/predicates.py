"""Predicates of the common forms, told without Polars' planner.

An expression goes through the planner and its threads, which costs a frame of a few hundred rows five times as
much as the comparison itself. Comparisons of a column with a value or another column, tests for null, and their
combinations are what filters mostly are: they are taken apart once, and computed by the columns' own operators,
which are the same kernels. Everything else is for Polars.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

__all__ = ["Holds", "direct"]

Holds = Callable[[pl.DataFrame], pl.Series]
"""For each row whether it holds; where it does not, false or null."""

_COMPARISONS = (operator.gt, operator.ge, operator.lt, operator.le, operator.eq, operator.ne)
_EXACT_FLOAT = 1 << 53
_BITS: Mapping[pl.DataType, int] = {pl.Int8(): 8, pl.Int16(): 16, pl.Int32(): 32, pl.Int64(): 64}


def direct(predicate: pl.Expr, schema: Mapping[str, pl.DataType]) -> Holds | None:
    """What tells the same rows as the predicate does, for frames of these columns; None where its form is not
    known here.
    """
    try:
        return _positive(predicate, schema)
    except (AttributeError, pl.exceptions.PolarsError):
        return None


def _positive(expression: pl.Expr, schema: Mapping[str, pl.DataType]) -> Holds | None:
    """Where false and null come to the same: not below a negation."""
    inner = expression.meta.pop()
    if len(inner) == 1 and inner[0].meta.is_column() and expression.meta.eq(inner[0].is_not_null()):
        name = inner[0].meta.output_name()
        return _not_null(name) if _comparable(schema[name]) else None
    if len(inner) == 2:
        right, left = inner
        for combine in (operator.and_, operator.or_):
            if expression.meta.eq(combine(left, right)):
                return _combined(combine, _positive(left, schema), _positive(right, schema))
    return _exact(expression, schema)


def _exact(expression: pl.Expr, schema: Mapping[str, pl.DataType]) -> Holds | None:
    """Null where Polars has null."""
    if expression.meta.is_column():
        name = expression.meta.output_name()
        return _column(name) if schema[name] == pl.Boolean() else None
    inner = expression.meta.pop()
    if len(inner) == 1 and expression.meta.eq(inner[0].not_()):
        holds = _exact(inner[0], schema)
        return None if holds is None else lambda frame: ~holds(frame)
    if len(inner) != 2:
        return None
    right, left = inner
    for combine in (operator.and_, operator.or_):
        if expression.meta.eq(combine(left, right)):
            return _combined(combine, _exact(left, schema), _exact(right, schema))
    return _comparison(expression, left, right, schema)


def _comparison(
    expression: pl.Expr, left: pl.Expr, right: pl.Expr, schema: Mapping[str, pl.DataType]
) -> Holds | None:
    compare = next((each for each in _COMPARISONS if expression.meta.eq(each(left, right))), None)
    if compare is None or not left.meta.is_column():
        return None
    name = left.meta.output_name()
    dtype = schema[name]
    if right.meta.is_column():
        other = right.meta.output_name()
        if schema[other] != dtype or not _comparable(dtype):
            return None
        return lambda frame: compare(frame.get_column(name), frame.get_column(other))
    if not right.meta.is_literal():
        return None
    value = pl.select(right).item()
    return (lambda frame: compare(frame.get_column(name), value)) if _is_of(dtype, value) else None


def _is_of(dtype: pl.DataType, value: Any) -> bool:
    """Whether comparing such a column with the value casts neither of them in a way that could matter."""
    if type(value) is int:
        bits = _BITS.get(dtype)
        if bits is not None:
            return -(1 << bits - 1) <= value < 1 << bits - 1
        return dtype == pl.Float64() and abs(value) <= _EXACT_FLOAT
    return (type(value) is float and dtype == pl.Float64()) or (type(value) is str and dtype == pl.String())


def _comparable(dtype: pl.DataType) -> bool:
    return dtype.is_integer() or dtype.is_float() or dtype.is_temporal() or dtype in (pl.String(), pl.Boolean())


def _combined(combine: Callable[[Any, Any], Any], left: Holds | None, right: Holds | None) -> Holds | None:
    if left is None or right is None:
        return None
    return lambda frame: combine(left(frame), right(frame))


def _column(name: str) -> Holds:
    return lambda frame: frame.get_column(name)


def _not_null(name: str) -> Holds:
    """What is there equals itself, NaN among it; null does not."""

    def holds(frame: pl.DataFrame) -> pl.Series:
        column = frame.get_column(name)
        return column == column  # noqa: PLR0124 - Polars' own test goes through the planner

    return holds
