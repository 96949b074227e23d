"""What a feature view's topic says of keys, put into the online store: at least once, and in order.

It is put there before the topic's offsets are committed. As the topic is committed data, whatever fails between
the two comes again as it was, and changes nothing.

Nobody tells of a partition while no stream runs, and its stream's time stood still meanwhile. For who reads, it
went on: what passed between two records is added to the stream's time, until an event says how far that is. It
is taken from the times of the records alone, so that the same topic gives the same for ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec
import polars as pl

from penstock.core.errors import CorruptState, Fenced, StorageFailed
from penstock.features.online import NO_TIME_MS, OnlineWriter, Progress, Update
from penstock.features.view import FeatureView
from penstock.log.records import TopicPartition
from penstock.streams.feature_views.updates_output import AS_OF, KEY, TIMELINE, number_of, of_view
from penstock.streams.operator import OFFSET, TIME, Moment
from penstock.streams.outputs import NOTHING, Outlet, OutputConfig, Put
from penstock.streams.sinks import OutputPlace

__all__ = ["OnlineSink"]

SILENT_MS_MIN = 10_000
"""While a stream runs, each partition is told of every second."""


@dataclass(frozen=True, kw_only=True)
class OnlineSink:
    """Takes the rows of the view's topic. `goes_on`: whether the stream's time does, where no events come."""

    view: FeatureView
    goes_on: bool = True

    @property
    def title(self) -> str:
        return f"online {self.view.name}"

    def output(self, place: OutputPlace) -> OutputConfig:
        return _OnlineOutput(self.view, place, self.goes_on)


@dataclass(frozen=True)
class _OnlineOutput:
    view: FeatureView
    place: OutputPlace
    goes_on: bool

    @cached_property
    def writer(self) -> OnlineWriter:
        """Opened by the thread that puts, and shared by all partitions."""
        assert self.place.online is not None, "whoever works on a graph says where its online store is"
        return self.place.online.writer(self.view)

    def build(self, source: TopicPartition, state: bytes | None) -> Outlet:
        return _OnlineOutlet(self, source.partition, state)


class _Reached(msgspec.Struct, array_like=True):
    """How far the stream's time has come, what has passed beside it, and when that was heard; and of which
    definition of the view (None: nothing was heard yet).
    """

    as_of_ms: int = NO_TIME_MS
    passed_ms: int = 0
    heard_ms: int | None = None
    definition: int | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Reached).decode


class _OnlineOutlet:
    calls_function = False

    def __init__(self, config: _OnlineOutput, partition: int, state: bytes | None) -> None:
        self._config = config
        self._partition = partition
        self._reached = _Reached()
        self._changed = False
        self.apply_changes(state or b"")

    def put(self, frame: pl.DataFrame, moment: Moment, idle: bool) -> Put:  # noqa: ARG002 - as outlets have it
        if frame.height:
            frame = of_view(frame, self._config.view)
        if not frame.height:
            return NOTHING
        self._hear(frame)
        reached = self._reached
        progress = Progress(
            partition=self._partition,
            as_of_ms=NO_TIME_MS if reached.as_of_ms == NO_TIME_MS else reached.as_of_ms + reached.passed_ms,
            next_offset=int(frame.item(-1, OFFSET)) + 1,
            heard_ms=int(frame.item(-1, TIME)),
        )
        keyed = frame.filter(pl.col(KEY).is_not_null())
        last = keyed.unique(KEY, keep="last", maintain_order=True).select(KEY, OFFSET, TIME, TIMELINE)
        return Put(effects=[_Kept(self._config, list(map(Update._make, last.iter_rows())), progress)])

    def tick(self, now_ms: int) -> Put:  # noqa: ARG002 - nothing is ever due
        return NOTHING

    def take_changes(self) -> bytes:
        changed, self._changed = self._changed, False
        return self.snapshot() if changed else b""

    def apply_changes(self, changes: bytes) -> None:
        """Raises `CorruptState`."""
        if not changes:
            return
        try:
            self._reached = _decode(changes)
        except msgspec.DecodeError as error:
            raise CorruptState(f"what is kept of an online view's time cannot be read: {error}") from error

    def snapshot(self) -> bytes:
        return _encode(self._reached)

    def _hear(self, frame: pl.DataFrame) -> None:
        """A record after the other, however they are cut into frames."""
        definition = number_of(self._config.view)
        if self._reached.definition != definition:
            # Another stream may be behind what the view was before, and its time another.
            self._reached = _Reached(definition=definition)
        reached, self._changed = self._reached, True
        told = (
            frame.group_by(OFFSET, maintain_order=True)
            .agg(pl.col(TIME).last(), pl.col(AS_OF).max(), pl.col(KEY).is_not_null().any())
            .iter_rows()
        )
        for _, heard_ms, as_of_ms, has_events in told:
            silent_ms = 0 if reached.heard_ms is None else heard_ms - reached.heard_ms
            # Back as well: a clock that was ahead for a while has made no time pass.
            if self._config.goes_on and abs(silent_ms) >= SILENT_MS_MIN:
                reached.passed_ms = max(reached.passed_ms + silent_ms, 0)
            reached.heard_ms = heard_ms
            if as_of_ms is not None and as_of_ms > reached.as_of_ms:
                reached.as_of_ms = as_of_ms
                if has_events:
                    reached.passed_ms = 0

    def recover(self, committed: Sequence[str]) -> None:
        """What was committed was put before."""


class _Kept:
    def __init__(self, config: _OnlineOutput, updates: Sequence[Update], progress: Progress) -> None:
        self._config = config
        self._updates = updates
        self._progress = progress

    @property
    def name(self) -> str:
        return str(self._progress.next_offset)

    def prepare(self) -> None:
        try:
            self._config.writer.put(self._progress.partition, self._updates, self._progress)
        except Fenced as error:
            # Not of these partitions: waiting is all that helps.
            raise StorageFailed(error.message, hint=error.hint) from error

    def publish(self) -> None:
        """Readers see it already."""
