"""Frames to records' values: one for each row in JSON and MessagePack, one for the whole frame in Arrow.

What was encoded is decoded to the same by a schema of the same types, with two losses that lie in the formats:
JSON has no NaN and no infinity, which become null; and times are told to the microsecond.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, get_args

import msgspec
import polars as pl

from penstock.core.errors import ConfigurationError, InvalidInput
from penstock.log.packed_values import PackedValues, Run
from penstock.streams.decoding.formats import Format

__all__ = ["Encoder", "encoder_of"]

RESERVED_PREFIX = "_"
SHAPES_MAX = 64
CHUNK_ROWS = 512
"""Rows that are Python objects at once: those of 10,000 would leave the processor's cache before they are
written, a third slower, measured."""


_json = msgspec.json.Encoder()
_msgpack = msgspec.msgpack.Encoder()


class Encoder(Protocol):
    """Encodes the columns of a frame, without those whose names begin with `_`."""

    def encode(self, frame: pl.DataFrame) -> Sequence[bytes]:
        """Raises `InvalidInput` for a value that the format cannot hold."""
        ...


def encoder_of(form: Format) -> Encoder:
    """Raises `ConfigurationError` for a format that there is not."""
    if form == "json":
        return _RowEncoder(_as_json)
    if form == "msgpack":
        return _RowEncoder(_as_msgpack)
    if form == "arrow":
        return _ArrowEncoder()
    raise ConfigurationError(f"there is no format {form!r}", hint=f"known are {', '.join(get_args(Format))}")


class _RowEncoder:
    """Rows as structs, which msgspec writes three times as fast as dicts."""

    def __init__(self, encode: Callable[[Iterable[list[Any]]], Sequence[bytes]]) -> None:
        """`encode` is given rows, some at a time."""
        self._encode = encode
        self._shapes: dict[tuple[str, ...], type[msgspec.Struct]] = {}

    def encode(self, frame: pl.DataFrame) -> Sequence[bytes]:
        columns = [series for series in frame.get_columns() if not series.name.startswith(RESERVED_PREFIX)]
        if not columns:
            return self._encode([[{}] * frame.height])
        try:
            return self._encode(self._chunks(columns, frame.height))
        except (OverflowError, TypeError, ValueError) as error:
            # An integer beyond 64 bits, a year beyond 9999, an object: what an expression may have made.
            raise InvalidInput(f"a frame cannot be encoded: {error}", hint="cast the column") from error

    def _chunks(self, columns: list[pl.Series], height: int) -> Iterator[list[Any]]:
        shape = self._shape(tuple(series.name for series in columns))
        for start in range(0, height, CHUNK_ROWS):
            values = [series.slice(start, CHUNK_ROWS).to_list() for series in columns]
            yield list(map(shape, *values))

    def _shape(self, names: tuple[str, ...]) -> type[msgspec.Struct]:
        shape = self._shapes.get(names)
        if shape is None:
            if len(self._shapes) >= SHAPES_MAX:
                self._shapes.clear()
            fields = [(f"c{number}", Any) for number in range(len(names))]
            rename = {field: name for (field, _), name in zip(fields, names, strict=True)}
            shape = self._shapes[names] = msgspec.defstruct("Row", fields, rename=rename, gc=False)
        return shape


def _as_json(chunks: Iterable[list[Any]]) -> Sequence[bytes]:
    """As lines all at once, in two thirds of the time: no line break stands within a line of JSON. The log
    takes them as they lie, and whoever wants one has them cut.
    """
    return PackedValues([Run.of_lines(_json.encode_lines(rows)) for rows in chunks])


def _as_msgpack(chunks: Iterable[list[Any]]) -> Sequence[bytes]:
    return [_msgpack.encode(row) for rows in chunks for row in rows]


class _ArrowEncoder:
    """An Arrow IPC stream in the types that all readers know: no views, no compression."""

    def encode(self, frame: pl.DataFrame) -> list[bytes]:
        if not frame.height:
            return []
        written = io.BytesIO()
        kept = [name for name in frame.columns if not name.startswith(RESERVED_PREFIX)]
        frame.select(kept).write_ipc_stream(written, compat_level=pl.CompatLevel.oldest())
        return [written.getvalue()]
