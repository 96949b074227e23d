"""User functions over frames, plain or async.

A function is given the whole frame, the columns `_time` and `_offset` among them, and gives back a frame. Rows
keep these two if the function leaves them alone, also where it filters or repeats rows. Where it does not give
them back, as many rows as it was given keep theirs in their order; other rows would have no time, which is an
error.

What it gives must not depend on which rows come together in a frame: a row is all that it may look at.
"""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from penstock.core.errors import ConfigurationError
from penstock.streams.isolating import Transformed, WrongFrame, attempt, isolate
from penstock.streams.operator import OFFSET, TIME
from penstock.streams.transforming import Transform, empty_frame, full_schema

__all__ = ["AsyncCalls", "AsyncMap", "Map"]

CONCURRENCY_MAX = 1024
AsyncFunction = Callable[[pl.DataFrame], Awaitable[pl.DataFrame]]


class AsyncCalls(Protocol):
    """Who has an event loop: calls an async function with each of several frames, so many at once at most."""

    def run(
        self, function: AsyncFunction, frames: Sequence[pl.DataFrame], *, concurrency: int
    ) -> Sequence[object | BaseException]:
        """What it gave or raised for each, in their order. Blocks until all are done."""
        ...


@dataclass(frozen=True, kw_only=True)
class Map:
    """A plain function. `schema`: the user's columns that it gives; where None, it is tried without rows."""

    function: Callable[[pl.DataFrame], pl.DataFrame]
    schema: pl.Schema | None = None

    def build(self, schema: pl.Schema) -> Transform:
        """Raises `ConfigurationError`."""
        name = _name(self.function)
        if not callable(self.function):
            raise ConfigurationError(f"map({name}) is given no function", hint="give it frame -> frame")
        if inspect.iscoroutinefunction(self.function):
            raise ConfigurationError(f"map({name}): the function is async", hint="it needs an AsyncMap")
        gives = self.schema if self.schema is not None else self._tried(schema, name)
        return _ByFunction(_checked_schema(gives, name), name, self.function)

    def _tried(self, schema: pl.Schema, name: str) -> pl.Schema:
        hint = "give map its schema=, the columns that the function gives back"
        result = attempt(self.function, empty_frame(schema))
        if isinstance(result, BaseException):
            told = f"{type(result).__name__}: {result}"
            raise ConfigurationError(f"map({name}) fails for a frame without rows: {told}", hint=hint)
        if not isinstance(result, pl.DataFrame):
            raise ConfigurationError(
                f"map({name}) gives a {type(result).__name__}, not a polars.DataFrame",
                hint="let it return the frame",
            )
        return pl.Schema({key: value for key, value in result.schema.items() if key not in (TIME, OFFSET)})


@dataclass(frozen=True, kw_only=True)
class AsyncMap:
    """An async function, given a frame in up to `concurrency` pieces that are waited for at once.

    `schema`: the columns of the user that it gives. `calls` has the event loop.
    """

    function: AsyncFunction
    schema: pl.Schema
    calls: AsyncCalls
    concurrency: int = 16

    def build(self, schema: pl.Schema) -> Transform:
        """Raises `ConfigurationError`."""
        del schema  # what it needs of it only the function knows
        name = _name(self.function)
        if not 1 <= self.concurrency <= CONCURRENCY_MAX:
            raise ConfigurationError(
                f"map({name}) cannot wait for {self.concurrency} calls at once",
                hint=f"concurrency is from 1 to {CONCURRENCY_MAX}",
            )
        return _ByAsyncFunction(_checked_schema(self.schema, name), name, self)


class _ByFunction:
    """Tried on the whole frame first."""

    def __init__(self, schema: pl.Schema, name: str, function: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        self.schema = schema
        self._function = function
        self._finish = _Finish(schema, name)

    def apply(self, frame: pl.DataFrame) -> Transformed:
        result = self._try(frame)
        if isinstance(result, pl.DataFrame):
            return Transformed(frame=result)
        first = [result]  # it is known already

        def work(pieces: Sequence[pl.DataFrame]) -> list[pl.DataFrame | BaseException]:
            return [first.pop() if first else self._try(piece) for piece in pieces]

        return isolate(frame, work, empty=empty_frame(self.schema))

    def _try(self, frame: pl.DataFrame) -> pl.DataFrame | BaseException:
        return attempt(lambda given: self._finish(given, self._function(given)), frame)


class _ByAsyncFunction:
    """Pieces that raise are halved, and all halves waited for together."""

    def __init__(self, schema: pl.Schema, name: str, config: AsyncMap) -> None:
        self.schema = schema
        self._config = config
        self._finish = _Finish(schema, name)

    def apply(self, frame: pl.DataFrame) -> Transformed:
        empty = empty_frame(self.schema)
        if frame.is_empty():
            return Transformed(frame=empty)
        pieces = min(self._config.concurrency, frame.height)
        return isolate(frame, self._work, empty=empty, pieces=pieces)

    def _work(self, pieces: Sequence[pl.DataFrame]) -> list[pl.DataFrame | BaseException]:
        config = self._config
        results = config.calls.run(config.function, pieces, concurrency=config.concurrency)
        return [self._finished(piece, result) for piece, result in zip(pieces, results, strict=True)]

    def _finished(self, piece: pl.DataFrame, result: object) -> pl.DataFrame | BaseException:
        if isinstance(result, BaseException):
            return result
        return attempt(lambda given: self._finish(given, result), piece)


class _Finish:
    """What a function gave back, with times and offsets and in the columns that were declared."""

    def __init__(self, schema: pl.Schema, name: str) -> None:
        self.schema = schema
        self.name = name
        self._wanted = full_schema(schema)
        self._names = self._wanted.names()
        self._dtypes = self._wanted.dtypes()

    def __call__(self, given: pl.DataFrame, result: object) -> pl.DataFrame:
        """Raises `WrongFrame`."""
        if not isinstance(result, pl.DataFrame):
            raise WrongFrame(f"map({self.name}) gave a {type(result).__name__}, not a polars.DataFrame")
        if result.columns == self._names and result.dtypes == self._dtypes and _placed(result):
            return result
        for column in (TIME, OFFSET):
            if column not in result.columns:
                result = self._with_own(given, result, column)
        return self._cast(result)

    def _with_own(self, given: pl.DataFrame, result: pl.DataFrame, column: str) -> pl.DataFrame:
        if result.height != given.height:
            raise WrongFrame(
                f"map({self.name}) gave {result.height} rows for {given.height}, without {column!r}: "
                "keep `_time` and `_offset` where the number of rows changes"
            )
        return result.with_columns(given.get_column(column))

    def _cast(self, result: pl.DataFrame) -> pl.DataFrame:
        wanted = self._wanted
        if set(result.columns) != set(wanted):
            raise WrongFrame(
                f"map({self.name}) gave the columns {result.columns}; declared are {self.schema.names()}"
            )
        for column, dtype in result.schema.items():
            if dtype not in (wanted[column], pl.Null()):
                raise WrongFrame(f"map({self.name}) gave {column!r} as {dtype}; declared is {wanted[column]}")
        # Of the right type most are, in another order: then nothing is planned, and nothing copied.
        columns = [result.get_column(column) for column in wanted]
        first, *others = (
            column if column.dtype == dtype else column.cast(dtype)
            for column, dtype in zip(columns, self._dtypes, strict=True)
        )
        result = first.to_frame().hstack(others)
        if not _placed(result):
            raise WrongFrame(f"map({self.name}) gave rows whose `_time` or `_offset` is null")
        return result


def _placed(frame: pl.DataFrame) -> bool:
    """Whether each row has its time and its offset."""
    return not (frame.get_column(TIME).null_count() or frame.get_column(OFFSET).null_count())


def _name(function: object) -> str:
    return getattr(function, "__qualname__", None) or type(function).__name__


def _checked_schema(schema: pl.Schema, name: str) -> pl.Schema:
    schema = pl.Schema({key: value for key, value in schema.items() if key not in (TIME, OFFSET)})
    wrong = [column for column in schema if column.startswith("_")]
    if wrong:
        raise ConfigurationError(
            f"map({name}) gives a column {wrong[0]!r}", hint="names that start with _ are reserved"
        )
    if not schema:
        raise ConfigurationError(f"map({name}) gives no columns", hint="give back a frame with some")
    return schema
