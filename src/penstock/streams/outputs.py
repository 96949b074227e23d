"""Where a stage's frames go: topics, the next stage, and sinks outside of the log.

An outlet does no I/O, but for that of a user's function. What goes into the log is given as records; what goes
elsewhere as effects, which the worker prepares before it commits and publishes after that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import polars as pl

from penstock.log.records import Records, TopicPartition
from penstock.streams.decoding.formats import Format
from penstock.streams.encoding import encoder_of
from penstock.streams.frame_records import FrameRecord, Origin, told_apart
from penstock.streams.isolating import FailedRow
from penstock.streams.operator import TIME, Moment
from penstock.streams.partition_frames import split_by_key

__all__ = [
    "NOTHING",
    "Append",
    "Effect",
    "Outlet",
    "OutputConfig",
    "Put",
    "StageOutput",
    "TopicOutput",
    "visible",
]

HEARTBEAT_MS = 1000
"""How far event time comes before a partition of the next stage that gets no rows is told of it."""


@dataclass(frozen=True, kw_only=True)
class Append:
    """Records for a partition."""

    target: TopicPartition
    records: Records


class Effect(Protocol):
    """Something outside of the log that has to happen exactly once, or as often as its sink says.

    `name` is part of what is committed. After a restart the sink is told the names that were, and publishes
    those that it had not come to.
    """

    @property
    def name(self) -> str: ...

    def prepare(self) -> None:
        """Before the commit: nobody sees it yet. Raises `StorageFailed`."""
        ...

    def publish(self) -> None:
        """After the commit; any number of times. Raises `StorageFailed`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Put:
    """What a frame comes to at an outlet. `failed` are rows that it does not take: they become dead letters."""

    appends: Sequence[Append] = ()
    effects: Sequence[Effect] = ()
    failed: Sequence[FailedRow] = ()


NOTHING = Put()


class Outlet(Protocol):
    """One partition's end of an output."""

    @property
    def calls_function(self) -> bool:
        """Whether rows that are put go to a function of the user there and then."""
        ...

    def put(self, frame: pl.DataFrame, moment: Moment, idle: bool) -> Put:
        """An empty frame says that only time has passed. `idle`: nothing holds event time here."""
        ...

    def tick(self, now_ms: int) -> Put:
        """What is due by the time of day."""
        ...

    def take_changes(self) -> bytes: ...

    def apply_changes(self, changes: bytes) -> None: ...

    def snapshot(self) -> bytes: ...

    def recover(self, committed: Sequence[str]) -> None:
        """After a restart: publishes the effects with these names, and does away with all others' remains."""
        ...


class OutputConfig(Protocol):
    """What an outlet is made of."""

    def build(self, source: TopicPartition, state: bytes | None) -> Outlet: ...


def visible(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame without the columns that are Penstock's own."""
    return frame.select([name for name in frame.columns if not name.startswith("_")])


class _Stateless:
    """For outlets that keep nothing and do nothing outside of the log."""

    calls_function = False

    def tick(self, now_ms: int) -> Put:  # noqa: ARG002 - nothing is ever due
        return NOTHING

    def take_changes(self) -> bytes:
        return b""

    def apply_changes(self, changes: bytes) -> None:
        assert not changes, "an outlet without state has no changes"

    def snapshot(self) -> bytes:
        return b""

    def recover(self, committed: Sequence[str]) -> None:
        assert not committed, "an outlet without effects has committed none"


@dataclass(frozen=True, kw_only=True)
class TopicOutput:
    """A topic that anybody may read: a record a row, partitioned by the key columns."""

    topic: str
    partitions: int
    key: tuple[str, ...] = ()
    format: Format = "json"

    def build(self, source: TopicPartition, state: bytes | None) -> Outlet:  # noqa: ARG002 - it has none
        return _TopicOutlet(self, source)


class _TopicOutlet(_Stateless):
    def __init__(self, config: TopicOutput, source: TopicPartition) -> None:
        self._config = config
        self._encoder = encoder_of(config.format)
        self._unkeyed = source.partition % config.partitions

    def put(self, frame: pl.DataFrame, moment: Moment, idle: bool) -> Put:  # noqa: ARG002 - as outlets have it
        if not frame.height:
            return NOTHING
        config = self._config
        appends = []
        for partition, rows, keys in split_by_key(frame, config.key, config.partitions):
            target = TopicPartition(config.topic, partition if config.key else self._unkeyed)
            appends.append(Append(target=target, records=self._records(rows, keys)))
        return Put(appends=appends)

    def _records(self, rows: pl.DataFrame, keys: list[bytes | None] | None) -> Records:
        times = rows.get_column(TIME).to_numpy()
        values = self._encoder.encode(rows)
        if len(values) == len(times):
            return Records(values=values, times_ms=times, keys=keys)
        # A frame is one record in Arrow.
        return Records(values=values, times_ms=np.full(len(values), times.max(), dtype=np.int64))


@dataclass(frozen=True, kw_only=True)
class StageOutput:
    """The topic between this stage and the next: frames, partitioned by the key columns.

    `input` is what the next stage calls it. Without key columns rows stay in the partition that they are in.
    `first`: this stage reads the events' own topic, by whose offsets rows are told apart from now on; `made`:
    its rows are no events.
    """

    topic: str
    partitions: int
    input: str = ""
    key: tuple[str, ...] = ()
    first: bool = True
    made: bool = False

    def build(self, source: TopicPartition, state: bytes | None) -> Outlet:  # noqa: ARG002 - it has none
        return _StageOutlet(self, Origin(self.input, source.partition))


@dataclass
class _Told:
    """What a partition of the next stage has heard of this one."""

    watermark_ms: int = -(2**62)
    idle: bool = False


@dataclass
class _StageOutlet(_Stateless):
    config: StageOutput
    origin: Origin
    told: dict[int, _Told] = field(default_factory=dict)

    def put(self, frame: pl.DataFrame, moment: Moment, idle: bool) -> Put:
        config = self.config
        appends = []
        with_rows = set()
        if frame.height:
            if config.first or config.made:
                frame = told_apart(frame, self.origin.partition, made=config.made)
            for partition, rows, _ in split_by_key(frame, config.key, config.partitions):
                target = partition if config.key else self.origin.partition % config.partitions
                with_rows.add(target)
                appends.append(self._append(target, rows, moment, idle=False))
        appends += [
            self._append(partition, None, moment, idle=idle)
            for partition in range(config.partitions)
            if partition not in with_rows and self._behind(partition, moment, idle)
        ]
        return Put(appends=appends) if appends else NOTHING

    def _behind(self, partition: int, moment: Moment, idle: bool) -> bool:
        told = self.told.get(partition)
        if told is None:
            return True
        return told.idle != idle or moment.next_watermark_ms - told.watermark_ms >= HEARTBEAT_MS

    def _append(self, partition: int, rows: pl.DataFrame | None, moment: Moment, *, idle: bool) -> Append:
        watermark_ms = moment.next_watermark_ms
        self.told[partition] = _Told(watermark_ms, idle)
        record = FrameRecord(origin=self.origin, watermark_ms=watermark_ms, idle=idle, frame=rows)
        return Append(
            target=TopicPartition(self.config.topic, partition),
            records=Records(
                values=[record.value()],
                times_ms=np.array([moment.now_ms], dtype=np.int64),
                headers=[record.headers()],
            ),
        )
