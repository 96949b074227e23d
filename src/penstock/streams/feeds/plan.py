"""A feed as it is planned."""

from dataclasses import dataclass

import polars as pl

from penstock.streams.decoding.formats import Format
from penstock.streams.feeds.reading import FeedSource

__all__ = ["FeedPlan"]


@dataclass(frozen=True, kw_only=True)
class FeedPlan:
    """Rows of `source` go into the stream's `target`, and positions into `topic`, of one partition, whose owner
    in the app's group feeds.
    """

    name: str
    topic: str
    target: str
    partitions: int
    key: tuple[str, ...]
    format: Format
    columns: dict[str, pl.DataType]
    source: FeedSource
