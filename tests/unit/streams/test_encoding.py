from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from penstock.core.errors import ConfigurationError, InvalidInput
from penstock.log.records import Records
from penstock.streams.decoding import decoder_of
from penstock.streams.encoding import encoder_of
from penstock.streams.schema import StreamSchema

FLAT: list[tuple[Any, list[Any]]] = [
    *((dtype, [0, 1, None, 127]) for dtype in (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Int128)),
    *((dtype, [0, 1, None, 127]) for dtype in (pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)),
    (pl.Int64, [-(2**63), 2**63 - 1]),
    (pl.UInt64, [2**64 - 1]),
    (pl.Float64, [0.1, -0.0, 1e300, 5e-324, None]),
    (pl.Float32, [0.5, 0.1, None]),
    (pl.Boolean, [True, None, False]),
    (pl.String, ["", 'a"\\\n\x00\u2028\U0001f600', None]),
    (pl.Binary, [b"", bytes(range(256)), None]),
    (pl.Enum(["a", "b"]), ["b", None]),
    (pl.Categorical, ["x", None]),
    (pl.Date, [date(1, 1, 3), date(2013, 1, 1), None]),
    (pl.Time, [time(0), time(23, 59, 59, 999_999), None]),
    (pl.Datetime("us", "UTC"), [datetime(2013, 1, 1, 2, 3, 4, 567_890, tzinfo=UTC), None]),
    (pl.Datetime("ms", "Europe/Berlin"), [datetime(2013, 7, 1, 2, tzinfo=UTC), None]),
    (pl.Datetime("ns"), [datetime(2013, 1, 1, 2, 3, 4, 567_890), None]),  # noqa: DTZ001 - it has no zone
    (pl.Duration("us"), [timedelta(days=-1, microseconds=3), timedelta(0), None]),
    (pl.Decimal(20, 4), [Decimal("-12345678.9012"), Decimal(0), None]),
    (pl.List(pl.Int16), [[1, None], [], None]),
    (pl.Array(pl.Float64, 2), [[1.0, None], None]),
    (
        pl.Struct({"a b": pl.Int8, "c": pl.List(pl.Date)}),
        [{"a b": 1, "c": [date(2013, 1, 1)]}, {"a b": None, "c": None}],
    ),
]


def there_and_back(frame: pl.DataFrame, form: Any) -> pl.DataFrame:
    values = encoder_of(form).encode(frame)
    offsets = np.arange(len(values))
    decoder = decoder_of(form, StreamSchema.of(dict(frame.schema)))
    got = decoder.decode(Records(values=values, times_ms=offsets), offsets, 10**6)
    assert got.bad == ()
    return got.frame.drop("_time", "_offset")


@pytest.mark.parametrize("form", ["json", "msgpack"])
@pytest.mark.parametrize(("dtype", "values"), FLAT, ids=str)
def test_every_type_comes_back(form: Any, dtype: Any, values: list[Any]) -> None:
    frame = pl.DataFrame({"a column": pl.Series(values, dtype=dtype)})
    assert_frame_equal(there_and_back(frame, form), frame, check_exact=True, categorical_as_str=True)


def test_what_is_no_number_is_null_in_json_and_stays_in_msgpack() -> None:
    frame = pl.DataFrame({"x": [float("nan"), float("inf"), 1.0]})
    assert there_and_back(frame, "json")["x"].to_list() == [None, None, 1.0]
    assert_frame_equal(there_and_back(frame, "msgpack"), frame)


def test_json_reads_as_others_write_it() -> None:
    frame = pl.DataFrame(
        {
            "at": pl.Series([datetime(2013, 1, 1, tzinfo=UTC)]),
            "raw": [b"\x00\xff"],
            "price": pl.Series([Decimal("1.20")], dtype=pl.Decimal(6, 2)),
            "_time": [1],
        }
    )
    (value,) = encoder_of("json").encode(frame)
    assert msgspec.json.decode(value) == {"at": "2013-01-01T00:00:00Z", "raw": "AP8=", "price": "1.20"}


@pytest.mark.parametrize("form", ["json", "msgpack", "arrow"])
def test_no_rows_are_no_records(form: Any) -> None:
    assert encoder_of(form).encode(pl.DataFrame(schema={"x": pl.Int64})) == []


def test_rows_without_columns() -> None:
    assert encoder_of("json").encode(pl.DataFrame({"_time": [1, 2]})) == [b"{}", b"{}"]


def test_what_a_format_cannot_hold() -> None:
    with pytest.raises(InvalidInput, match="cannot be encoded"):
        encoder_of("msgpack").encode(pl.DataFrame({"x": [2**100]}, schema={"x": pl.Int128}))
    late = pl.DataFrame({"x": [2**62]}).with_columns(pl.col("x").cast(pl.Datetime("us")))
    with pytest.raises(InvalidInput, match="cannot be encoded"):
        encoder_of("json").encode(late)
    with pytest.raises(ConfigurationError, match="no format 'xml'"):
        encoder_of("xml")  # type: ignore[arg-type]


def test_many_shapes_are_not_kept_for_ever() -> None:
    encoder: Any = encoder_of("json")
    for number in range(200):
        assert encoder.encode(pl.DataFrame({f"x{number}": [1]})) == [b'{"x%d":1}' % number]
    assert len(encoder._shapes) <= 64
