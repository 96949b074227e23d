"""Records of Arrow: many rows each, taken as a whole or not at all."""

import io
import random
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any

import numpy as np
import polars as pl
import pytest
from msgspec import Meta
from polars.testing import assert_frame_equal

from penstock.log.records import Records
from penstock.streams.decoding import Decoded, decoder_of
from penstock.streams.encoding import encoder_of
from penstock.streams.reasons import Reason
from penstock.streams.schema import StreamSchema

NOW_MS = 1_357_000_000_000
EVERYTHING = pl.DataFrame(
    {
        "i8": pl.Series([1, -128, None], dtype=pl.Int8),
        "u64": pl.Series([2**64 - 1, 0, None], dtype=pl.UInt64),
        "f": [float("nan"), float("-inf"), None],
        "b": [True, None, False],
        "s": ["x" * 30, "", None],
        "raw": [b"\x00\xff", None, b""],
        "cat": pl.Series(["a", None, "b"], dtype=pl.Categorical),
        "enum": pl.Series(["a", None, "b"], dtype=pl.Enum(["b", "a"])),
        "dec": pl.Series([Decimal("1.25"), None, Decimal(-3)], dtype=pl.Decimal(10, 2)),
        "at": [datetime(2013, 1, 1, 2, 3, 4, 567_890, tzinfo=UTC), None, datetime(1, 1, 3, tzinfo=UTC)],
        "day": [date(2013, 1, 1), None, date(1, 1, 3)],
        "time": [time(23, 59, 59, 999_999), None, time(0)],
        "took": [timedelta(days=-1, microseconds=3), None, timedelta(0)],
        "list": [[1, None], [], None],
        "array": pl.Series([[1.0, None], None, [2.0, 3.0]], dtype=pl.Array(pl.Float64, 2)),
        "leg": [{"n": 1, "names": ["a"]}, None, {"n": None, "names": None}],
        "legs": [[{"n": 1}], None, []],
    }
)


def written(frame: pl.DataFrame, **options: Any) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer, **options)
    return buffer.getvalue()


def decoded(schema: StreamSchema, *values: bytes) -> Decoded:
    records = Records(values=values, times_ms=np.arange(len(values)) + 5)
    return decoder_of("arrow", schema).decode(records, np.arange(len(values)) * 10, NOW_MS)


def complaint(schema: StreamSchema, value: bytes) -> tuple[Reason, str]:
    got = decoded(schema, value)
    assert got.frame.is_empty()
    (bad,) = got.bad
    return bad.reason, bad.detail


@pytest.mark.parametrize("level", [pl.CompatLevel.oldest(), pl.CompatLevel.newest()], ids=str)
def test_every_type_as_it_is_written(level: pl.CompatLevel) -> None:
    got = decoded(StreamSchema.of(dict(EVERYTHING.schema)), written(EVERYTHING, compat_level=level))
    assert got.bad == ()
    assert_frame_equal(got.frame.drop("_time", "_offset"), EVERYTHING, check_exact=True)


def test_encoded_and_back() -> None:
    (value,) = encoder_of("arrow").encode(EVERYTHING.with_columns(_time=1))
    got = decoded(StreamSchema.of(dict(EVERYTHING.schema)), value)
    assert_frame_equal(got.frame.drop("_time", "_offset"), EVERYTHING, check_exact=True)


def test_rows_have_their_records_offset_and_time() -> None:
    schema = StreamSchema.of({"x": int})
    got = decoded(
        schema,
        written(pl.DataFrame({"x": [1, 2, 3]})),
        b"none",
        written(pl.DataFrame({"x": pl.Series([], dtype=pl.Int8)})),
        written(pl.DataFrame({"x": pl.Series([4], dtype=pl.UInt8), "more": ["ignored"]})),
    )
    assert got.frame.rows() == [(1, 5, 0), (2, 5, 0), (3, 5, 0), (4, 8, 30)]
    assert got.frame.schema == schema.frame_schema
    assert [(bad.position, bad.offset, bad.reason) for bad in got.bad] == [(1, 10, Reason.UNDECODABLE)]


def test_types_are_widened_and_never_narrowed() -> None:
    schema = StreamSchema.of({"i": pl.Int16, "f": pl.Float64, "s": pl.String, "d": pl.Decimal(6, 2)})
    wide = pl.DataFrame(
        {
            "i": [1, 32_767],
            "f": [1, 2],
            "s": pl.Series(["a", "b"], dtype=pl.Categorical),
            "d": pl.Series([Decimal("1.250"), None], dtype=pl.Decimal(12, 4)),
        }
    )
    got = decoded(schema, written(wide))
    assert got.frame.drop("_time", "_offset").rows() == [
        (1, 1.0, "a", Decimal("1.25")),
        (32_767, 2.0, "b", None),
    ]
    for name, values in {
        "i": [1, 32_768],
        "f": ["1"],
        "s": [1],
        "d": pl.Series([Decimal("1.255")], dtype=pl.Decimal(12, 4)),
    }.items():
        reason, detail = complaint(schema, written(pl.DataFrame({name: values})))
        assert (reason, name in detail) == (Reason.SCHEMA, True), detail
    assert complaint(schema, written(pl.DataFrame({"i": [1.0]}))) == (
        Reason.SCHEMA,
        "Expected Int16, got Float64 - at $.i",
    )


@dataclass
class Event:
    at: int
    distance: Annotated[int, Meta(ge=0)]
    legs: list[int]
    name: str = "none"
    note: str | None = None


def test_what_was_declared_beyond_types_holds_too() -> None:
    schema = StreamSchema.of(Event, time="at")
    good = pl.DataFrame({"at": [NOW_MS], "distance": [1], "legs": [[1]]})
    assert decoded(schema, written(good)).frame.row(0)[:5] == (NOW_MS, 1, [1], "none", None)
    mistakes = {
        "Object missing required field `legs`": good.drop("legs"),
        "Expected `int` >= 0 - at `$[0]` - in column distance": good.with_columns(distance=-1),
        "Expected `int`, got `null` - at `$[0][0]` - in column legs": good.with_columns(
            legs=pl.Series([[None]], dtype=pl.List(pl.Int64))
        ),
        "Expected String, got null - at $.name": good.with_columns(name=pl.Series([None], dtype=pl.String)),
    }
    for message, frame in mistakes.items():
        assert complaint(schema, written(frame)) == (Reason.SCHEMA, message)
    late = pl.concat([good, good.with_columns(at=pl.lit(-1, dtype=pl.Int64))])
    reason, detail = complaint(schema, written(late))
    assert (reason, detail[:7]) == (Reason.TIME_OUT_OF_RANGE, "row 1: ")
    forbidding = StreamSchema.of(Event, time="at", extra="forbid")
    assert "unknown field `x`" in complaint(forbidding, written(good.with_columns(x=1)))[1]


@pytest.mark.parametrize("seconds", [2**50, -(2**50)])
def test_moments_that_no_calendar_has(seconds: int) -> None:
    frame = pl.DataFrame({"x": [seconds]}).select(pl.col("x").cast(pl.Datetime("ms")))
    assert "calendar" in complaint(StreamSchema.of(dict(frame.schema)), written(frame))[1]


def test_what_is_no_stream_or_cannot_be_read() -> None:
    schema = StreamSchema.of({"x": pl.Int64})
    frame = pl.DataFrame({"x": [1, 2, 3]})
    file = io.BytesIO()
    frame.write_ipc(file)
    for value, message in {
        b"": "does not begin with a schema",
        b"\xff" * 100: "bytes of metadata",
        written(frame)[:-30]: "ends within a message",
        written(frame) + b"x": "after its end",
        file.getvalue(): "is an Arrow file",
        written(frame, compression="zstd"): "compressed",
        written(pl.DataFrame({"x": [None]})): "1 values for 1 rows in 0 bytes",
        written(pl.DataFrame({"x": [1]}, schema={"x": pl.Int128})): "integers of 128 bits",
    }.items():
        reason, detail = complaint(schema, value)
        assert reason is Reason.UNDECODABLE
        assert message in detail


def test_damaged_streams_are_read_or_refused() -> None:
    chance = random.Random(7)
    bases = [
        (written(EVERYTHING.select(name)), decoder_of("arrow", StreamSchema.of({name: dtype})))
        for name, dtype in EVERYTHING.schema.items()
    ]
    fields = [b"\xff" * 8, bytes(8), b"\xff\xff\xff\x7f\0\0\0\0", b"\0\0\0\0\1\0\0\0", b"\xff" * 7 + b"\x7f"]
    refused = 0
    for _ in range(800):
        base, decoder = chance.choice(bases)
        value = bytearray(base)
        at = chance.randrange(len(value))
        if chance.random() < 0.5:
            value[at] = chance.randrange(256)
        else:
            value[at : at + 8] = chance.choice(fields)
        records = Records(values=[bytes(value)], times_ms=np.array([5]))
        got = decoder.decode(records, np.array([0]), NOW_MS)
        refused += len(got.bad)
        got.frame.rows()
    assert 200 < refused < 800


def test_a_column_of_nothing_is_one_of_nulls() -> None:
    frame = pl.DataFrame({"x": [None, None], "y": [1, 2]})
    assert decoded(StreamSchema.of({"x": pl.String, "y": int}), written(frame)).frame["x"].to_list() == [
        None,
        None,
    ]
    lists = pl.DataFrame({"x": [[], [None]], "y": [1, 2]})
    assert lists.schema["x"] == pl.List(pl.Null)
    assert decoded(StreamSchema.of({"x": pl.List(pl.Int8), "y": int}), written(lists)).frame["x"].to_list() == [
        [],
        [None],
    ]
    assert "got `null`" in complaint(StreamSchema.of({"x": list[int], "y": int}), written(lists))[1]
    assert "got null" in complaint(StreamSchema.of({"x": str, "y": int}), written(frame))[1]
