"""Frames as records of the topics that Penstock makes for itself, between one stage and the next.

A record is a frame, as an Arrow stream, and says in headers which partition of which input it came from and how
far event time had come there: the next stage's watermark is the least of those, however the partitions ran
ahead of each other.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from penstock.core.errors import CorruptRecords

__all__ = ["FrameRecord", "Origin", "read_frame_record"]

_FROM = "penstock-from"
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
            _FROM: f"{self.origin.partition} {self.origin.input}".encode(),
            _WATERMARK: str(self.watermark_ms).encode(),
            **({_IDLE: b"1"} if self.idle else {}),
        }


def read_frame_record(value: bytes, headers: Mapping[str, bytes] | None, where: str) -> FrameRecord:
    """What `FrameRecord.value` and `headers` gave. Raises `CorruptRecords` for what is none."""
    try:
        assert headers is not None, "a record between stages has headers"
        partition, _, name = headers[_FROM].decode().partition(" ")
        return FrameRecord(
            origin=Origin(name, int(partition)),
            watermark_ms=int(headers[_WATERMARK]),
            idle=_IDLE in headers,
            frame=pl.read_ipc_stream(io.BytesIO(value)) if value else None,
        )
    except (AssertionError, KeyError, ValueError, pl.exceptions.PolarsError, OSError) as error:
        raise CorruptRecords(
            f"{where} is no record of a stage: {error}",
            where=where,
            hint="topics between stages are Penstock's own; nothing else may produce into them",
        ) from error
