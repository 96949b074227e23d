"""What a feature view's topic says of keys, appended to its history: each update once, a row for each time from
which on something changes. See `penstock.features.history`.

What was gathered and not yet written when the view was defined otherwise belongs into no folder: it goes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import polars as pl

from penstock.core.errors import ConfigurationError, CorruptState, StorageFailed
from penstock.features.history import history_rows
from penstock.features.history_mark import check_mark, claim_folder
from penstock.features.view import FeatureView
from penstock.log.records import TopicPartition
from penstock.streams.delta import DeltaSink
from penstock.streams.feature_views.updates_output import AS_OF, KEY, TIMELINE, number_of, of_view
from penstock.streams.operator import OFFSET, TIME, Moment
from penstock.streams.outputs import Effect, Outlet, OutputConfig, Put
from penstock.streams.parquet import ParquetSink
from penstock.streams.sinks import OutputPlace

__all__ = ["HistorySink"]


@dataclass(frozen=True, kw_only=True)
class HistorySink:
    """Takes the rows of the view's topic, and gives its history to a sink of files."""

    view: FeatureView
    sink: ParquetSink | DeltaSink

    @property
    def folder(self) -> Path:
        return self.sink.folder

    @property
    def title(self) -> str:
        return f"history of {self.view.name}"

    def output(self, place: OutputPlace) -> OutputConfig:
        """Raises `ConfigurationError` where the folder has another history."""
        check_mark(self.folder, self.view, writes=True)
        return _HistoryOutput(view=self.view, folder=self.folder, inner=self.sink.output(place))


@dataclass(frozen=True, kw_only=True)
class _HistoryOutput:
    view: FeatureView
    folder: Path
    inner: OutputConfig

    def build(self, source: TopicPartition, state: bytes | None) -> Outlet:
        kept = None if state is None else _of_definition(state, number_of(self.view))
        return _HistoryOutlet(self, self.inner.build(source, kept), source.partition)


class _Kept(msgspec.Struct, array_like=True):
    """What a gathering outlet keeps, and of which definition of the view its rows are."""

    definition: int
    inner: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Kept).decode


def _of_definition(state: bytes, definition: int) -> bytes | None:
    """None for rows that were gathered when the view was defined otherwise. Raises `CorruptState`."""
    if not state:
        return None
    try:
        kept = _decode(state)
    except msgspec.DecodeError as error:
        raise CorruptState(
            f"what was gathered for a history cannot be read: {error}",
            hint="run the release that wrote it until the history has it; or reset the app's group, and the"
            " stream begins anew",
        ) from error
    return kept.inner if kept.definition == definition else None


class _HistoryOutlet:
    calls_function = False

    def __init__(self, config: _HistoryOutput, inner: Outlet, partition: int) -> None:
        self._config = config
        self._view = config.view
        self._definition = number_of(config.view)
        self._inner = inner
        self._partition = partition

    def put(self, frame: pl.DataFrame, moment: Moment, idle: bool) -> Put:
        if frame.height:
            frame = of_view(frame, self._view).filter(pl.col(KEY).is_not_null())
        if not frame.height:
            return self.tick(moment.now_ms)
        updates = frame.select(
            key=KEY, timeline=TIMELINE, event_time=AS_OF, available_at=TIME, offset=OFFSET
        ).with_columns(partition=pl.lit(self._partition))
        return self._marking(self._inner.put(history_rows(self._view, updates), moment, idle))

    def tick(self, now_ms: int) -> Put:
        return self._marking(self._inner.tick(now_ms))

    def take_changes(self) -> bytes:
        return self._kept(self._inner.take_changes())

    def apply_changes(self, changes: bytes) -> None:
        own = _of_definition(changes, self._definition)
        if own:
            self._inner.apply_changes(own)

    def snapshot(self) -> bytes:
        return self._kept(self._inner.snapshot())

    def recover(self, committed: Sequence[str]) -> None:
        self._inner.recover(committed)

    def _kept(self, inner: bytes) -> bytes:
        return _encode(_Kept(self._definition, inner)) if inner else b""

    def _marking(self, put: Put) -> Put:
        if not put.effects:
            return put
        return replace(put, effects=[_Marking(self._config, each) for each in put.effects])


class _Marking(Effect):
    """Before a file is there, it is said what the folder is of."""

    def __init__(self, config: _HistoryOutput, inner: Effect) -> None:
        self._config = config
        self._inner = inner

    @property
    def name(self) -> str:
        return self._inner.name

    def prepare(self) -> None:
        try:
            claim_folder(self._config.folder, self._config.view)
        except ConfigurationError as error:
            # It was another's only after this process was started.
            raise StorageFailed(error.message, hint=error.hint) from error
        self._inner.prepare()

    def publish(self) -> None:
        self._inner.publish()
