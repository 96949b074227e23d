"""What a feature view would have known of older events, had it been there: computed by its own stage.

The events go through what the app declares of their stream, in the order of their times, in large frames and
one partition. The window tells of each event, and not of each frame: so the history has what was known at any
time, as if each event had been available when it was.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from penstock.app.features import DeclaredFeatures
from penstock.core.errors import ConfigurationError
from penstock.features.history import RUN_BITS, Ints, Moments, placed_rows
from penstock.features.online import BACKFILLED, NO_PLACE, Update
from penstock.log.records import Fetched, Records, TopicPartition
from penstock.streams.decoding.event_times import EventTimes
from penstock.streams.encoding import encoder_of
from penstock.streams.feature_views.feature_rows import Computed
from penstock.streams.graph import Branched, From, Graph, Joined, Keyed, Operated, Sent, Source, Transformed
from penstock.streams.intake import Instant
from penstock.streams.operator import TIME, Moment
from penstock.streams.outputs import NOTHING, Outlet, OutputConfig, Put
from penstock.streams.plan import CLOSED, UPDATES
from penstock.streams.reasons import Reason
from penstock.streams.sinks import OutputPlace
from penstock.streams.stage import Stage, StageResult
from penstock.streams.topology import topology
from penstock.streams.updating import FROM, TIMELINE
from penstock.streams.windows import WindowConfig

__all__ = ["Backfilling", "in_time_order"]

FRAME_ROWS = 1 << 16
WHOLE = (Reason.UNDECODABLE, Reason.SCHEMA, Reason.TIME_OUT_OF_RANGE)
"""For these a frame is refused with all of its rows."""


class Backfilling:
    """Of one view. `now_ms` bounds events' times. `online` says whether what is known in the end is kept.

    Raises `ConfigurationError` for a view over joined streams.
    """

    def __init__(self, features: DeclaredFeatures, now_ms: int, *, online: bool = False) -> None:
        self.run = 0
        """The number of the backfill in its history, from 1; 0 where there is none."""
        self._view = features.view
        self._rows = features.rows.build()
        self._source, graph, self._collector = _graph(features)
        (plan,) = topology(graph, {}).stages
        self._partition = TopicPartition(plan.source, 0)
        self._stage = Stage(plan, self._partition)
        self._encoder = encoder_of("arrow")
        self._now_ms = now_ms
        self._online = online
        self._last: dict[bytes, Update] = {}
        self._frames = 0
        self._updates = 0
        self.refused: Counter[str] = Counter()
        """Events and rows that became nothing, by the reason that a dead letter would have."""

    @property
    def columns(self) -> dict[str, pl.DataType]:
        """Of the stream that the view comes of."""
        return dict(self._source.schema.columns)

    def rows(self, events: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """The history of events, which come in the order of their times, in several calls if need be."""
        for start in range(0, events.height, FRAME_ROWS):
            ranges = [(start, min(start + FRAME_ROWS, events.height))]
            while ranges:
                begin, end = ranges.pop()
                result = self._process(events[begin:end])
                if end - begin > 1 and _refused_whole(result):
                    middle = (begin + end) // 2
                    ranges += [(middle, end), (begin, middle)]
                    continue
                self.refused.update(str(letter.reason) for letter in result.dead)
                yield from map(self._placed, self._collector.take())

    def in_order(self, events: pl.DataFrame) -> pl.DataFrame:
        """The events by their times; those without one are refused."""
        ordered = in_time_order(events, self._source, self._now_ms)
        if ordered.height < events.height:
            self.refused[str(Reason.SCHEMA)] += events.height - ordered.height
        return ordered

    def known(self) -> list[Update]:
        """Of each key the last update."""
        return list(self._last.values())

    def _process(self, events: pl.DataFrame) -> StageResult:
        offset, self._frames = self._frames, self._frames + 1
        fetched = Fetched(
            source=self._partition,
            offsets=np.array([offset]),
            records=Records(values=self._encoder.encode(events), times_ms=np.array([self._now_ms])),
            next_offset=offset + 1,
        )
        return self._stage.process(fetched, Instant(now_ms=self._now_ms, monotonic_ms=0.0))

    def _placed(self, updates: pl.DataFrame) -> pl.DataFrame:
        computed = self._rows.computed(updates)
        self.refused.update(str(row.reason) for row in computed.failed)
        numbers = updates.get_column(TIMELINE).to_numpy()
        offsets = (self.run << RUN_BITS) + self._updates + numbers
        if self._online:
            self._keep(updates, computed, numbers, offsets)
        self._updates += int(numbers[-1]) + 1
        times_ms = updates.get_column(TIME).to_numpy()
        from_ms = updates.get_column(FROM).to_numpy()
        return placed_rows(
            self._view, computed.frame, Moments(times_ms, times_ms, BACKFILLED, offsets, from_ms)
        )

    def _keep(self, updates: pl.DataFrame, computed: Computed, numbers: Ints, offsets: Ints) -> None:
        """The last timeline of each key: it goes to its end."""
        keys = computed.frame.select(self._view.key_names)
        last = keys.with_columns(_number=numbers).group_by(self._view.key_names).agg(pl.col("_number").max())
        chosen = np.isin(numbers, last.get_column("_number").to_numpy())
        rows = updates.filter(pl.Series(chosen))
        starts = np.diff(rows.get_column(TIMELINE).to_numpy(), prepend=-1) != 0
        rows = rows.with_columns(pl.Series(TIMELINE, starts.cumsum() - 1))
        features = Computed(computed.frame.filter(pl.Series(chosen)), ())
        times_ms = rows.filter(pl.Series(starts)).get_column(TIME).to_list()
        places = offsets[chosen][starts].tolist() if self.run else [NO_PLACE] * len(times_ms)
        timelines = self._rows.timelines(rows, features)
        for key, timeline, time_ms, place in zip(*timelines, times_ms, places, strict=True):
            self._last[key] = Update(key, place, time_ms, timeline)


def in_time_order(events: pl.DataFrame, source: Source, now_ms: int) -> pl.DataFrame:
    """Without those that have no time. What cannot be read as one comes first, to be refused."""
    name = source.schema.time
    if name is None:
        raise ConfigurationError(
            f"stream {source.name!r} has no column of times, and takes those of its records",
            hint="declare one: app.stream(..., time=COLUMN)",
        )
    if name not in events.columns:
        return events
    if events.get_column(name).null_count():
        events = events.filter(pl.col(name).is_not_null())
    column = events.get_column(name)
    times = EventTimes(schema=source.schema, ahead_ms=source.ahead_ms)
    if not (column.dtype.is_integer() or isinstance(column.dtype, pl.Datetime | pl.String)):
        return events
    times_ms, _ = times.read(column, np.zeros(0, np.int64), now_ms)
    if (times_ms[1:] >= times_ms[:-1]).all():
        return events
    return events[np.argsort(times_ms, kind="stable")]


def _refused_whole(result: StageResult) -> bool:
    return not result.rows and any(letter.reason in WHOLE for letter in result.dead)


def _graph(features: DeclaredFeatures) -> tuple[Source, Graph, "_Collector"]:
    """The view's way from its stream's events alone, in one partition."""
    node = features.windowed.node
    assert isinstance(node.config, WindowConfig), "a view is of windows"
    config = replace(node.config, updates="events", reading=False, closing=False)
    parent, source = _cloned(node.parent, features)
    graph = Graph(features.declared.graph.app)
    graph.add_source(source)
    collector = _Collector()
    clone = replace(node, parent=parent, config=config)
    graph.add_output(Sent(name="history", parent=From(clone, UPDATES), sink=collector))
    return source, graph, collector


def _cloned(origin: From, features: DeclaredFeatures) -> tuple[From, Source]:
    node = origin.node
    if isinstance(node, Source):
        alone = replace(node, partitions=1, form="arrow", fed_by=None, made_of=None)
        return From(alone, origin.port), alone
    if isinstance(node, Joined):
        raise ConfigurationError(
            f"features {features.name!r} come of a join, and one source of events is not enough for it",
            hint="join the events beforehand, or let the stream run over the history of both",
        )
    if isinstance(node, Keyed):
        return _cloned(node.parent, features)
    assert isinstance(node, Transformed | Branched | Operated), f"{node!r} comes of another node"
    parent, source = _cloned(node.parent, features)
    if isinstance(node, Operated) and isinstance(node.config, WindowConfig):
        # What else it tells of, nobody would take.
        config = replace(node.config, updates=None, closing=origin.port == CLOSED)
        return From(replace(node, parent=parent, config=config), origin.port), source
    return From(replace(node, parent=parent), origin.port), source


class _Collector:
    """A sink that keeps frames until they are taken, and its outlet."""

    title = "history"
    calls_function = False

    def __init__(self) -> None:
        self._frames: list[pl.DataFrame] = []

    def take(self) -> list[pl.DataFrame]:
        frames, self._frames = self._frames, []
        return frames

    def output(self, place: OutputPlace) -> OutputConfig:  # noqa: ARG002 - as sinks have it
        return self

    def build(self, source: TopicPartition, state: bytes | None) -> Outlet:  # noqa: ARG002 - it has none
        return self

    def put(self, frame: pl.DataFrame, moment: Moment, idle: bool) -> Put:  # noqa: ARG002 - as outlets have it
        if frame.height:
            self._frames.append(frame)
        return NOTHING

    def tick(self, now_ms: int) -> Put:  # noqa: ARG002 - nothing is ever due
        return NOTHING

    def take_changes(self) -> bytes:
        return b""

    def apply_changes(self, changes: bytes) -> None:
        assert not changes, "it has no state"

    def snapshot(self) -> bytes:
        return b""

    def recover(self, committed: Sequence[str]) -> None:
        assert not committed, "it has no effects"
