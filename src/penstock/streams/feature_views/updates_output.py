"""The topic of a feature view: what its keys' features are from now on, as far as frames have touched them.

A record is an Arrow stream with a row for each key: the key as bytes, its timeline, and the time of the stream
as of which that is; and a number that is made of the view's definition, by which readers know what an older one
has left in the topic. A row without a key only says how far the stream's time has come, and that somebody sees
to it: there is one at least every second, also where no events come. Rows stay in their partition, in which all
events of their key are.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from penstock.features.timeline import HEAD_WORDS
from penstock.features.view import FeatureView
from penstock.log.records import Records, TopicPartition
from penstock.streams.encoding import encoder_of
from penstock.streams.feature_views.feature_rows import FeatureRowsConfig
from penstock.streams.operator import TIME, Moment
from penstock.streams.outputs import NOTHING, Append, Outlet, OutputConfig, Put
from penstock.streams.sinks import OutputPlace

__all__ = ["AS_OF", "KEY", "TIMELINE", "UPDATE_SCHEMA", "UpdatesSink", "number_of", "of_view", "well_formed"]

KEY = "key"
TIMELINE = "timeline"
AS_OF = "as_of"
DEFINITION = "definition"
UPDATE_SCHEMA = {KEY: pl.Binary(), TIMELINE: pl.Binary(), AS_OF: pl.Int64(), DEFINITION: pl.Int64()}
"""Of the topic's rows."""
HEARTBEAT_MS = 1000
BEGUN_MS = -(2**61)
"""Before that no event has been."""
RECORD_BYTES = 4 * 1024 * 1024
"""Timelines that are put into one record, about."""


def number_of(view: FeatureView) -> int:
    """What rows of the topic have of the view's definition."""
    digest = hashlib.blake2b(view.definition.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def of_view(frame: pl.DataFrame, view: FeatureView) -> pl.DataFrame:
    """The rows of the topic that the view has told as it is defined now."""
    definition = frame.get_column(DEFINITION)
    number = number_of(view)
    if frame.height and not definition.null_count() and definition.min() == definition.max() == number:
        return frame
    return frame.filter(definition == number)


def well_formed(view: FeatureView) -> pl.Expr:
    """Whether a row of the topic has a timeline of the view's features, no key, or another definition."""
    row_bytes = 8 * (HEAD_WORDS + len(view.features))
    size = pl.col(TIMELINE).bin.size().fill_null(0)
    other = (pl.col(DEFINITION) != number_of(view)).fill_null(value=False)
    return other | pl.col(KEY).is_null() | ((size > 0) & (size % row_bytes == 0) & pl.col(AS_OF).is_not_null())


@dataclass(frozen=True, kw_only=True)
class UpdatesSink:
    """`lateness_ms`: so far the stream's time is ahead of its watermark."""

    rows: FeatureRowsConfig
    lateness_ms: int

    @property
    def view(self) -> FeatureView:
        return self.rows.view

    @property
    def title(self) -> str:
        return f"features {self.view.name}"

    def output(self, place: OutputPlace) -> OutputConfig:
        place.topics.need(self.view.topic, place.partitions)
        return _UpdatesOutput(sink=self)


@dataclass(frozen=True, kw_only=True)
class _UpdatesOutput:
    sink: UpdatesSink

    def build(self, source: TopicPartition, state: bytes | None) -> Outlet:  # noqa: ARG002 - it has none
        return _UpdatesOutlet(self.sink, source.partition)


class _UpdatesOutlet:
    calls_function = False

    def __init__(self, sink: UpdatesSink, partition: int) -> None:
        self._rows = sink.rows.build()
        self._target = TopicPartition(sink.view.topic, partition)
        self._definition = number_of(sink.view)
        self._lateness_ms = sink.lateness_ms
        self._encoder = encoder_of("arrow")
        self._as_of_ms: int | None = None
        self._told_ms: int | None = None

    def put(self, frame: pl.DataFrame, moment: Moment, idle: bool) -> Put:  # noqa: ARG002 - as outlets have it
        if moment.next_watermark_ms > BEGUN_MS:
            self._reach(moment.next_watermark_ms + self._lateness_ms)
        if not frame.height:
            return self.tick(moment.now_ms)
        as_of_ms = int(frame.item(-1, TIME))
        self._reach(as_of_ms)
        self._told_ms = moment.now_ms
        computed = self._rows.computed(frame)
        keys, timelines = self._rows.timelines(frame, computed)
        sizes = np.fromiter(map(len, timelines), np.int64, count=len(timelines)).cumsum()
        cuts = np.searchsorted(sizes, np.arange(RECORD_BYTES, int(sizes[-1]), RECORD_BYTES)) + 1
        firsts = [0, *np.unique(cuts[cuts < len(keys)]).tolist()]
        appends = [
            self._append(keys[first:end], timelines[first:end], as_of_ms, moment.now_ms)
            for first, end in zip(firsts, [*firsts[1:], len(keys)], strict=True)
        ]
        return Put(appends=appends, failed=computed.failed)

    def tick(self, now_ms: int) -> Put:
        if self._told_ms is not None and abs(now_ms - self._told_ms) < HEARTBEAT_MS:
            return NOTHING
        self._told_ms = now_ms
        return Put(appends=[self._append([None], [None], self._as_of_ms, now_ms)])

    def take_changes(self) -> bytes:
        return b""

    def apply_changes(self, changes: bytes) -> None:
        assert not changes, "an outlet without state has no changes"

    def snapshot(self) -> bytes:
        return b""

    def recover(self, committed: Sequence[str]) -> None:
        assert not committed, "an outlet without effects has committed none"

    def _reach(self, as_of_ms: int) -> None:
        if self._as_of_ms is None or as_of_ms > self._as_of_ms:
            self._as_of_ms = as_of_ms

    def _append(
        self,
        keys: Sequence[bytes | None],
        timelines: Sequence[bytes | None],
        as_of_ms: int | None,
        now_ms: int,
    ) -> Append:
        rows = pl.DataFrame(
            {
                KEY: keys,
                TIMELINE: timelines,
                AS_OF: [as_of_ms] * len(keys),
                DEFINITION: [self._definition] * len(keys),
            },
            schema=UPDATE_SCHEMA,
        )
        values = self._encoder.encode(rows)
        return Append(target=self._target, records=Records(values=values, times_ms=np.array([now_ms])))
