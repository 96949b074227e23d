"""Transforms of frames by Polars expressions: checked where they are declared, and row by row where they run.

A transform keeps nothing from frame to frame. An expression over several rows (a mean, a shift, a rank) would
give another result for other frames, so it is refused where Polars can tell; windows are for those.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from penstock.core.errors import ConfigurationError
from penstock.streams.isolating import Transformed, attempt, isolate
from penstock.streams.operator import OFFSET, TIME
from penstock.streams.panics import PolarsPanicked, panics_as_errors
from penstock.streams.predicates import Holds, direct

__all__ = [
    "Beside",
    "Drop",
    "Filter",
    "Rename",
    "Select",
    "Transform",
    "TransformConfig",
    "WithColumns",
    "check_expression",
    "empty_frame",
    "full_schema",
]

Change = Callable[[pl.DataFrame], pl.DataFrame]
TEXT_LENGTH_MAX = 200


class Transform(Protocol):
    """Frame to frame, of this partition or another: it has no state."""

    @property
    def schema(self) -> pl.Schema:
        """What it gives: the user's columns, without the reserved ones, which every frame has beside them."""
        ...

    def apply(self, frame: pl.DataFrame) -> Transformed: ...


class TransformConfig(Protocol):
    """What a transform is made of."""

    def build(self, schema: pl.Schema) -> Transform:
        """For frames with these columns of the user. Raises `ConfigurationError` where it cannot be applied."""
        ...


@dataclass(frozen=True, kw_only=True)
class Filter:
    """The rows for which the predicate is true; null is not."""

    predicate: pl.Expr

    def build(self, schema: pl.Schema) -> Transform:
        what = f"filter({_shown(self.predicate)})"
        check_expression(schema, self.predicate, what)
        named = _is_named(self.predicate)
        _planned(schema, what, lambda rows: rows.filter(self.predicate), reserved=named)
        if named:
            holds = direct(self.predicate, full_schema(schema))
            return _ByExpressions(schema, lambda frame: _filtered(frame, self.predicate, holds))
        return _ByExpressions(
            schema,
            lambda frame: frame.filter(_users(frame).select(pl.all_horizontal(self.predicate)).to_series()),
        )


@dataclass(frozen=True, kw_only=True)
class WithColumns:
    """All columns, with these added or put in the place of others of the same name."""

    expressions: Sequence[pl.Expr]

    def build(self, schema: pl.Schema) -> Transform:
        return _ByExpressions(*_with_columns(schema, tuple(self.expressions)))


@dataclass(frozen=True, kw_only=True)
class Beside:
    """All columns, with what expressions over some of them make of those: an expression that takes "all"
    takes no others.
    """

    of: Sequence[str]
    expressions: Sequence[pl.Expr]

    def build(self, schema: pl.Schema) -> Transform:
        of = list(self.of)
        seen = pl.Schema({name: schema[name] for name in of})
        gives, change = _with_columns(seen, tuple(self.expressions))
        return _ByExpressions(
            pl.Schema({**schema, **gives}),
            lambda frame: frame.with_columns(
                change(frame.select(*of, TIME, OFFSET)).drop(TIME, OFFSET).get_columns()
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Select:
    """These columns alone, beside the reserved ones."""

    expressions: Sequence[pl.Expr]

    def build(self, schema: pl.Schema) -> Transform:
        expressions = tuple(self.expressions)
        gives = _checked(schema, expressions, "select", lambda rows: rows.select(expressions))
        if not gives:
            raise ConfigurationError("select() leaves no column", hint=_columns_hint(schema))
        if all(map(_is_named, expressions)):
            return _ByExpressions(gives, lambda frame: frame.select(*expressions, TIME, OFFSET))
        names = gives.names()
        return _ByExpressions(
            gives,
            # By way of with_columns, which repeats a literal for each row.
            lambda frame: (
                _users(frame).with_columns(expressions).select(names).hstack(frame.select(TIME, OFFSET))
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Rename:
    """New names for columns, by the old ones."""

    names: Mapping[str, str]

    def build(self, schema: pl.Schema) -> Transform:
        names = dict(self.names)
        _check_known(schema, names, f"rename({names})")
        gives = _planned(schema, f"rename({names})", lambda rows: rows.rename(names))
        return _ByExpressions(gives, lambda frame: frame.rename(names))


@dataclass(frozen=True, kw_only=True)
class Drop:
    """All columns but these."""

    names: Sequence[str]

    def build(self, schema: pl.Schema) -> Transform:
        names = list(self.names)
        _check_known(schema, names, f"drop({names})")
        gives = pl.Schema({name: dtype for name, dtype in schema.items() if name not in names})
        if not gives:
            raise ConfigurationError(f"drop({names}) leaves no column", hint=_columns_hint(schema))
        return _ByExpressions(gives, lambda frame: frame.drop(names))


def _with_columns(schema: pl.Schema, expressions: tuple[pl.Expr, ...]) -> tuple[pl.Schema, Change]:
    gives = _checked(schema, expressions, "with_columns", lambda rows: rows.with_columns(expressions))
    if all(map(_is_named, expressions)):
        return gives, lambda frame: frame.with_columns(expressions)
    return gives, lambda frame: _users(frame).with_columns(expressions).hstack(frame.select(TIME, OFFSET))


class _ByExpressions:
    """At the first try on the whole frame; row by row only where that raises, as a strict cast does."""

    def __init__(self, schema: pl.Schema, change: Change) -> None:
        self.schema = schema
        self._change = change

    def apply(self, frame: pl.DataFrame) -> Transformed:
        result = attempt(self._change, frame)
        if isinstance(result, pl.DataFrame):
            return Transformed(frame=result)
        return isolate(
            frame,
            lambda pieces: [attempt(self._change, piece) for piece in pieces],
            empty=self._change(frame.clear()),
        )


def _filtered(frame: pl.DataFrame, predicate: pl.Expr, holds: Holds | None) -> pl.DataFrame:
    """As `DataFrame.filter`, whose plan costs a small frame more than its rows do."""
    # Of a literal it is one, which counts for each row.
    mask = frame.select(predicate).to_series() if holds is None else holds(frame)
    first, *others = frame.get_columns()
    return first.filter(mask).to_frame().hstack([column.filter(mask) for column in others])


def full_schema(schema: pl.Schema) -> pl.Schema:
    """With the reserved columns."""
    return pl.Schema({**schema, TIME: pl.Int64(), OFFSET: pl.Int64()})


def empty_frame(schema: pl.Schema) -> pl.DataFrame:
    """No rows of these columns and the reserved ones."""
    return pl.DataFrame(schema=full_schema(schema))


def check_expression(schema: pl.Schema, expression: object, what: str) -> None:
    """Raises `ConfigurationError` for what is no expression, knows no such column, or looks at several rows."""
    if not isinstance(expression, pl.Expr):
        raise ConfigurationError(
            f"{what}: {type(expression).__name__} is no Polars expression",
            hint='write one with polars, such as pl.col("delay") > 15',
        )
    _planned(schema, what, lambda rows: rows.select(expression), reserved=_is_named(expression))
    if not _looks_at_one_row(expression):
        raise ConfigurationError(
            f"{what} looks at several rows, or guesses from them: other frames would give something else",
            hint="use a window for what is over several events; give str.to_datetime a format",
        )


def _looks_at_one_row(expression: pl.Expr) -> bool:
    """As far as Polars can tell: it answers for the outermost operation, so each within is asked."""
    try:
        if expression.meta.is_literal(allow_aliasing=True):
            return True  # a list of values to look among, too
        if not expression.meta.is_row_separable():
            return False
    except (AttributeError, pl.exceptions.PolarsError):
        return True
    return all(map(_looks_at_one_row, expression.meta.pop()))


def _checked(
    schema: pl.Schema,
    expressions: Sequence[pl.Expr],
    verb: str,
    change: Callable[[pl.LazyFrame], pl.LazyFrame],
) -> pl.Schema:
    if not expressions:
        raise ConfigurationError(f"{verb}() has no expression", hint=_columns_hint(schema))
    for expression in expressions:
        check_expression(schema, expression, f"{verb}({_shown(expression)})")
        if expression.meta.output_name(raise_if_undetermined=False) in (TIME, OFFSET):
            raise ConfigurationError(
                f"{verb}({_shown(expression)}) changes a reserved column", hint="give it another name by .alias"
            )
    named = all(map(_is_named, expressions))
    return _planned(schema, f"{verb}({', '.join(map(_shown, expressions))})", change, reserved=named)


def _planned(
    schema: pl.Schema, what: str, change: Callable[[pl.LazyFrame], pl.LazyFrame], *, reserved: bool = True
) -> pl.Schema:
    """The columns that come of it, by Polars' own plan, for rows with or without the reserved columns."""
    try:
        with panics_as_errors():
            planned = change(pl.LazyFrame(schema=full_schema(schema) if reserved else schema)).collect_schema()
    except (pl.exceptions.PolarsError, PolarsPanicked) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigurationError(f"{what} cannot work: {reason}", hint=_columns_hint(schema)) from error
    gives = pl.Schema({name: dtype for name, dtype in planned.items() if name not in (TIME, OFFSET)})
    for name in gives:
        if name.startswith("_"):
            raise ConfigurationError(
                f"{what} gives a column {name!r}", hint="names that start with _ are reserved"
            )
    return gives


def _check_known(schema: pl.Schema, names: Sequence[str] | Mapping[str, str], what: str) -> None:
    unknown = [name for name in names if name not in schema]
    if unknown:
        raise ConfigurationError(f"{what}: there is no column {unknown[0]!r}", hint=_columns_hint(schema))


def _columns_hint(schema: pl.Schema) -> str:
    return f"the columns are {', '.join(schema.names())}"


def _shown(expression: object) -> str:
    text = str(expression)
    return text if len(text) <= TEXT_LENGTH_MAX else f"{text[:TEXT_LENGTH_MAX]}…"


def _is_named(expression: pl.Expr) -> bool:
    """Whether it names its columns one by one. What expands ("all columns") must not see the reserved ones."""
    return not expression.meta.has_multiple_outputs()


def _users(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.drop(TIME, OFFSET)
