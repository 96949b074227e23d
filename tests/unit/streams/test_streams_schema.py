from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NewType

import msgspec
import polars as pl
import pytest
from msgspec import Meta

from penstock.core.errors import ConfigurationError
from penstock.streams.schema import StreamSchema

Carrier = NewType("Carrier", str)


class Kind(Enum):
    DOMESTIC = "d"
    ABROAD = "a"


@dataclass
class Leg:
    origin: str
    minutes: int | None = None


@dataclass
class Departure:
    flight_id: str
    departed_at: datetime
    distance: Annotated[int, pl.Int16, Meta(ge=0)]
    delay: float | None
    legs: list[Leg]
    carrier: Carrier = Carrier("UA")
    kind: Kind = Kind.DOMESTIC
    code: Literal[1, 2] = 1
    tags: list[str | None] = field(default_factory=list)


class Renamed(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    flight_id: str
    departed_at: int


@dataclass
class Recursive:
    inner: "list[Recursive]"


def test_a_dataclass() -> None:
    schema = StreamSchema.of(Departure, time="departed_at")
    assert dict(schema.columns) == {
        "flight_id": pl.String(),
        "departed_at": pl.Datetime("us", "UTC"),
        "distance": pl.Int16(),
        "delay": pl.Float64(),
        "legs": pl.List(pl.Struct({"origin": pl.String(), "minutes": pl.Int64()})),
        "carrier": pl.String(),
        "kind": pl.String(),
        "code": pl.Int64(),
        "tags": pl.List(pl.String()),
    }
    assert schema.nullable == {"delay"}
    assert list(schema.frame_schema)[-2:] == ["_time", "_offset"]
    row: Any = msgspec.json.decode(
        b'{"flight_id":"x","departed_at":"2013-01-01T00:00:00Z","distance":3,"delay":null,"legs":[{"origin":"JFK"}]}',
        type=schema.row_type,
    )
    assert msgspec.structs.astuple(row)[:4] == ("x", datetime(2013, 1, 1, tzinfo=UTC), 3, None)
    assert msgspec.structs.astuple(row)[5:] == ("UA", "d", 1, [])


def test_a_struct_is_named_as_on_the_wire_and_keeps_its_strictness() -> None:
    schema = StreamSchema.of(Renamed, time="departedAt")
    assert list(schema.columns) == ["flightId", "departedAt"]
    with pytest.raises(msgspec.ValidationError, match="unknown field `other`"):
        msgspec.json.decode(b'{"flightId":"x","departedAt":1,"other":2}', type=schema.row_type)


def test_polars_types_may_be_null_or_missing_and_the_time_may_not() -> None:
    schema = StreamSchema.of({"at": pl.Int64, "fare": pl.Float32, "names": pl.List(pl.String)}, time="at")
    assert schema.nullable == {"fare", "names"}
    row: Any = msgspec.json.decode(b'{"at":1}', type=schema.row_type)
    assert msgspec.structs.astuple(row) == (1, None, None)
    for missing in (b"{}", b'{"at":null}'):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(missing, type=schema.row_type)


def test_extra_fields_can_be_forbidden() -> None:
    row = msgspec.json.encode({"a": 1, "b": 2})
    assert msgspec.json.decode(row, type=StreamSchema.of({"a": int}).row_type)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(row, type=StreamSchema.of({"a": int}, extra="forbid").row_type)


@pytest.mark.parametrize(
    ("python", "dtype"),
    [
        (int, pl.Int64()),
        (bool, pl.Boolean()),
        (bytes, pl.Binary()),
        (date, pl.Date()),
        (time, pl.Time()),
        (timedelta, pl.Duration("us")),
        (Decimal, pl.Decimal(38, 9)),
        (Annotated[Decimal, pl.Decimal(10, 2)], pl.Decimal(10, 2)),
        (tuple[int, ...], pl.List(pl.Int64())),
        (list[list[float]], pl.List(pl.List(pl.Float64()))),
        (Annotated[str, pl.Categorical], pl.Categorical()),
    ],
)
def test_python_types(python: Any, dtype: pl.DataType) -> None:
    assert StreamSchema.of({"x": python}).columns["x"] == dtype


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (pl.Int8, -128, 127),
        (pl.UInt8, 0, 255),
        (pl.Int16, -(2**15), 2**15 - 1),
        (pl.UInt16, 0, 2**16 - 1),
        (pl.Int32, -(2**31), 2**31 - 1),
        (pl.UInt32, 0, 2**32 - 1),
    ],
)
def test_integers_have_the_bounds_of_their_width(dtype: Any, low: int, high: int) -> None:
    row = StreamSchema.of({"x": dtype}).row_type
    for inside in (low, high):
        assert msgspec.json.decode(msgspec.json.encode({"x": inside}), type=row).c0 == inside  # type: ignore[attr-defined]
    for outside in (low - 1, high + 1):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(msgspec.json.encode({"x": outside}), type=row)


@pytest.mark.parametrize(
    ("declared", "options", "message"),
    [
        ({}, {}, "declares no columns"),
        (3, {}, "declares no columns"),
        ({"_x": int}, {}, "reserved"),
        ({"": int}, {}, "nameless"),
        ([("a", int), ("a", int)], {}, "field 'a' of the schema is declared twice"),
        ([("a",)], {}, "no name with its type"),
        ({"a": complex}, {}, "field a: .* no type of a column"),
        ({"a": int | str}, {}, "field a"),
        ({"a": pl.Object}, {}, "field a"),
        ({"a": pl.List}, {}, "does not say what it holds"),
        ({"a": pl.Struct({"b": pl.Object})}, {}, r"field a\.b"),
        ({"a": Annotated[int, pl.String]}, {}, "holds no int"),
        ({"a": tuple[int, str]}, {}, "field a"),
        (Recursive, {}, "nested deeper"),
        ({"a": int}, {"time": "b"}, "time 'b' is no column"),
        ({"a": bool}, {"time": "a"}, "field a: Boolean is no time"),
        ({"a": pl.Int128}, {"time": "a"}, "field a: Int128 is no time"),
        ({"a": int}, {"time": "a", "unit": "h"}, "unit 'h'"),
        ({"a": Annotated[int, Meta(ge=0), Meta(pattern="x")]}, {}, "cannot be decoded"),
    ],
)
def test_what_no_stream_can_have(declared: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        StreamSchema.of(declared, **options)


def test_structs_of_another_shape_are_refused() -> None:
    class Rows(msgspec.Struct, array_like=True):
        a: int

    class Tagged(msgspec.Struct, tag=True):
        a: int

    for declared in (Rows, Tagged):
        with pytest.raises(ConfigurationError, match="cannot be"):
            StreamSchema.of(declared)


def test_types_that_only_a_function_knows_are_refused_by_name() -> None:
    @dataclass
    class Inner:
        a: "Hidden"  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(ConfigurationError, match="Hidden"):
        StreamSchema.of(Inner)
