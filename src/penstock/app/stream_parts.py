"""What declarations of streams have in common: names of columns, durations, outputs."""

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, get_args

import polars as pl

from penstock.app.late_scorer import LateScorer
from penstock.app.looked_up import LookedUpFeatures
from penstock.core.durations import duration_s
from penstock.core.errors import ConfigurationError, shown
from penstock.streams.async_calls import AsyncCallsThread
from penstock.streams.calling import CallableSink
from penstock.streams.decoding.formats import Format
from penstock.streams.delta import DeltaSink
from penstock.streams.feeds.reading import FeedSource
from penstock.streams.graph import From, Graph, Operated, Sent
from penstock.streams.parquet import ParquetSink
from penstock.streams.sinks import Sink, TopicSink
from penstock.streams.topology import topology
from penstock.streams.windows import WindowConfig

if TYPE_CHECKING:
    from penstock.app.features import DeclaredFeatures

__all__ = [
    "Columns",
    "Declared",
    "Duration",
    "check_format",
    "checked_source",
    "columns_of",
    "milliseconds",
    "send",
]

Columns = str | Sequence[str]
Duration = str | float

ASYNC_TIMEOUT_S = 20.0


class Declared:
    """The streams of an app."""

    def __init__(self, app: str) -> None:
        self.graph = Graph(app)
        self.scorer = LateScorer()
        """Who scores, and what is to be scored."""
        self.features: dict[str, DeclaredFeatures] = {}
        self.looked_up = LookedUpFeatures()
        self._calls: AsyncCallsThread | None = None

    def check(self, models: Container[str]) -> None:
        """Raises `ConfigurationError` for what only shows when all is declared. `models` are the app's."""
        for scored in self.scorer.declared:
            if scored.model not in models:
                raise ConfigurationError(
                    f"app {self.graph.app!r} scores a stream by {scored.model!r}, which it does not declare",
                    hint=f"add app.model({scored.model!r})",
                )
        for node in self.graph.operated.values():
            config = node.config if isinstance(node, Operated) else None
            used = isinstance(config, WindowConfig) and (config.reading or config.closing or config.updates)
            if isinstance(config, WindowConfig) and not used:
                raise ConfigurationError(
                    f"{node.name!r} of app {self.graph.app!r} is neither read nor sent anywhere",
                    hint="stream.enrich(view) reads it, view.into(topic) sends it as windows close, and"
                    " app.features(name, view) lets models read it by key",
                )
        topology(self.graph, {})

    @property
    def calls(self) -> AsyncCallsThread:
        """Where async functions run; made for the first of them."""
        if self._calls is None:
            self._calls = AsyncCallsThread(timeout_s=ASYNC_TIMEOUT_S)
        return self._calls


def send(  # noqa: PLR0913 - what a user writes, each by its name
    declared: Declared,
    origin: From,
    sink: str | Sink,
    *,
    key: Columns | None,
    partitions: int | None,
    format: Format,  # noqa: A002 - as it is written
    name: str | None,
) -> None:
    """Adds an output."""
    schema = origin.node.schemas[origin.port]
    if isinstance(sink, str):
        default = [column for column in origin.node.key if column in schema]
        by = columns_of(default if key is None else key, schema, f"into {sink!r}: key")
        sink = TopicSink(topic=sink, key=by, partitions=partitions, format=format)
    elif key is not None or partitions is not None:
        raise ConfigurationError("key and partitions are a topic's", hint="leave them out for other sinks")
    if not isinstance(getattr(sink, "title", None), str):
        raise ConfigurationError(
            f"events cannot be sent into {shown(sink)}",
            hint="give the name of a topic, ps.parquet(folder) or ps.call(function)",
        )
    check_format(format, "into")
    declared.graph.add_output(Sent(name=name or f"to {sink.title}", parent=origin, sink=sink))


def columns_of(key: Columns | None, schema: pl.Schema, what: str) -> tuple[str, ...]:
    """Names of columns as a tuple. Raises `ConfigurationError` for those that there are not."""
    names = () if key is None else (key,) if isinstance(key, str) else tuple(key)
    for name in names:
        if name not in schema:
            raise ConfigurationError(
                f"{what}: there is no column {shown(name)}", hint=f"the columns are {', '.join(schema)}"
            )
    return names


def check_format(form: str, what: str) -> None:
    """Raises `ConfigurationError` for one that there is not."""
    if form not in get_args(Format):
        raise ConfigurationError(
            f"{what}: there is no format {shown(form)}", hint=f"it is one of {', '.join(get_args(Format))}"
        )


def checked_source(source: object, what: str) -> FeedSource | None:
    """Raises `ConfigurationError` for what no stream can be fed from."""
    if source is None or isinstance(source, ParquetSink | DeltaSink | CallableSink):
        return source
    raise ConfigurationError(
        f"source {what}: {shown(source)} is none",
        hint="ps.parquet(folder), ps.delta(folder) or ps.call(function); a topic is named by topic=",
    )


def milliseconds(value: Duration, what: str) -> int:
    return round(duration_s(value, what) * 1000)
