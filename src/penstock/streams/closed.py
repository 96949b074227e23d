"""Windows that have closed, as events in time."""

from typing import Protocol, runtime_checkable

import polars as pl

from penstock.streams.operator import OFFSET, TIME, Moment

__all__ = ["Closing", "as_events", "closed_of"]


@runtime_checkable
class Closing(Protocol):
    """An operator that gives out windows beside what comes of its frames."""

    def process(self, frame: pl.DataFrame, moment: Moment) -> pl.DataFrame: ...

    def take_closed(self) -> pl.DataFrame:
        """Those that closed since the last call, with a column `window_end`."""
        ...


def closed_of(operator: object, offset: int) -> pl.DataFrame:
    """The windows that it gives out, as rows that a stage made at that offset."""
    assert isinstance(operator, Closing), "what closes windows gives them"
    return as_events(operator.take_closed(), offset)


def as_events(closed: pl.DataFrame, offset: int) -> pl.DataFrame:
    """Each with the time of the last moment that is in it: then a window over windows takes it in."""
    return closed.with_columns(
        (pl.col("window_end").dt.epoch("ms") - 1).alias(TIME), pl.lit(offset, dtype=pl.Int64).alias(OFFSET)
    )
