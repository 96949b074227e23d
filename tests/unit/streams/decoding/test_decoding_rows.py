"""Frames of JSON and MessagePack: what is good, what is bad, and that they leave each other alone."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from penstock.core.errors import ConfigurationError
from penstock.log.records import Records
from penstock.streams.decoding import Decoded, decoder_of
from penstock.streams.reasons import Reason
from penstock.streams.schema import StreamSchema

NOW_MS = 1_357_000_000_000
SCHEMA = StreamSchema.of({"id": int, "name": str, "delay": float | None, "at": int}, time="at")


def decoded(values: list[bytes], schema: StreamSchema = SCHEMA, form: Any = "json", **options: int) -> Decoded:
    times = np.arange(len(values), dtype=np.int64)
    records = Records(values=values, times_ms=times)
    return decoder_of(form, schema, **options).decode(records, times * 2 + 10, NOW_MS)


def event(number: int, **changed: Any) -> dict[str, Any]:
    return {"id": number, "name": f"n{number}", "delay": None, "at": NOW_MS - 1000 + number} | changed


def value(number: int, **changed: Any) -> bytes:
    return msgspec.json.encode(event(number, **changed))


@pytest.mark.parametrize("form", ["json", "msgpack"])
@pytest.mark.parametrize("count", [0, 1, 511, 512, 513, 1500])
def test_all_rows_in_their_order(form: Any, count: int) -> None:
    events = [event(number, delay=number / 2 if number % 3 else None) for number in range(count)]
    got = decoded([getattr(msgspec, form).encode(each) for each in events], form=form)
    expected = pl.DataFrame(events, schema=dict(SCHEMA.columns)).with_columns(
        _time=pl.col("at"), _offset=10 + 2 * pl.int_range(pl.len(), dtype=pl.Int64)
    )
    assert_frame_equal(got.frame, expected)
    assert got.frame.schema == SCHEMA.frame_schema
    assert got.bad == ()
    assert got.positions(got.frame["_offset"].to_numpy()).tolist() == list(range(count))


POISON = {
    b"": Reason.UNDECODABLE,
    b" ": Reason.UNDECODABLE,
    b"\xff\xfe": Reason.UNDECODABLE,
    b"null": Reason.SCHEMA,
    b"[]": Reason.SCHEMA,
    b"7": Reason.SCHEMA,
    b"{}": Reason.SCHEMA,
    value(1)[:-1]: Reason.UNDECODABLE,
    value(1) + b"," + value(2): Reason.UNDECODABLE,
    value(1) + b",": Reason.UNDECODABLE,
    value(1) + b"]": Reason.UNDECODABLE,
    b"[" + value(1): Reason.SCHEMA,
    value(1).replace(b"null", b"NaN"): Reason.UNDECODABLE,
    value(1).replace(b"null", b"Infinity"): Reason.UNDECODABLE,
    value(1).replace(b"null", b"1e999"): Reason.SCHEMA,
    value(1, name="x").replace(b'"x"', b'"\\ud800"'): Reason.UNDECODABLE,
    value(1, name="x").replace(b'"x"', b'"\\udc00"'): Reason.UNDECODABLE,
    value(1, name="x").replace(b'"x"', b'"\xff"'): Reason.UNDECODABLE,
    value(1, id="1"): Reason.SCHEMA,
    value(1, id=1.5): Reason.SCHEMA,
    value(1, id=None): Reason.SCHEMA,
    value(1, id=True): Reason.SCHEMA,
    value(1, id=2**63): Reason.SCHEMA,
    value(1, id=1).replace(b'"id":1', b'"id":1' + b"0" * 5000): Reason.SCHEMA,
    value(1, at=None): Reason.SCHEMA,
    value(1, at="soon"): Reason.SCHEMA,
    value(1, other="x").replace(b'"x"', b"[" * 100_000): Reason.UNDECODABLE,
    b"[" * 100_000: Reason.SCHEMA,
    b"\x1f\x8b\x08\x00zip": Reason.UNDECODABLE,
    b"a" * 10_000_000: Reason.UNDECODABLE,
    value(1, at=-1): Reason.TIME_OUT_OF_RANGE,
    value(1, at=NOW_MS + 86_400_001): Reason.TIME_OUT_OF_RANGE,
    value(1, at=2**62): Reason.TIME_OUT_OF_RANGE,
}


@pytest.mark.parametrize("poison", POISON, ids=lambda poison: repr(poison[:60]))
def test_poison_is_found_and_leaves_its_neighbours_alone(poison: bytes) -> None:
    good = [value(number) for number in range(6)]
    got = decoded([poison, *good[:3], poison, poison, *good[3:], poison])
    assert got.frame["id"].to_list() == list(range(6))
    assert got.frame["_offset"].to_list() == [12, 14, 16, 22, 24, 26]
    assert [(bad.position, bad.offset, bad.reason) for bad in got.bad] == [
        (place, 10 + 2 * place, POISON[poison]) for place in (0, 4, 5, 9)
    ]
    assert all(0 < len(bad.detail) <= 300 for bad in got.bad)


def test_what_is_odd_and_good() -> None:
    got = decoded(
        [
            b"  " + value(1) + b"\n",
            b'{"id":1,"id":2,' + value(3)[1:],
            value(4, delay=1, other={"deep": [1]}),
            value(5, name="\U0001f600\x00"),
            value(6, at=NOW_MS + 86_400_000),
            value(7, at=0),
        ]
    )
    assert got.bad == ()
    assert got.frame["id"].to_list() == [1, 3, 4, 5, 6, 7]
    assert got.frame["name"][3] == "\U0001f600\x00"


def test_details_name_the_field() -> None:
    got = decoded([value(1, id="x"), value(1, id=2**63), value(1, at=-1), value(1, at=NOW_MS * 1000)])
    assert [bad.detail for bad in got.bad] == [
        "Expected `int`, got `str` - at `$.id`",
        "Expected Int64, got 9223372036854775808 - at $.id",
        "1969-12-31T23:59:59.999+00:00 is before 1970 - at $.at",
        f"{NOW_MS * 1000} ms is more than 86400 s ahead of 2013-01-01T00:26:40.000+00:00 - at $.at",
    ]


def test_all_bad_is_an_empty_frame_of_the_schema() -> None:
    got = decoded([b"x"] * 600)
    assert got.frame.schema == SCHEMA.frame_schema
    assert len(got.bad) == 600


@pytest.mark.parametrize(("unit", "per_ms"), [("s", 0.001), ("ms", 1), ("us", 1000), ("ns", 1_000_000)])
def test_units_of_integer_times(unit: Any, per_ms: float) -> None:
    schema = StreamSchema.of({"at": pl.UInt64}, time="at", unit=unit)
    at = [round((NOW_MS + ms) * per_ms) for ms in (-1000, 0, 86_400_000, 86_401_000)] + [2**64 - 1]
    got = decoded([msgspec.json.encode({"at": each}) for each in at], schema)
    assert got.frame["_time"].to_list() == [NOW_MS - 1000, NOW_MS, NOW_MS + 86_400_000]
    assert [bad.reason for bad in got.bad] == [Reason.TIME_OUT_OF_RANGE] * 2


@pytest.mark.parametrize("kind", [datetime, str, pl.Datetime("ms"), pl.Datetime("ns", "Europe/Berlin")])
def test_texts_of_times_are_utc_unless_they_say_otherwise(kind: Any) -> None:
    schema = StreamSchema.of({"at": kind}, time="at")
    texts = [
        "2013-01-01T00:00:00",
        "2013-01-01T00:00:00Z",
        "2013-01-01T02:00:00.001+02:00",
        "2013-01-01T00:00:00.5Z",
    ]
    got = decoded([msgspec.json.encode({"at": text}) for text in texts], schema)
    start = int(datetime(2013, 1, 1, tzinfo=UTC).timestamp() * 1000)
    assert got.frame["_time"].to_list() == [start, start, start + 1, start + 500]
    late = decoded([b'{"at":"9999-12-31T23:59:59-23:00"}', b'{"at":"1913-01-01T00:00:00"}'], schema)
    assert [bad.reason for bad in late.bad if bad.reason is Reason.TIME_OUT_OF_RANGE] or kind == pl.Datetime(
        "ns", "Europe/Berlin"
    )
    assert len(late.bad) == 2


def test_texts_that_are_no_times() -> None:
    schema = StreamSchema.of({"at": str}, time="at")
    got = decoded([b'{"at":"soon"}', b'{"at":"2013-01-01"}', b'{"at":"2013-13-01"}', b'{"at":""}'], schema)
    assert got.frame["at"].to_list() == ["2013-01-01"]
    assert [(bad.position, bad.reason) for bad in got.bad] == [(each, Reason.SCHEMA) for each in (0, 2, 3)]
    assert "'soon' - at $.at" in got.bad[0].detail


def test_without_a_time_the_records_own_counts() -> None:
    schema = StreamSchema.of({"id": int})
    records = Records(values=[b'{"id":1}', b"x", b'{"id":3}', b'{"id":4}'], times_ms=np.array([5, 6, 7, -1]))
    got = decoder_of("json", schema).decode(records, np.arange(4), NOW_MS)
    assert got.frame["_time"].to_list() == [5, 7]
    assert [(bad.position, bad.reason) for bad in got.bad] == [
        (1, Reason.UNDECODABLE),
        (3, Reason.TIME_OUT_OF_RANGE),
    ]
    assert "the record's time" in got.bad[1].detail


def test_how_far_ahead_can_be_said() -> None:
    assert decoded([value(1, at=NOW_MS + 1)], ahead_ms=0).bad
    assert not decoded([value(1, at=NOW_MS + 10**9)], ahead_ms=10**9).bad


def test_decimals_are_never_rounded() -> None:
    schema = StreamSchema.of({"price": pl.Decimal(6, 2), "all": pl.List(pl.Struct({"x": pl.Decimal(6, 2)}))})
    texts = ["1.25", "1.250", "9999.99", "1.255", "99999.99", "NaN", "1e400", None]
    got = decoded([msgspec.json.encode({"price": text}) for text in texts], schema)
    assert got.frame["price"].to_list() == [Decimal("1.25"), Decimal("1.25"), Decimal("9999.99"), None]
    assert [bad.position for bad in got.bad] == [3, 4, 5, 6]
    got = decoded([msgspec.json.encode({"all": [{"x": "1"}, {"x": text}, None]}) for text in texts], schema)
    assert [bad.position for bad in got.bad] == [3, 4, 5, 6]


def test_nested_values_that_do_not_fit() -> None:
    schema = StreamSchema.of(
        {"ids": pl.List(pl.UInt64), "pair": pl.Array(pl.Int8, 2), "leg": pl.Struct({"n": pl.UInt64})}
    )
    values: list[dict[str, Any]] = [
        {"ids": [1, None, 2**64 - 1], "pair": [1, None], "leg": {"n": 2**64 - 1}},
        {"ids": [2**64]},
        {"ids": [-1]},
        {"pair": [1]},
        {"pair": [1, 200]},
        {"leg": {"n": 2**64}},
        {"leg": {"n": None}},
    ]
    got = decoded([msgspec.json.encode(each) for each in values], schema)
    assert [bad.position for bad in got.bad] == [1, 2, 3, 4, 5]
    assert {bad.reason for bad in got.bad} == {Reason.SCHEMA}
    assert got.frame["ids"].to_list() == [[1, None, 2**64 - 1], None]
    assert got.frame["leg"].to_list() == [{"n": 2**64 - 1}, {"n": None}]


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (pl.UInt64, [0, 2**64 - 1, None]),
        (pl.Int128, [2**127 - 1, -(2**127)]),
        (pl.Float32, [0.5, None]),
        (pl.Float64, [1.0, 2, -0.0]),
        (pl.Enum(["a", "b"]), ["a", None, "b"]),
        (pl.Categorical, ["a", None, "b"]),
        (pl.Boolean, [True, False, None]),
        (pl.Binary, [b"\x00\xff", b""]),
        (pl.Duration("us"), [timedelta(days=-1, microseconds=1)]),
        (pl.Datetime("us"), [datetime(2013, 1, 1)]),  # noqa: DTZ001 - such a column has no zone
        (pl.String, [None, None]),
    ],
)
def test_values_of_a_type(dtype: Any, values: list[Any]) -> None:
    got = decoded([msgspec.json.encode({"x": each}) for each in values], StreamSchema.of({"x": dtype}))
    assert got.bad == ()
    assert got.frame["x"].to_list() == values


def test_times_with_a_zone_in_a_column_without_are_utc() -> None:
    eastern = datetime(2013, 1, 1, tzinfo=timezone(timedelta(hours=-5)))
    got = decoded([msgspec.json.encode({"x": eastern})], StreamSchema.of({"x": pl.Datetime("us")}))
    assert got.frame["x"].to_list() == [datetime(2013, 1, 1, 5)]  # noqa: DTZ001 - such a column has no zone


def test_msgpack_poison() -> None:
    good = msgspec.msgpack.encode(event(1))
    bad = [
        b"",
        good[:-1],
        good + b"\xc0",
        b"\xc1",
        b"\x81\xa2id\xdd\xff\xff\xff\xff",
        b"\x91" * 100_000,
        b"\xa1\xff",
    ]
    got = decoded([each for poison in bad for each in (poison, good)], form="msgpack")
    assert [each.position for each in got.bad] == [0, 2, 4, 6, 8, 10, 12]
    assert got.frame["id"].to_list() == [1] * len(bad)


def test_a_format_that_there_is_not() -> None:
    with pytest.raises(ConfigurationError, match="there is no format 'xml'"):
        decoded([], form="xml")
    with pytest.raises(ConfigurationError, match="-1 ms"):
        decoded([], ahead_ms=-1)


@pytest.mark.parametrize(
    "dtype", [pl.Datetime("us", "UTC"), pl.List(pl.Datetime("us")), pl.Struct({"a": pl.Datetime("ms")})]
)
def test_moments_beyond_the_calendar_are_bad(dtype: Any) -> None:
    def nested(text: str) -> Any:
        return [text] if isinstance(dtype, pl.List) else {"a": text} if isinstance(dtype, pl.Struct) else text

    texts = ["2013-01-01T00:00:00Z", "9999-12-31T23:59:59-23:00", "0001-01-01T00:00:00+23:00"]
    got = decoded([msgspec.json.encode({"x": nested(text)}) for text in texts], StreamSchema.of({"x": dtype}))
    assert [bad.position for bad in got.bad] == [1, 2]
    assert len(got.frame["x"].to_list()) == 1
