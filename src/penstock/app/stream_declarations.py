"""What a user writes of where events come from: streams and tables."""

from collections.abc import Mapping, Sequence
from typing import Literal

import polars as pl

from penstock.app.joins import Table
from penstock.app.stream_parts import (
    Columns,
    Declared,
    Duration,
    check_format,
    checked_source,
    columns_of,
    milliseconds,
)
from penstock.app.streams import Stream
from penstock.core.durations import duration_s
from penstock.streams.decoding.formats import Format
from penstock.streams.expectations import Expectations
from penstock.streams.feeds.reading import FeedSource
from penstock.streams.graph import From, Source
from penstock.streams.plan import LATE, MAIN
from penstock.streams.schema import StreamSchema, TimeUnit

__all__ = ["declare_stream", "declare_table"]


def declare_stream(  # noqa: PLR0913 - what a user writes, each by its name
    declared: Declared,
    name: str,
    *,
    schema: object,
    time: str | None,
    unit: TimeUnit,
    key: Columns | None,
    lateness: Duration,
    idle: Duration | None,
    expect: Mapping[str, pl.Expr] | Sequence[pl.Expr],
    topic: str | None,
    partitions: int | None,
    retention: Duration | None,
    format: Format,  # noqa: A002 - as it is written
    extra: Literal["ignore", "forbid"],
    source: FeedSource | None = None,
    ahead: Duration = "1d",
) -> Stream:
    """See `App.stream`."""
    columns = StreamSchema.of(schema, time=time, unit=unit, extra=extra)
    dtypes = pl.Schema(columns.columns)
    by = columns_of(key, dtypes, f"stream {name!r}: key")
    what = f"of stream {name!r}"
    check_format(format, f"stream {name!r}")
    node = Source(
        name=name,
        topic=topic or name,
        schemas={MAIN: dtypes, LATE: dtypes},
        key=by,
        schema=columns,
        form=format,
        lateness_ms=milliseconds(lateness, f"lateness {what}"),
        idle_ms=None if idle is None else milliseconds(idle, f"idle {what}"),
        ahead_ms=milliseconds(ahead, f"ahead {what}"),
        expectations=Expectations.of(expect, dtypes) if expect else None,
        partitions=partitions,
        retention_s=None if retention is None else duration_s(retention, f"retention {what}"),
        fed_by=checked_source(source, what),
    )
    declared.graph.add_source(node)
    return Stream(declared, From(node))


def declare_table(  # noqa: PLR0913 - likewise
    declared: Declared,
    name: str,
    *,
    schema: object,
    key: Columns,
    time: str | None,
    unit: TimeUnit,
    lateness: Duration,
    idle: Duration | None,
    topic: str | None,
    partitions: int | None,
    retention: Duration | None,
    format: Format,  # noqa: A002 - as it is written
    ahead: Duration,
) -> Table:
    """See `App.table`."""
    stream = declare_stream(
        declared,
        name,
        schema=schema,
        time=time,
        unit=unit,
        key=key,
        lateness=lateness,
        idle=idle,
        expect=(),
        topic=topic,
        partitions=partitions,
        retention=retention,
        format=format,
        extra="ignore",
        ahead=ahead,
    )
    source = stream.origin.node
    assert isinstance(source, Source), "a stream as it is declared"
    source.table = True
    return Table(stream, source.key)
