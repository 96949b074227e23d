"""What is expected of every event, as Polars expressions with names; and which rows do not hold to it."""

import functools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from penstock.core.errors import ConfigurationError
from penstock.streams.panics import panics_as_errors
from penstock.streams.predicates import direct
from penstock.streams.reasons import Reason

__all__ = ["Checked", "Expectations", "Failure"]

NAME_LENGTH_MAX = 120
DETAIL_LENGTH_MAX = 300


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a row was not let through: the names of what does not hold, or what an expression raised."""

    reason: Reason
    detail: str


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The rows that hold in `frame`, the others in `failed`, in their order; a failure for each of those."""

    frame: pl.DataFrame
    failed: pl.DataFrame
    failures: tuple[Failure, ...]


class Expectations:
    """Expressions of one truth value a row, which may look at that row only. Null counts as false."""

    def __init__(self, named: Mapping[str, pl.Expr], schema: Mapping[str, pl.DataType]) -> None:
        self._named = dict(named)
        combined = functools.reduce(operator.and_, self._named.values()) if self._named else None
        self._direct = direct(combined, schema) if combined is not None else None
        self._each = [expression.fill_null(False).alias(name) for name, expression in self._named.items()]
        self._all = pl.all_horizontal(*self._each).alias("all") if self._each else None

    @classmethod
    def of(cls, declared: Mapping[str, pl.Expr] | Sequence[pl.Expr], schema: pl.Schema) -> "Expectations":
        """Of frames with that schema. Expressions without a name are named by what they say.

        Raises `ConfigurationError` where one does not fit the schema, or is not of one truth value a row.
        """
        pairs = (
            list(declared.items())
            if isinstance(declared, Mapping)
            else [(_said(each), each) for each in declared]
        )
        named: dict[str, pl.Expr] = {}
        for name, expression in pairs:
            if name in named:
                raise ConfigurationError(f"expectation {name!r} is declared twice")
            _check(name, expression, schema)
            named[name] = expression
        return cls(named, schema)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._named)

    @property
    def expressions(self) -> Mapping[str, pl.Expr]:
        """By their names."""
        return self._named

    def check(self, frame: pl.DataFrame) -> Checked:
        """Parts the rows. One on which an expression raises has failed by that, and no other with it."""
        if self._all is None or not frame.height:
            return Checked(frame=frame, failed=frame.clear(), failures=())
        try:
            with panics_as_errors():
                if self._direct is not None and self._direct(frame).sum() == frame.height:
                    return Checked(frame=frame, failed=frame.clear(), failures=())
                holds = frame.select(self._all).to_series()
                if holds.sum() == frame.height:
                    return Checked(frame=frame, failed=frame.clear(), failures=())
                failed = frame.select(self._each).filter(~holds)
        except Exception as error:
            return self._halves(frame, error)
        failures = tuple(
            Failure(
                reason=Reason.EXPECTATION,
                detail=", ".join(name for name, held in zip(self._named, row, strict=True) if not held)[
                    :DETAIL_LENGTH_MAX
                ],
            )
            for row in failed.iter_rows()
        )
        return Checked(frame=frame.filter(holds), failed=frame.filter(~holds), failures=failures)

    def _halves(self, frame: pl.DataFrame, error: Exception) -> Checked:
        """Each half by itself, down to the rows that raise: at most twice as many calls as rows."""
        if frame.height == 1:
            detail = f"{type(error).__name__}: {error}".partition("\n")[0][:DETAIL_LENGTH_MAX]
            return Checked(
                frame=frame.clear(), failed=frame, failures=(Failure(reason=Reason.RAISED, detail=detail),)
            )
        middle = frame.height // 2
        first, second = self.check(frame[:middle]), self.check(frame[middle:])
        return Checked(
            frame=pl.concat([first.frame, second.frame]),
            failed=pl.concat([first.failed, second.failed]),
            failures=first.failures + second.failures,
        )


def _said(expression: object) -> str:
    return str(expression)[:NAME_LENGTH_MAX]


def _check(name: str, expression: object, schema: pl.Schema) -> None:
    if not isinstance(expression, pl.Expr):
        raise ConfigurationError(
            f"expectation {name!r} is no Polars expression", hint='for example pl.col("distance") > 0'
        )
    try:
        with panics_as_errors():
            result = pl.DataFrame(schema=schema).select(expression)
    except Exception as error:
        problem = str(error).partition("\n")[0]
        raise ConfigurationError(
            f"expectation {name!r} cannot be checked: {problem}", hint=f"the columns are {', '.join(schema)}"
        ) from error
    if result.width != 1 or result.dtypes[0] != pl.Boolean:
        found = ", ".join(map(str, result.dtypes)) or "nothing"
        raise ConfigurationError(
            f"expectation {name!r} gives {found} instead of one truth value",
            hint="compare the column with something",
        )
    if result.height:
        raise ConfigurationError(
            f"expectation {name!r} gives one value for all rows of a frame, however many those are",
            hint="an expectation looks at one row by itself",
        )
