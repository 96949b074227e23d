"""What the events of a stream are: their columns, and which of them is the time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import polars as pl

from penstock.core.errors import ConfigurationError, shown
from penstock.streams.column_types import ColumnType, FieldSpec, column_type, fields_of, is_record, row_type
from penstock.streams.operator import OFFSET, TIME

__all__ = ["StreamSchema", "TimeUnit"]

TimeUnit = Literal["s", "ms", "us", "ns"]
RESERVED_PREFIX = "_"


@dataclass(frozen=True, kw_only=True)
class StreamSchema:
    """Columns in their order, as they are named on the wire, and how a row of them is read.

    `row_type` is the msgspec struct that one row is decoded by, its fields in the order of `columns`.
    `time` is the column that says when an event was, None where its record's own time does; `unit` is that of
    a column of integers.
    """

    name: str
    columns: Mapping[str, pl.DataType]
    nullable: frozenset[str]
    row_type: type[msgspec.Struct]
    time: str | None
    unit: TimeUnit

    @classmethod
    def of(
        cls,
        declared: object,
        *,
        time: str | None = None,
        unit: TimeUnit = "ms",
        extra: Literal["ignore", "forbid"] = "ignore",
    ) -> "StreamSchema":
        """Of a dataclass, a msgspec struct, or names with Polars (or Python) types.

        The columns are named as the fields are on the wire. A dataclass or struct says by `T | None` what may
        be null, and by a default what may be missing, which msgspec's constraints may narrow further
        (`Annotated[int, Meta(ge=0)]`) and a Polars type may make exact (`Annotated[int, pl.Int32]`). A Polars
        schema says neither, so that all of its columns may be null or missing. Fields on the wire that are not
        declared are ignored, or make a bad row with `extra="forbid"`. The time may never be null.

        Raises `ConfigurationError`, naming the field, for what no stream can have.
        """
        name, fields, strict = _declared(declared)
        _check_names(name, fields)
        columns = {field.name: column_type(field.annotation, field.name) for field in fields}
        if time is not None:
            _check_time(name, time, unit, columns)
            columns[time] = columns[time]._replace(nullable=False)
            fields = [
                field._replace(default=msgspec.NODEFAULT, default_factory=msgspec.NODEFAULT)
                if field.name == time
                else field
                for field in fields
            ]
        return cls(
            name=name,
            columns={column: kind.dtype for column, kind in columns.items()},
            nullable=frozenset(column for column, kind in columns.items() if kind.nullable),
            row_type=_row_type(name, columns, fields, forbid=strict or extra == "forbid"),
            time=time,
            unit=unit,
        )

    @property
    def frame_schema(self) -> pl.Schema:
        """Of the frames that are decoded: the columns, the event's time and its offset."""
        return pl.Schema({**self.columns, TIME: pl.Int64(), OFFSET: pl.Int64()})


def _declared(declared: object) -> tuple[str, list[FieldSpec], bool]:
    """What it is called, its fields, and whether it forbids others by itself."""
    if is_record(declared):
        assert isinstance(declared, type)
        strict = issubclass(declared, msgspec.Struct) and declared.__struct_config__.forbid_unknown_fields
        return declared.__name__, fields_of(declared, declared.__name__), strict
    if isinstance(declared, Mapping):
        pairs: Sequence[Any] = list(declared.items())
    elif isinstance(declared, list | tuple):
        pairs = declared
    else:
        raise ConfigurationError(
            f"{shown(declared)} declares no columns",
            hint="give a dataclass, a msgspec.Struct, or a dict of names and Polars types",
        )
    fields = []
    for pair in pairs:
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
            raise ConfigurationError(
                f"{shown(pair)} is no name with its type", hint='for example ("fare", pl.Float64)'
            )
        known = is_record(pair[1]) or not _optional_polars(pair[1])
        fields.append(FieldSpec(pair[0], pair[1], msgspec.NODEFAULT if known else None))
    return "the schema", fields, False


def _optional_polars(declared: object) -> bool:
    """Whether it is a Polars type: those say nothing of nulls, and so may be missing as well."""
    return isinstance(declared, pl.DataType) or (
        isinstance(declared, type) and issubclass(declared, pl.DataType)
    )


def _check_names(name: str, fields: Sequence[FieldSpec]) -> None:
    if not fields:
        raise ConfigurationError(f"{name} declares no columns")
    seen: set[str] = set()
    for field in fields:
        if field.name.startswith(RESERVED_PREFIX):
            raise ConfigurationError(
                f"field {field.name} of {name}: names that begin with {RESERVED_PREFIX!r} are reserved",
                hint="name it otherwise; a struct's field can keep its wire name by `rename`"
                if not field.name.strip(RESERVED_PREFIX)
                else f"name it {field.name.lstrip(RESERVED_PREFIX)}, for example",
            )
        if not field.name or field.name in seen:
            raise ConfigurationError(
                f"field {field.name!r} of {name} is {'declared twice' if field.name else 'nameless'}"
            )
        seen.add(field.name)


def _check_time(name: str, time: str, unit: str, columns: Mapping[str, ColumnType]) -> None:
    if time not in columns:
        raise ConfigurationError(
            f"time {time!r} is no column of {name}", hint=f"its columns are {', '.join(columns)}"
        )
    if unit not in ("s", "ms", "us", "ns"):
        raise ConfigurationError(f"unit {unit!r} of the time {time!r} is none of s, ms, us, ns")
    dtype = columns[time].dtype
    whole = dtype.is_integer() and not isinstance(dtype, pl.Int128 | pl.UInt128)
    if not (whole or isinstance(dtype, pl.Datetime | pl.String)):
        raise ConfigurationError(
            f"field {time}: {dtype} is no time",
            hint="it can be a datetime, an integer with its unit, or a text as ISO 8601 has it",
        )


def _row_type(
    name: str, columns: dict[str, ColumnType], fields: Sequence[FieldSpec], *, forbid: bool
) -> type[msgspec.Struct]:
    """Makes the decoders once, so that what msgspec cannot tell apart is said at the declaration."""
    try:
        row = row_type(columns, fields, forbid=forbid)
        msgspec.json.Decoder(row)
        msgspec.msgpack.Decoder(row)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{name} cannot be decoded: {error}") from error
    return row
