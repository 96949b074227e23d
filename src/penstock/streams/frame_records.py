"""Frames as records of the topics that Penstock makes for itself, between one stage and the next.

A record is a frame, as an Arrow stream, and says in headers which partition of which input it came from and how
far event time had come there: the next stage's watermark is the least of those, however the partitions ran
ahead of each other.

Its rows' offsets are those of the events that they came of, in the topic of the first stage, with the partition
above them: a row that is refused later can tell which event it was.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from penstock.core.errors import CorruptRecords
from penstock.streams.operator import OFFSET, TIME
from penstock.streams.panics import PolarsPanicked, panics_as_errors

__all__ = ["FROM", "FrameRecord", "Origin", "event_of", "read_frame_record", "told_apart"]

OFFSET_BITS = 48
MADE_OFFSET = -1
"""Of a row that is no event: a window that closed."""
WATERMARK_MS_MAX = 2**62

FROM = "penstock-from"
"""The header that every record between stages has."""
_WATERMARK = "penstock-watermark"
_IDLE = "penstock-idle"


@dataclass(frozen=True, order=True)
class Origin:
    """A partition of one of the inputs of a stage."""

    input: str
    partition: int


@dataclass(frozen=True, kw_only=True)
class FrameRecord:
    """A frame that crosses from one stage to the next. None says that only event time has come further.

    `idle`: nothing has been seen there for a while, and nobody has to wait for it.
    """

    origin: Origin
    watermark_ms: int
    idle: bool
    frame: pl.DataFrame | None

    def value(self) -> bytes:
        if self.frame is None:
            return b""
        buffer = io.BytesIO()
        self.frame.write_ipc_stream(buffer)
        return buffer.getvalue()

    def headers(self) -> dict[str, bytes]:
        return {
            FROM: f"{self.origin.partition} {self.origin.input}".encode(),
            _WATERMARK: str(self.watermark_ms).encode(),
            **({_IDLE: b"1"} if self.idle else {}),
        }


def told_apart(frame: pl.DataFrame, partition: int, *, made: bool) -> pl.DataFrame:
    """Rows of a first stage's partition with the offsets that they have from then on."""
    if made:
        return frame.with_columns(pl.lit(MADE_OFFSET, dtype=pl.Int64).alias(OFFSET))
    if partition == 0:
        return frame
    return frame.with_columns(pl.col(OFFSET) + (partition << OFFSET_BITS))


def event_of(offset: int) -> tuple[int, int] | None:
    """The partition and offset of the event that a row with this offset came of; None for one that is none."""
    return divmod(offset, 1 << OFFSET_BITS) if offset >= 0 else None


def read_frame_record(value: bytes, headers: Mapping[str, bytes] | None, where: str) -> FrameRecord:
    """What `FrameRecord.value` and `headers` gave. Raises `CorruptRecords` for what is none."""
    try:
        assert headers is not None, "a record between stages has headers"
        partition, _, name = headers[FROM].decode().partition(" ")
        watermark_ms = int(headers[_WATERMARK])
        assert abs(watermark_ms) <= WATERMARK_MS_MAX, "its watermark is no time"
        return FrameRecord(
            origin=Origin(name, int(partition)),
            watermark_ms=watermark_ms,
            idle=_IDLE in headers,
            frame=_frame(value) if value else None,
        )
    except KeyError as error:
        problem = f"it has no header {error.args[0]}"
    except (AssertionError, ValueError, pl.exceptions.PolarsError, PolarsPanicked, OSError) as error:
        problem = str(error)
    raise CorruptRecords(
        f"{where} is no record of a stage: {problem}",
        where=where,
        hint="topics between stages are Penstock's own; nothing else may produce into them",
    )


def _frame(value: bytes) -> pl.DataFrame:
    with panics_as_errors():
        frame = pl.read_ipc_stream(io.BytesIO(value))
    for name in (TIME, OFFSET):
        column = frame.get_column(name, default=None)
        assert column is not None, f"its rows have no {name}"
        assert column.dtype == pl.Int64, f"its rows' {name} is of {column.dtype}"
        assert not column.null_count(), f"a row has no {name}"
    return frame
