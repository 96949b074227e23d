"""Streams joined with each other and with tables, as an app declares it."""

from typing import TYPE_CHECKING, Literal

from penstock.app.stream_parts import Columns, Duration, columns_of, milliseconds
from penstock.core.errors import ConfigurationError
from penstock.streams.graph import From, Joined
from penstock.streams.joins.columns import JoinColumns
from penstock.streams.joins.interval import IntervalJoinConfig
from penstock.streams.joins.table import TableJoinConfig
from penstock.streams.operator import TwoInputConfig
from penstock.streams.plan import MAIN

if TYPE_CHECKING:
    from penstock.app.streams import Stream

__all__ = ["Table", "join_streams", "join_table"]


class Table:
    """A topic as a table: what its last record says of each key. A record without a value deletes its key."""

    def __init__(self, stream: "Stream", key: tuple[str, ...]) -> None:
        self.stream = stream
        self.key = key


def join_streams(  # noqa: PLR0913 - what a user writes, each by its name
    left: "Stream",
    right: "Stream",
    *,
    key: Columns,
    right_key: Columns | None,
    before: Duration,
    after: Duration,
    how: Literal["inner", "left"],
    suffix: str,
    name: str | None,
) -> Joined:
    """See `Stream.join`."""
    columns = _columns(left, right, key, right_key, suffix)
    config = IntervalJoinConfig(
        columns=columns,
        before_ms=milliseconds(before, "before of a join"),
        after_ms=milliseconds(after, "after of a join"),
        how=how,
    )
    return _joined(left, right, columns, config, name)


def join_table(  # noqa: PLR0913 - what a user writes, each by its name
    left: "Stream",
    table: Table,
    *,
    key: Columns | None,
    mode: Literal["latest", "as_of"],
    ttl: Duration,
    suffix: str,
    name: str | None,
) -> Joined:
    """See `Stream.join_table`."""
    if not isinstance(table, Table):
        raise ConfigurationError("join_table() joins with a table", hint="declare one: app.table(...)")
    columns = _columns(left, table.stream, table.key if key is None else key, table.key, suffix)
    config = TableJoinConfig(columns=columns, ttl_ms=milliseconds(ttl, "ttl of a table"), mode=mode)
    return _joined(left, table.stream, columns, config, name)


def _columns(
    left: "Stream", right: "Stream", key: Columns, right_key: Columns | None, suffix: str
) -> JoinColumns:
    by = columns_of(key, left.schema, "join: key")
    other = by if right_key is None else columns_of(right_key, right.schema, "join: right_key")
    return JoinColumns(left=left.schema, right=right.schema, left_key=by, right_key=other, suffix=suffix)


def _joined(
    left: "Stream", right: "Stream", columns: JoinColumns, config: TwoInputConfig, name: str | None
) -> Joined:
    if left.declared is not right.declared:
        raise ConfigurationError("a join is of streams of one app")
    by = tuple(columns.left_key)
    sides = (_source_name(left), _source_name(right))
    node = Joined(
        name=name or f"{sides[0]}.join.{sides[1]}",
        schemas={MAIN: columns.schema},
        key=by,
        left=left.origin,
        right=right.origin,
        left_by=by,
        right_by=tuple(columns.right_key),
        config=config,
    )
    left.declared.graph.add_operated(node)
    return node


def _source_name(stream: "Stream") -> str:
    """Of the stream that it all began with."""
    origin: From = stream.origin
    while (parent := getattr(origin.node, "parent", None) or getattr(origin.node, "left", None)) is not None:
        origin = parent
    name: str = getattr(origin.node, "name", "stream")
    return name
