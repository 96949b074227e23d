"""Reading rows from outside of the log, from a position on.

A position is any JSON value; it is kept with the rows that it stands behind, and None is the beginning.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from penstock.core.errors import InvalidInput

__all__ = ["Chunk", "FeedSource", "Reader", "known_columns"]


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Rows, maybe none, and the position behind them."""

    frame: pl.DataFrame
    position: object


class Reader(Protocol):
    """Gives the same rows after the same position, whenever it is asked."""

    @property
    def calls_function(self) -> bool:
        """Whether it asks a function of the user, which may never return."""
        ...

    def read(self, position: object, rows_max: int) -> Chunk | None:
        """None: there is nothing more at present. Raises `InvalidInput` where it cannot go on from there.

        More than `rows_max` rows come only where they cannot be parted.
        """
        ...


class FeedSource(Protocol):
    """What a stream can be fed from, as an app declares it."""

    @property
    def title(self) -> str: ...

    def reader(self, columns: Mapping[str, pl.DataType]) -> Reader:
        """Of rows with those of the columns that there are. Raises `ConfigurationError`."""
        ...


def known_columns(names: Iterable[str], wanted: Iterable[str], where: str) -> list[str]:
    """Those of the wanted columns that are there: whether one may be missing is for the schema to say."""
    there = list(names)
    found = [name for name in wanted if name in there]
    if not found:
        raise InvalidInput(
            f"{where} has none of the stream's columns", hint=f"its own are {', '.join(there) or 'none'}"
        )
    return found
