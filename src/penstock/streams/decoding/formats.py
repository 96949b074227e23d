"""The decoder of a format."""

from typing import Literal, get_args

import msgspec

from penstock.core.errors import ConfigurationError
from penstock.streams.decoding.arrow_rows import ArrowDecoder
from penstock.streams.decoding.decoded import Decoder
from penstock.streams.decoding.event_times import DAY_MS, EventTimes
from penstock.streams.decoding.rows import RowDecoder
from penstock.streams.schema import StreamSchema

__all__ = ["Format", "decoder_of"]

Format = Literal["json", "msgpack", "arrow"]


def decoder_of(form: Format, schema: StreamSchema, *, ahead_ms: int = DAY_MS) -> Decoder:
    """Of records in that format. Events that are more than `ahead_ms` after now are bad records.

    Raises `ConfigurationError` for a format that there is not.
    """
    if ahead_ms < 0:
        raise ConfigurationError(f"{schema.name}: {ahead_ms} ms is no time that events may be ahead")
    times = EventTimes(schema=schema, ahead_ms=ahead_ms)
    if form == "json":
        return RowDecoder(schema, times, msgspec.json.Decoder(schema.row_type).decode)
    if form == "msgpack":
        return RowDecoder(schema, times, msgspec.msgpack.Decoder(schema.row_type).decode)
    if form == "arrow":
        return ArrowDecoder(schema, times)
    raise ConfigurationError(f"there is no format {form!r}", hint=f"known are {', '.join(get_args(Format))}")
