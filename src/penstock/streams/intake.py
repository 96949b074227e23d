"""What stands at the head of a stage: it makes frames of records, and knows how far event time has come."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
import polars as pl

from penstock.log.records import Fetched, TopicPartition
from penstock.streams.dead_letters import DeadLetter
from penstock.streams.operator import Moment, TwoMoment

__all__ = ["Instant", "Intake", "IntakeConfig", "IntakeStatistics", "Part", "Taken"]


@dataclass(frozen=True, kw_only=True)
class Instant:
    """Now: the time of day in milliseconds since 1970, and a monotonic time in milliseconds."""

    now_ms: int
    monotonic_ms: float


@dataclass(frozen=True, kw_only=True)
class Part:
    """A frame, with the input that it is of; "" where there is only one. `inputs` are, of two of them, the
    moments before and after it.
    """

    input: str = ""
    frame: pl.DataFrame
    moment: Moment
    inputs: tuple[TwoMoment, TwoMoment] | None = None


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What came of some records."""

    parts: Sequence[Part] = ()
    late: Part | None = None
    dead: Sequence[DeadLetter] = ()


class IntakeStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that were taken in, those of them that were late, and records or rows that were bad."""

    rows: int
    late: int
    bad: int
    watermark_ms: int


class Intake(Protocol):
    """One partition's."""

    @property
    def idle(self) -> bool: ...

    @property
    def watermark_ms(self) -> int: ...

    def take(self, fetched: Fetched, instant: Instant) -> Taken: ...

    def tick(self, instant: Instant) -> Sequence[Part]:
        """Empty frames, where event time has come further with nothing but real time."""
        ...

    def take_changes(self) -> bytes: ...

    def apply_changes(self, changes: bytes) -> None: ...

    def snapshot(self) -> bytes: ...

    def statistics(self) -> IntakeStatistics: ...


class IntakeConfig(Protocol):
    """What an intake is made of."""

    def build(self, source: TopicPartition, state: bytes | None) -> Intake:
        """Raises `CorruptState`."""
        ...
