"""What a feature view's topic says of keys, put into the online store: at least once, and in order.

It is put there before the topic's offsets are committed. As the topic is committed data, whatever fails between
the two comes again as it was, and changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from penstock.core.errors import Fenced, StorageFailed
from penstock.features.online import NO_TIME_MS, OnlineWriter, Progress, Update
from penstock.features.view import FeatureView
from penstock.log.records import TopicPartition
from penstock.streams.feature_views.updates_output import AS_OF, KEY, TIMELINE
from penstock.streams.operator import OFFSET, TIME, Moment
from penstock.streams.outputs import NOTHING, Outlet, OutputConfig, Put
from penstock.streams.sinks import OutputPlace

__all__ = ["OnlineSink"]


@dataclass(frozen=True, kw_only=True)
class OnlineSink:
    """Takes the rows of the view's topic."""

    view: FeatureView

    @property
    def title(self) -> str:
        return f"online {self.view.name}"

    def output(self, place: OutputPlace) -> OutputConfig:
        return _OnlineOutput(self.view, place)


@dataclass(frozen=True)
class _OnlineOutput:
    view: FeatureView
    place: OutputPlace

    @cached_property
    def writer(self) -> OnlineWriter:
        """Opened by the thread that puts, and shared by all partitions."""
        assert self.place.online is not None, "whoever works on a graph says where its online store is"
        return self.place.online.writer(self.view)

    def build(self, source: TopicPartition, state: bytes | None) -> Outlet:  # noqa: ARG002 - it has none
        return _OnlineOutlet(self, source.partition)


class _OnlineOutlet:
    calls_function = False

    def __init__(self, config: _OnlineOutput, partition: int) -> None:
        self._config = config
        self._partition = partition
        self._as_of_ms = NO_TIME_MS

    def put(self, frame: pl.DataFrame, moment: Moment, idle: bool) -> Put:  # noqa: ARG002 - as outlets have it
        if not frame.height:
            return NOTHING
        told = frame.get_column(AS_OF).max()
        if isinstance(told, int):
            self._as_of_ms = max(self._as_of_ms, told)
        progress = Progress(
            partition=self._partition,
            as_of_ms=self._as_of_ms,
            next_offset=int(frame.item(-1, OFFSET)) + 1,
            heard_ms=int(frame.item(-1, TIME)),
        )
        keyed = frame.filter(pl.col(KEY).is_not_null())
        last = keyed.unique(KEY, keep="last", maintain_order=True).select(KEY, OFFSET, TIME, TIMELINE)
        return Put(effects=[_Kept(self._config, list(map(Update._make, last.iter_rows())), progress)])

    def tick(self, now_ms: int) -> Put:  # noqa: ARG002 - nothing is ever due
        return NOTHING

    def take_changes(self) -> bytes:
        return b""

    def apply_changes(self, changes: bytes) -> None:
        assert not changes, "an outlet without state has no changes"

    def snapshot(self) -> bytes:
        return b""

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
