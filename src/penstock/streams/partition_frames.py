"""Which partition each row of a frame goes to, by its key."""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import polars as pl

from penstock.log.partitioning import partitions_of

_encode = msgspec.json.Encoder().encode

__all__ = ["key_bytes", "split_by_key"]


def key_bytes(frame: pl.DataFrame, columns: Sequence[str]) -> list[bytes | None]:
    """Each row's key as the log has it: text as it is, other single values as text, several as a JSON object.

    Null where a single key column is null.
    """
    if len(columns) == 1:
        column = frame.get_column(columns[0])
        if column.dtype == pl.Binary:
            return column.to_list()
        if not column.dtype.is_nested():
            return column.cast(pl.String).cast(pl.Binary).to_list()
    rows = list(zip(*(frame.get_column(name).to_list() for name in columns), strict=True))
    if any(frame.schema[name].is_nested() for name in columns):
        return [_encode(dict(zip(columns, row, strict=True))) for row in rows]
    # Rows share few keys.
    known = {row: _encode(dict(zip(columns, row, strict=True))) for row in set(rows)}
    return [known[row] for row in rows]


def split_by_key(
    frame: pl.DataFrame, columns: Sequence[str], partitions: int
) -> Iterator[tuple[int, pl.DataFrame, list[bytes | None] | None]]:
    """The rows of each partition that gets any, in their order, with their keys; None where there are no key
    columns.
    """
    if not columns:
        yield 0, frame, None
        return
    keys = key_bytes(frame, columns)
    if partitions == 1:
        yield 0, frame, keys
        return
    targets = partitions_of(keys, partitions)
    order = np.argsort(targets, kind="stable")
    sorted_targets = targets[order]
    bounds = np.searchsorted(sorted_targets, np.arange(partitions + 1))
    sorted_frame = frame[order]
    for partition in range(partitions):
        begin, end = int(bounds[partition]), int(bounds[partition + 1])
        if begin < end:
            yield partition, sorted_frame[begin:end], [keys[row] for row in order[begin:end].tolist()]
