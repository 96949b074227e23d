"""Where results can be sent, and events come from, beside topics, as an app file names it."""

from collections.abc import Callable
from pathlib import Path

from penstock.core.durations import duration_s
from penstock.core.errors import ConfigurationError, shown
from penstock.streams.calling import CallableSink
from penstock.streams.delta import DeltaSink
from penstock.streams.deltas import check_deltalake
from penstock.streams.parquet import ParquetSink

__all__ = ["call", "delta", "parquet"]


def parquet(folder: str | Path, *, every: str | float = "1m", rows_max: int = 100_000) -> ParquetSink:
    """Files in a folder, each row in exactly one of them. A file is closed with about `rows_max` rows, or when
    its first row is `every` old. As a stream's source it may be a pattern (`"events/**/*.parquet"`).
    """
    every_ms = round(duration_s(every, "every of a Parquet sink") * 1000)
    return ParquetSink(folder=Path(folder), every_ms=every_ms, rows_max=rows_max)


def delta(folder: str | Path, *, every: str | float = "1m", rows_max: int = 100_000) -> DeltaSink:
    """A Delta table, made where there is none, that rows are added to, each exactly once: a version with about
    `rows_max` rows, or when its first row is `every` old. Needs the extra `delta`.
    """
    check_deltalake()
    every_ms = round(duration_s(every, "every of a Delta sink") * 1000)
    return DeltaSink(folder=Path(folder), every_ms=every_ms, rows_max=rows_max)


def call(function: Callable[..., object]) -> CallableSink:
    """A function that is given frames of rows, and if it takes two arguments, which rows they are
    (`stage`, `partition`, `first_offset`, `last_offset`).

    It is called at least once for each row, before what it came of counts as processed: after a crash, again.
    Rows on which it raises become dead letters. Where all rows are to wait, as what they go to cannot be
    reached, let it raise `penstock.StorageFailed`: it is called again with them until it returns.

    As a stream's source it is a function of a position, None at first, that yields pairs of the position behind
    some rows (any JSON value) and a frame of them.
    """
    if not callable(function):
        raise ConfigurationError(f"{shown(function)} cannot be called", hint="give a function of a frame")
    return CallableSink(function)
