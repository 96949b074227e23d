"""What comes of decoding some records: a frame, and the records that are none of its rows."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.log.records import Records
from penstock.streams.reasons import Reason

__all__ = ["BadRecord", "Decoded", "Decoder"]


@dataclass(frozen=True, kw_only=True)
class BadRecord:
    """A record that gave no row, or not all of its rows: its offset, its place among the records, and why."""

    offset: int
    position: int
    reason: Reason
    detail: str


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """`frame` has the good rows in the order of their records, with `_time` and `_offset`; `bad` the others,
    in their order. The records stay at hand, so that a row can still be sent on as it came. `many`: a record
    may have several rows, which have its offset all.
    """

    frame: pl.DataFrame
    bad: tuple[BadRecord, ...]
    records: Records
    offsets: npt.NDArray[np.int64]
    many: bool = False

    def positions(self, offsets: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Where among `records` the ones of those offsets are, all of which are there."""
        wanted = np.asarray(offsets, dtype=np.int64)
        found = np.searchsorted(self.offsets, wanted).astype(np.int64)
        assert len(wanted) == 0 or bool((self.offsets[found] == wanted).all()), "offsets of these records"
        return found


class Decoder(Protocol):
    """Of one stream and format. Keeps nothing between two calls."""

    def decode(self, records: Records, offsets: npt.NDArray[np.int64], now_ms: int) -> Decoded:
        """`offsets` are those of the records, growing. Never raises for what a record holds."""
        ...
