"""What a user writes in an app file of streams, tables and features.

Polars comes with them, which an app without streams does without: so it is imported where one is declared.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import polars as pl

    from penstock.app.features import DeclaredFeatures
    from penstock.app.joins import Table
    from penstock.app.stream_parts import Declared
    from penstock.app.streams import Stream
    from penstock.app.views import WindowedView
    from penstock.streams.decoding.formats import Format
    from penstock.streams.feeds.reading import FeedSource
    from penstock.streams.schema import TimeUnit
    from penstock.streams.sinks import Sink

__all__ = ["StreamsOfApp"]


class StreamsOfApp:
    """Of one app."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._streams: Declared | None = None

    @property
    def streams(self) -> "Declared":
        """What the app declares of streams. Brings Polars with it, as the app's file does by then."""
        if self._streams is None:
            from penstock.app.stream_parts import Declared

            self._streams = Declared(self.name)
        return self._streams

    @property
    def has_streams(self) -> bool:
        return self._streams is not None and not self._streams.graph.empty

    def table(  # noqa: PLR0913 - what a user writes, each by its name
        self,
        name: str,
        *,
        schema: object,
        key: str | Sequence[str],
        time: str | None = None,
        unit: "TimeUnit" = "ms",
        lateness: str | float = 0,
        idle: str | float | None = "1m",
        topic: str | None = None,
        partitions: int | None = None,
        retention: str | float | None = None,
        format: "Format" = "json",  # noqa: A002 - as it is written
        ahead: str | float = "1d",
    ) -> "Table":
        """A topic as a table, for `stream.join_table`: its last record of each key is what is known of it. A
        record without a value, but with the key as the topic's records have it, deletes that key. All else is
        as in `stream`.
        """
        from penstock.app.stream_declarations import declare_table

        return declare_table(
            self.streams,
            name,
            schema=schema,
            key=key,
            time=time,
            unit=unit,
            lateness=lateness,
            idle=idle,
            topic=topic,
            partitions=partitions,
            retention=retention,
            format=format,
            ahead=ahead,
        )

    def stream(  # noqa: PLR0913 - what a user writes, each by its name
        self,
        name: str,
        *,
        schema: object,
        time: str | None = None,
        unit: "TimeUnit" = "ms",
        key: str | Sequence[str] | None = None,
        lateness: str | float = 0,
        idle: str | float | None = "1m",
        ahead: str | float = "1d",
        expect: "Mapping[str, pl.Expr] | Sequence[pl.Expr]" = (),
        topic: str | None = None,
        partitions: int | None = None,
        retention: str | float | None = None,
        format: "Format" = "json",  # noqa: A002 - as it is written
        extra: Literal["ignore", "forbid"] = "ignore",
        source: "FeedSource | None" = None,
    ) -> "Stream":
        """Events of a topic (default: of the stream's name), as rows of `schema`: a dataclass, a msgspec
        struct, or a dict of names and Polars types. A `source` brings its rows into the topic, each once.

        `time` is the event's time, a datetime or a number in `unit`; without, when its record was produced.
        `key` says how whoever produces shares events out over the topic's `partitions`. Events may be out of
        order by `lateness`; later ones are set apart (`stream.late`). A partition without events for `idle`
        holds nothing back (None: it does). What is not as `expect` says, is `ahead` of the clock, or cannot be
        read (`extra="forbid"`: or has more fields) becomes a dead letter. `retention`: how long records stay.
        """
        from penstock.app.stream_declarations import declare_stream

        return declare_stream(
            self.streams,
            name,
            schema=schema,
            time=time,
            unit=unit,
            key=key,
            lateness=lateness,
            idle=idle,
            expect=expect,
            topic=topic,
            partitions=partitions,
            retention=retention,
            format=format,
            extra=extra,
            source=source,
            ahead=ahead,
        )

    def features(
        self,
        name: str,
        view: "WindowedView",
        *expressions: "pl.Expr",
        defaults: Mapping[str, float] | None = None,
        stale: str | float | None = None,
        history: "Sink | None" = None,
    ) -> "DeclaredFeatures":
        """Makes a window's aggregates features under its key, which models read by key in each request, and
        `expressions` over these columns as well.

        A feature that nobody knows, or of a view of which nothing was heard for `stale`, is what `defaults` say
        (0 for integers, false for booleans, NaN for other numbers). `history` keeps what was known when, for
        training: `penstock.delta(folder)` or `penstock.parquet(folder)`.
        """
        from penstock.app.features import FeatureOptions, declare_features

        options = FeatureOptions(expressions=expressions, defaults=defaults, stale=stale, history=history)
        return declare_features(self.streams, name, view, options)
