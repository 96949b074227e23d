"""Windows as an app declares them, and what is made of them."""

from collections.abc import Container
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from penstock.app.stream_parts import Columns, Duration, columns_of, milliseconds
from penstock.core.errors import ConfigurationError, InvalidInput, shown
from penstock.streams.closed import as_events
from penstock.streams.decoding.formats import Format
from penstock.streams.graph import From, Keyed, Operated, Transformed
from penstock.streams.operator import OFFSET, TIME, Moment
from penstock.streams.plan import CLOSED, MAIN, UPDATES
from penstock.streams.sinks import Sink
from penstock.streams.windows import SessionConfig, WindowConfig
from penstock.streams.windows.aggregates.latest import Last
from penstock.streams.windows.aggregates.part import Aggregate
from penstock.streams.windows.aggregates.sketch import Sketched

if TYPE_CHECKING:
    from penstock.app.streams import Stream

__all__ = ["Window", "WindowedView", "latest_view", "read_columns", "where_made"]

LATEST_STEPS = 24
"""Of a time to live: so much earlier, at most, a value goes."""


class Window:
    """A window without its aggregates yet."""

    def __init__(  # noqa: PLR0913 - what a user writes, each by its name
        self,
        stream: "Stream",
        *,
        key: Columns,
        over: Duration | None,
        every: Duration | None,
        gap: Duration | None,
        name: str | None,
        keys_max: int | None,
    ) -> None:
        if (over is None) is (gap is None) or (gap is not None and every is not None):
            raise ConfigurationError(
                "a window has either over=, with every= or without, or gap=",
                hint='for example over="1h", every="5m"; or gap="30m" for sessions',
            )
        self._stream = stream
        self._by = columns_of(key, stream.schema, "window: key")
        self._over_ms = None if over is None else milliseconds(over, "over of a window")
        self._every_ms = self._over_ms if every is None else milliseconds(every, "every of a window")
        self._gap_ms = None if gap is None else milliseconds(gap, "gap of a window")
        # Without its length: with another one it is another window, and not one more.
        self._name = name or f"window {'.'.join(self._by)}"
        self._keys_max = keys_max

    def agg(self, **aggregates: Aggregate | Sketched) -> "WindowedView":
        """What is known of each window, by the names of the columns."""
        for column, aggregate in aggregates.items():
            if not (isinstance(aggregate, Sketched) or hasattr(aggregate, "column")):
                raise ConfigurationError(
                    f"{self._name!r}: {column}={shown(aggregate)} is no aggregate",
                    hint='for example n=ps.count(), delay=ps.mean("delay")',
                )
        config: WindowConfig | SessionConfig
        if self._over_ms is None:
            assert self._gap_ms is not None, "one of the two was given"
            config = SessionConfig(keys=self._by, gap_ms=self._gap_ms, aggregates=aggregates)
        else:
            config = WindowConfig(
                keys=self._by,
                over_ms=self._over_ms,
                every_ms=self._every_ms,
                aggregates=aggregates,
                reading=False,
                closing=False,
            )
        if self._keys_max is not None:
            config = replace(config, keys_max=self._keys_max)
        return WindowedView(self._stream, self._name, self._by, config)

    def __getattr__(self, name: str) -> object:
        if name in ("closed", "into"):
            raise ConfigurationError(
                f"{self._name!r} has no aggregates yet, and so no {name}",
                hint=f"call agg first: stream.window(...).agg(n=ps.count()).{name}",
            )
        raise AttributeError(f"a window has no {name!r}")


class WindowedView:
    """The aggregates of windows: read by a stream (`stream.enrich(view)`), or sent on as windows close."""

    def __init__(
        self,
        stream: "Stream",
        name: str,
        by: tuple[str, ...],
        config: WindowConfig | SessionConfig,
    ) -> None:
        self._declared = stream.declared
        self._stream = stream
        self._reader: Stream | None = None
        parent = stream.origin
        kept = parent.node.key
        read, closed = _schemas_of(config, stream.schema)
        self._read_schema = read
        self._closed_schema = closed
        self._config = config
        self._node = Operated(
            name=name,
            schemas={MAIN: read, CLOSED: closed},
            key=kept if kept and set(kept) <= set(by) else by,
            parent=parent,
            config=config,
            by=by,
        )
        self._declared.graph.add_operated(self._node)

    @property
    def name(self) -> str:
        return self._node.name

    @property
    def node(self) -> Operated:
        return self._node

    @property
    def config(self) -> WindowConfig | SessionConfig:
        return self._config

    @property
    def origin(self) -> From:
        """What it is a window over, as it was declared."""
        return self._stream.origin

    @property
    def known(self) -> pl.Schema:
        """What there is under a key: its columns and the aggregates."""
        names = (*self._config.keys, *self._config.aggregates)
        return pl.Schema({name: self._closed_schema[name] for name in names})

    def updated(self, lateness_ms: int) -> From:
        """What its windows come to from now on, of keys that were touched. The stream's time is `lateness_ms`
        ahead of the watermark.
        """
        assert isinstance(self._config, WindowConfig), "sessions are known once they are over"
        self._config = self._node.config = replace(self._config, updates="keys", lateness_ms=lateness_ms)
        return From(self._node, UPDATES)

    @property
    def closed(self) -> "Stream":
        """The windows as they close, once each: the key, `window_start`, `window_end` and the aggregates."""
        self._config = self._node.config = _closing(self._config)
        return type(self._stream)(self._declared, From(self._node, CLOSED))

    def into(
        self,
        sink: str | Sink,
        *,
        key: Columns | None = None,
        partitions: int | None = None,
        format: Format = "json",  # noqa: A002 - as it is written
        name: str | None = None,
    ) -> None:
        """Sends windows as they close to a topic, by its name, or to another sink."""
        self.closed.into(sink, key=key, partitions=partitions, format=format, name=name)

    def reads(self, stream: "Stream") -> bool:
        """Whether it is a window over what that stream has."""
        return _same_rows(stream.origin, self._stream.origin, read_columns(self._config))

    def read_by(self, stream: "Stream") -> "Stream":
        """See `Stream.enrich`."""
        if self._reader is not None:
            raise ConfigurationError(
                f"{self._node.name!r} is read already",
                hint="use the stream that enrich() gave, or declare the window once more under another name",
            )
        if not isinstance(self._config, WindowConfig):
            raise ConfigurationError(
                f"{self._node.name!r}: sessions are known once they are over", hint="send them on with into()"
            )
        if not self.reads(stream):
            raise ConfigurationError(
                f"{self._node.name!r} is a window over another stream than the one to be enriched",
                hint="enrich the stream that window() was called on, before anything else is done to it",
            )
        taken = [name for name in self._config.aggregates if name in stream.schema]
        if taken:
            raise ConfigurationError(
                f"{self._node.name!r}: the stream has a column {taken[0]!r} already", hint="name it otherwise"
            )
        self._node.parent = stream.origin
        self._config = self._node.config = replace(self._config, reading=True)
        self._node.schemas = {
            **self._node.schemas,
            MAIN: pl.Schema({**stream.schema, **_added(self._read_schema, self._stream.schema)}),
        }
        self._reader = type(self._stream)(self._declared, From(self._node))
        return self._reader


def latest_view(
    stream: "Stream", *, key: Columns, ttl: Duration, columns: Columns | None, name: str | None
) -> WindowedView:
    """See `Stream.latest`."""
    by = columns_of(key, stream.schema, "latest: key")
    wanted = columns_of(columns, stream.schema, "latest: columns")
    if columns is None:
        wanted = tuple(name for name, dtype in stream.schema.items() if name not in by and _numeric(dtype))
    if not wanted:
        raise ConfigurationError(
            "latest has no columns",
            hint="name some of numbers or booleans: columns=[...]; text can be a key, and no feature",
        )
    step_ms = -(-milliseconds(ttl, "ttl of latest") // LATEST_STEPS)
    over, every = f"{step_ms * LATEST_STEPS}ms", f"{step_ms}ms"
    named = name or f"latest {'.'.join(by)}"
    window = Window(stream, key=by, over=over, every=every, gap=None, name=named, keys_max=None)
    return window.agg(**{column: Last(column) for column in wanted})


def _numeric(dtype: pl.DataType) -> bool:
    """Whether a value of it can be a feature as it is."""
    wide = isinstance(dtype, pl.UInt64 | pl.Int128 | pl.UInt128)
    return dtype.is_float() or dtype == pl.Boolean() or (dtype.is_integer() and not wide)


def _same_rows(stream: From, origin: From, needed: Container[str]) -> bool:
    """Whether a stream has the rows of another, with other columns at most than those that are needed."""
    while stream != origin:
        before = _before(stream, needed)
        if before is None:
            return False
        stream = before
    return True


def where_made(origin: From, needed: Container[str]) -> From:
    """The first port at which the rows, and what is needed of them, are what they are at this one."""
    while (before := _before(origin, needed)) is not None:
        origin = before
    return origin


def _before(stream: From, needed: Container[str]) -> From | None:
    """Where it has its rows from, if those are the same, in the columns that are needed."""
    node = stream.node
    if stream.port != MAIN:
        return None
    match node:
        case Keyed():
            return node.parent
        case Operated(config=WindowConfig(aggregates=added)) if not any(name in needed for name in added):
            return node.parent
        case Transformed() if node.changes is not None and not any(name in needed for name in node.changes):
            return node.parent
    return None


def read_columns(config: WindowConfig | SessionConfig) -> set[str]:
    """Those that make its windows what they are."""
    aggregated = {each.column for each in config.aggregates.values() if each.column is not None}
    return {*config.keys, *aggregated}


def _closing(config: WindowConfig | SessionConfig) -> WindowConfig | SessionConfig:
    return replace(config, closing=True) if isinstance(config, WindowConfig) else config


def _schemas_of(config: WindowConfig | SessionConfig, schema: pl.Schema) -> tuple[pl.Schema, pl.Schema]:
    """What comes out of windows over such events: enriched, and closed."""
    if isinstance(config, WindowConfig):
        config = replace(config, closing=True)
    window = config.build(None)
    empty = pl.DataFrame(schema={**schema, TIME: pl.Int64(), OFFSET: pl.Int64()})
    moment = Moment(watermark_ms=0, next_watermark_ms=0, now_ms=0)
    try:
        window.process(empty, moment)
        closed = as_events(window.take_closed(), 0).schema
    except InvalidInput as error:
        raise ConfigurationError(error.message, hint=error.hint) from error
    added = {name: closed[name] for name in config.aggregates if isinstance(config, WindowConfig)}
    users = {name: dtype for name, dtype in closed.items() if not name.startswith("_")}
    return pl.Schema({**schema, **added}), pl.Schema(users)


def _added(schema: pl.Schema, before: pl.Schema) -> pl.Schema:
    return pl.Schema({name: dtype for name, dtype in schema.items() if name not in before})
