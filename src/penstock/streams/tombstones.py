"""Records without a value: what a table has no more."""

from collections.abc import Sequence

import msgspec
import polars as pl

from penstock.log.records import Fetched, Records
from penstock.streams.operator import DELETED, OFFSET, TIME

__all__ = ["taken", "tombstones"]


def taken(fetched: Fetched, places: Sequence[int]) -> Fetched:
    """Some of the records, in their order."""
    records = fetched.records
    return Fetched(
        source=fetched.source,
        offsets=fetched.offsets[places],
        records=Records(
            values=[records.values[place] for place in places],
            times_ms=records.times_ms[places],
            keys=[records.keys[place] for place in places] if records.keys is not None else None,
            headers=[records.headers[place] for place in places] if records.headers is not None else None,
        ),
        next_offset=fetched.next_offset,
    )


def tombstones(gone: Fetched, key: Sequence[str], empty: pl.DataFrame) -> tuple[pl.DataFrame, Fetched]:
    """Rows that delete the records' keys, in the columns of `empty`; and the records whose key is none of
    it.
    """
    keys = gone.records.keys or [None] * len(gone.records)
    dtypes = {name: empty.schema[name] for name in key}
    read = [_key(content, dtypes) for content in keys]
    good = [place for place, values in enumerate(read) if values is not None]
    bad = [place for place, values in enumerate(read) if values is None]
    frame = pl.DataFrame([values for values in read if values is not None], schema=dtypes, orient="row")
    frame = frame.with_columns(
        pl.lit(value=True).alias(DELETED),
        pl.Series(TIME, gone.records.times_ms[good], dtype=pl.Int64),
        pl.Series(OFFSET, gone.offsets[good], dtype=pl.Int64),
    )
    return pl.concat([empty, frame], how="diagonal"), taken(gone, bad)


def _key(content: bytes | None, dtypes: dict[str, pl.DataType]) -> tuple[object, ...] | None:
    """The values of the key columns, as `key_bytes` wrote them."""
    if content is None:
        return None
    try:
        if len(dtypes) == 1:
            ((_, dtype),) = dtypes.items()
            series = pl.Series([content], dtype=pl.Binary)
            if dtype != pl.Binary:
                series = series.cast(pl.String).cast(dtype, strict=True)
            return (series.item(),)
        values = msgspec.json.decode(content, type=dict[str, object])
        return tuple(
            pl.Series([values[name]]).cast(dtype, strict=True).item() for name, dtype in dtypes.items()
        )
    except (KeyError, TypeError, ValueError, msgspec.DecodeError, pl.exceptions.PolarsError):
        return None
