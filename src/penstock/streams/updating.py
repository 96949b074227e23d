"""What windows of keys come to from now on, as rows: of each key that was touched a timeline.

A row holds from the time in `_from`; those with the same number in `_timeline` are of one key, ascend in that
time, and stand together. `_time` is how far the stream's time had come. See `penstock.features.timeline`.
"""

from typing import Protocol, runtime_checkable

import numpy as np
import polars as pl

from penstock.streams.operator import OFFSET, Moment

__all__ = ["FROM", "TIMELINE", "Updating", "updates_of"]

FROM = "_from"
TIMELINE = "_timeline"


@runtime_checkable
class Updating(Protocol):
    """An operator that tells of the keys that a frame has touched."""

    def process(self, frame: pl.DataFrame, moment: Moment) -> pl.DataFrame: ...

    def take_updates(self) -> pl.DataFrame:
        """Those since the last call; a frame without columns where there are none."""
        ...


def updates_of(operator: object, offset: int) -> pl.DataFrame:
    """What the operator tells, as rows that a stage made at that offset."""
    assert isinstance(operator, Updating), "what is read by key tells of its keys"
    updates = operator.take_updates()
    return updates.hstack([pl.Series(OFFSET, np.full(updates.height, offset))]) if updates.height else updates
