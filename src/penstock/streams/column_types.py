"""From the types that people declare to a column's Polars type, and the type that msgspec decodes a value by.

Both come from one walk, so that what msgspec lets through fits the column: an `int` in an Int8 column has
bounds on the wire already, and an error there names the field.
"""

import dataclasses
import types
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, NewType, Union, get_args, get_origin, get_type_hints

import msgspec
import polars as pl

from penstock.core.errors import ConfigurationError, shown

__all__ = ["ColumnType", "FieldSpec", "column_type", "fields_of", "is_record", "row_type"]

DEPTH_MAX = 16
"""Of lists and structs within each other."""
_BITS: dict[type[pl.DataType], int] = {
    pl.Int8: 8,
    pl.UInt8: 8,
    pl.Int16: 16,
    pl.UInt16: 16,
    pl.Int32: 32,
    pl.UInt32: 32,
    pl.Int64: 64,
}
_SCALARS: dict[object, pl.DataType] = {
    bool: pl.Boolean(),
    int: pl.Int64(),
    float: pl.Float64(),
    str: pl.String(),
    bytes: pl.Binary(),
    datetime: pl.Datetime("us", "UTC"),
    date: pl.Date(),
    time: pl.Time(),
    timedelta: pl.Duration("us"),
    Decimal: pl.Decimal(38, 9),
}
_KNOWN = (
    "Polars' types (pl.Float64, pl.String, …), or "
    "int, float, bool, str, bytes, datetime, date, time, timedelta, Decimal, lists and structs of them"
)


class ColumnType(NamedTuple):
    """A Polars type, the type on the wire without its null, and whether there may be a null."""

    dtype: pl.DataType
    wire: Any
    nullable: bool

    @property
    def annotation(self) -> Any:
        return self.wire | None if self.nullable else self.wire


class FieldSpec(NamedTuple):
    """A field as it was declared: by its name on the wire, with its default where it has one."""

    name: str
    annotation: Any
    default: Any = msgspec.NODEFAULT
    default_factory: Any = msgspec.NODEFAULT


def column_type(declared: Any, where: str, depth: int = 0) -> ColumnType:
    """Of a Polars type, which says nothing of nulls and so has them, or of a Python type.

    Raises `ConfigurationError` naming the field `where` for a type that no column can have.
    """
    if depth > DEPTH_MAX:
        raise ConfigurationError(f"field {where}: lists and structs are nested deeper than {DEPTH_MAX}")
    if isinstance(declared, pl.DataType) or (isinstance(declared, type) and issubclass(declared, pl.DataType)):
        return _of_polars(declared, where, depth)
    return _of_python(declared, where, depth)


def is_record(declared: object) -> bool:
    """Whether it is a class of named fields: a dataclass or a msgspec struct."""
    return isinstance(declared, type) and (
        dataclasses.is_dataclass(declared) or issubclass(declared, msgspec.Struct)
    )


def fields_of(declared: type, where: str) -> list[FieldSpec]:
    """The fields of a dataclass or struct, by their names on the wire."""
    try:
        return list(
            _struct_fields(declared) if issubclass(declared, msgspec.Struct) else _dataclass_fields(declared)
        )
    except NameError as error:
        raise ConfigurationError(
            f"{where}: {error}, which a field of {declared.__name__} has as its type",
            hint="declare the types of a stream at the top level of a module",
        ) from error


def row_type(
    columns: dict[str, ColumnType], fields: Sequence[FieldSpec], *, forbid: bool
) -> type[msgspec.Struct]:
    """What msgspec decodes one row by: a struct whose fields are those columns, in their order."""
    given: list[Any] = []
    rename: dict[str, str] = {}
    for number, field in enumerate(fields):
        name = f"c{number}"  # a column's own name may be none of Python's
        rename[name] = field.name
        annotation = columns[field.name].annotation
        if field.default_factory is not msgspec.NODEFAULT:
            given.append((name, annotation, msgspec.field(default_factory=field.default_factory)))
        elif field.default is not msgspec.NODEFAULT:
            given.append((name, annotation, msgspec.field(default=field.default)))
        else:
            given.append((name, annotation))
    return msgspec.defstruct("Row", given, rename=rename, gc=False, kw_only=True, forbid_unknown_fields=forbid)


def _struct_fields(declared: type[msgspec.Struct]) -> Iterator[FieldSpec]:
    config = declared.__struct_config__
    if config.array_like or config.tag is not None:
        kind = "array_like" if config.array_like else "tagged"
        raise ConfigurationError(f"{declared.__name__} is {kind}, which a stream's rows cannot be")
    for field in msgspec.structs.fields(declared):
        yield FieldSpec(field.encode_name, field.type, _value_of(field.default), field.default_factory)


def _dataclass_fields(declared: type) -> Iterator[FieldSpec]:
    hints = get_type_hints(declared, include_extras=True)
    for field in dataclasses.fields(declared):
        default = msgspec.NODEFAULT if field.default is dataclasses.MISSING else _value_of(field.default)
        factory = msgspec.NODEFAULT if field.default_factory is dataclasses.MISSING else field.default_factory
        yield FieldSpec(field.name, hints[field.name], default, factory)


def _value_of(default: Any) -> Any:
    """A default as it would have come over the wire."""
    return default.value if isinstance(default, Enum) else default


def _of_polars(declared: Any, where: str, depth: int) -> ColumnType:
    dtype = _instance(declared, where)
    if isinstance(dtype, pl.List | pl.Array):
        inner = column_type(dtype.inner, where, depth + 1)
        wire: Any = list[inner.annotation]  # type: ignore[name-defined]
        if isinstance(dtype, pl.Array):
            if len(dtype.shape) > 1:
                raise ConfigurationError(f"field {where}: an array of arrays cannot be read; use pl.List")
            wire = Annotated[wire, msgspec.Meta(min_length=dtype.size, max_length=dtype.size)]
        return ColumnType(dtype, wire, True)
    if isinstance(dtype, pl.Struct):
        fields = [FieldSpec(field.name, field.dtype, None) for field in dtype.fields]
        return _nested(fields, where, depth, forbid=False)
    return ColumnType(dtype, _scalar_wire(dtype, where, (), depth), True)


def _instance(declared: Any, where: str) -> pl.DataType:
    """Polars takes its types as classes too, where they need no more said."""
    if not isinstance(declared, type):
        return declared  # type: ignore[no-any-return]
    try:
        return declared()  # type: ignore[no-any-return]
    except TypeError as error:
        raise ConfigurationError(
            f"field {where}: {declared.__name__} does not say what it holds",
            hint="for example pl.List(pl.Int64)",
        ) from error


def _of_python(declared: Any, where: str, depth: int) -> ColumnType:
    base, metas, dtype, nullable = _unwrapped(declared, where)
    if dtype is not None:
        if base in _SCALARS and _family(dtype) is not base:
            raise ConfigurationError(f"field {where}: {dtype} holds no {getattr(base, '__name__', base)}")
        return ColumnType(dtype, _scalar_wire(dtype, where, metas, depth), nullable)
    if base in _SCALARS:
        dtype = _SCALARS[base]
        return ColumnType(dtype, _scalar_wire(dtype, where, metas, depth), nullable)
    if get_origin(base) in (list, tuple, Sequence):
        arguments = get_args(base)
        if get_origin(base) is tuple and (len(arguments) != 2 or arguments[1] is not Ellipsis):
            raise _unknown(declared, where)
        inner = column_type(arguments[0], where, depth + 1)
        return ColumnType(pl.List(inner.dtype), _annotated(list[inner.annotation], metas), nullable)  # type: ignore[name-defined]
    if is_record(base):
        forbid = issubclass(base, msgspec.Struct) and base.__struct_config__.forbid_unknown_fields
        nested = _nested(fields_of(base, f"field {where}"), where, depth, forbid=forbid)
        return nested._replace(nullable=nullable)
    if (values := _choices(base)) is not None:
        return ColumnType(pl.Int64() if isinstance(values[0], int) else pl.String(), Literal[values], nullable)
    raise _unknown(declared, where)


def _nested(fields: Sequence[FieldSpec], where: str, depth: int, *, forbid: bool) -> ColumnType:
    columns = {
        field.name: column_type(field.annotation, f"{where}.{field.name}", depth + 1) for field in fields
    }
    if not columns:
        raise ConfigurationError(f"field {where}: a struct without fields")
    dtype = pl.Struct({name: column.dtype for name, column in columns.items()})
    return ColumnType(dtype, row_type(columns, fields, forbid=forbid), True)


def _unwrapped(declared: Any, where: str) -> tuple[Any, tuple[Any, ...], pl.DataType | None, bool]:
    """What is under Annotated, NewType and Optional: the type, what msgspec is to know, a Polars type."""
    metas: tuple[Any, ...] = ()
    dtype: pl.DataType | None = None
    nullable = False
    while True:
        origin = get_origin(declared)
        if origin is Annotated:
            declared, *notes = get_args(declared)
            metas = (*(note for note in notes if isinstance(note, msgspec.Meta)), *metas)
            for note in notes:
                if isinstance(note, pl.DataType) or (isinstance(note, type) and issubclass(note, pl.DataType)):
                    dtype = _instance(note, where)
        elif isinstance(declared, NewType):
            declared = declared.__supertype__
        elif origin in (Union, types.UnionType):
            others = [each for each in get_args(declared) if each is not type(None)]
            if len(others) != 1 or len(others) == len(get_args(declared)):
                raise _unknown(declared, where)
            declared, nullable = others[0], True
        else:
            return declared, metas, dtype, nullable


def _choices(base: Any) -> tuple[Any, ...] | None:
    """The values of a Literal or an Enum, where they are all texts or all numbers."""
    values: tuple[Any, ...] = ()
    if get_origin(base) is Literal:
        values = get_args(base)
    elif isinstance(base, type) and issubclass(base, Enum):
        values = tuple(member.value for member in base)
    kinds = {type(value) for value in values}
    return values if kinds in ({str}, {int}) else None


def _family(dtype: pl.DataType) -> Any:
    """The Python type whose values such a column has."""
    if dtype.is_integer():
        return int
    if dtype.is_float():
        return float
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        return str
    return next((python for python, column in _SCALARS.items() if isinstance(dtype, type(column))), None)


def _scalar_wire(dtype: pl.DataType, where: str, metas: tuple[Any, ...], depth: int) -> Any:
    family = _family(dtype)
    if family is None:
        raise _unknown(dtype, where)
    if isinstance(dtype, pl.Enum):
        return Literal[tuple(dtype.categories.to_list())]
    limits: dict[str, Any] = {}
    if family is int and not (depth == 0 and isinstance(dtype, pl.Int64)):
        # A plain column of Int64 finds it when it is built: bounds would cost each row 0.007 µs a column.
        limits = _integer_limits(dtype)
    elif family is time:
        limits = {"tz": False}  # a column of times of day has no place for an offset
    for meta in metas:
        if meta.gt is not None or meta.ge is not None:
            limits.pop("ge", None)
        if meta.lt is not None or meta.le is not None:
            limits.pop("le", None)
    return _annotated(family, ((msgspec.Meta(**limits), *metas) if limits else metas))


def _integer_limits(dtype: pl.DataType) -> dict[str, int]:
    """As far as msgspec compares, which is to 63 bits: what passes a wider column is found in building it."""
    if dtype.is_unsigned_integer():
        bits = _BITS.get(type(dtype), 64)
        return {"ge": 0} | ({"le": 2**bits - 1} if bits < 64 else {})
    if isinstance(dtype, pl.Int128):
        return {}
    bits = _BITS[type(dtype)]
    return {"ge": -(2 ** (bits - 1)), "le": 2 ** (bits - 1) - 1}


def _annotated(base: Any, metas: tuple[Any, ...]) -> Any:
    for meta in metas:
        base = Annotated[base, meta]
    return base


def _unknown(declared: Any, where: str) -> ConfigurationError:
    return ConfigurationError(
        f"field {where}: {shown(str(declared))} is no type of a column", hint=f"known are {_KNOWN}"
    )
