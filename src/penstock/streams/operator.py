"""What every operator of a stream is: config → `build(state)` → logic with `snapshot()`.

An operator does no I/O and reads no clock. It belongs to one partition of one stage, is given frames in the
order of the partition's offsets, and gives the same for the same records however they are cut into frames.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import polars as pl

__all__ = [
    "DELETED",
    "OFFSET",
    "TIME",
    "Moment",
    "Operator",
    "OperatorConfig",
    "TwoInput",
    "TwoInputConfig",
    "TwoMoment",
]

TIME = "_time"
"""Every frame's column of event times: Int64, milliseconds since 1970, never null."""
OFFSET = "_offset"
"""Every frame's column of offsets in the source partition: Int64."""
DELETED = "_deleted"
"""A frame of a table may have this Boolean column: true where a record says that its key is there no more."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When a frame is processed. Milliseconds since 1970.

    `watermark_ms` is how far event time had come before the frame, `next_watermark_ms` after it: no event
    older than that is expected any more. `now_ms` is the time of day.
    """

    watermark_ms: int
    next_watermark_ms: int
    now_ms: int


class Operator(Protocol):
    """Takes frames, gives frames; what it keeps can be taken out, brought back, and followed by its changes."""

    def process(self, frame: pl.DataFrame, moment: Moment) -> pl.DataFrame:
        """What comes of it, maybe no rows. An empty frame says that only time has passed."""
        ...

    def take_changes(self) -> bytes:
        """What its state has become since the last call, for `apply_changes` of an equal operator; b"" for
        nothing.

        Kept in the log with each micro-batch: small against the frame, and linear in it.
        """
        ...

    def apply_changes(self, changes: bytes) -> None: ...

    def snapshot(self) -> bytes:
        """All of its state, for `build`. Linear in it; what changes came before are part of it."""
        ...


class OperatorConfig(Protocol):
    """What an operator is made of: frozen, and the same for every partition."""

    def build(self, state: bytes | None) -> Operator:
        """Raises `CorruptState` where the snapshot is none of this operator with this config."""
        ...


@dataclass(frozen=True, kw_only=True)
class TwoMoment:
    """When a frame of one of two inputs is processed. Milliseconds since 1970.

    The watermarks are those after the frame: no event of that input older than its watermark is expected any
    more. For an input that is idle the one who asks may put the other's watermark, so that it holds nothing
    back.
    """

    left_watermark_ms: int
    right_watermark_ms: int
    now_ms: int
    left_idle: bool = False
    right_idle: bool = False


class TwoInput(Protocol):
    """An operator of two inputs, both of the same partition number, of equally keyed topics.

    Frames of either come in the order of their offsets, in any interleaving; late events are left out of them.
    What comes of a frame is given in pieces of bounded size, one after another: a key that has many events on
    both sides has more pairs than fit into memory at once. The state has changed when the call returns, however
    many of the pieces are taken. An empty frame says that only the watermarks have gone on.
    """

    def process_left(self, frame: pl.DataFrame, moment: TwoMoment) -> Iterator[pl.DataFrame]: ...

    def process_right(self, frame: pl.DataFrame, moment: TwoMoment) -> Iterator[pl.DataFrame]: ...

    def output_watermark_ms(self, moment: TwoMoment) -> int:
        """No row older than that is given any more, by this operator's `_time`."""
        ...

    def take_changes(self) -> bytes:
        """As `Operator.take_changes`."""
        ...

    def apply_changes(self, changes: bytes) -> None: ...

    def snapshot(self) -> bytes: ...


class TwoInputConfig(Protocol):
    """What an operator of two inputs is made of: frozen, and the same for every partition."""

    def build(self, state: bytes | None) -> TwoInput:
        """Raises `CorruptState` where the snapshot is none of this operator with this config."""
        ...
