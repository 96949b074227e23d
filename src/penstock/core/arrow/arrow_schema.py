"""The schema of an Arrow stream: names and types of columns. Source: `format/Schema.fbs`."""

from typing import NamedTuple

import numpy as np

from penstock.core.arrow.flatbuffers import Table, broken_stream

__all__ = ["ArrowField", "ArrowType", "read_schema"]

FIELDS_MAX = 10_000
DEPTH_MAX = 8
NAMES_BYTES_MAX = 4 * 1024 * 1024
"""All together: many fields can have one and the same long name at no cost to who sends them."""

_TYPES = {
    1: "Null", 2: "Int", 3: "FloatingPoint", 4: "Binary", 5: "Utf8", 6: "Bool", 7: "Decimal", 8: "Date",
    9: "Time", 10: "Timestamp", 11: "Interval", 12: "List", 13: "Struct", 14: "Union", 15: "FixedSizeBinary",
    16: "FixedSizeList", 17: "Map", 18: "Duration", 19: "LargeBinary", 20: "LargeUtf8", 21: "LargeList",
    22: "RunEndEncoded", 23: "BinaryView", 24: "Utf8View", 25: "ListView", 26: "LargeListView",
}  # fmt: skip
_FLOATS: dict[int, "np.dtype[np.generic]"] = {0: np.dtype("<f2"), 1: np.dtype("<f4"), 2: np.dtype("<f8")}


class ArrowType(NamedTuple):
    """A type by its name in the format; `dtype` of numbers, `size` of lists that all have one, `width` in bytes
    of other values that all have one.
    """

    name: str
    dtype: "np.dtype[np.generic] | None" = None
    size: int = 0
    width: int = 0


class ArrowField(NamedTuple):
    """A column, or what a list is of. Text in a dictionary has the dictionary's number and index type."""

    name: str
    type: ArrowType
    children: "tuple[ArrowField, ...]"
    dictionary: int | None
    index_type: ArrowType | None

    def describe(self) -> str:
        """The type as a message has it."""
        if self.children:
            inner = ", ".join(child.describe() for child in self.children)
            size = f", {self.type.size}" if self.type.name == "FixedSizeList" else ""
            return f"{self.type.name}[{inner}{size}]"
        return self.type.name if self.type.dtype is None else str(self.type.dtype)


def read_schema(schema: Table) -> tuple[ArrowField, ...]:
    """The columns. Raises `InvalidInput` for what is no schema."""
    if schema.number(0, "<h") != 0:
        raise broken_stream("it is big-endian")
    reader = _Reader()
    return tuple(reader.field(field, 0) for field in schema.tables(1))


class _Reader:
    """Counts what it reads: a schema of a few bytes can say that it has endless fields."""

    def __init__(self) -> None:
        self._fields = 0
        self._names_bytes = 0

    def field(self, field: Table, depth: int) -> ArrowField:
        self._fields += 1
        if self._fields > FIELDS_MAX or depth > DEPTH_MAX:
            raise broken_stream(f"its schema has more than {FIELDS_MAX} fields, or is nested too deeply")
        name = field.text(0)
        self._names_bytes += len(name)
        if self._names_bytes > NAMES_BYTES_MAX:
            raise broken_stream(f"the names in its schema have more than {NAMES_BYTES_MAX} characters")
        dictionary = field.table(4)
        number: int | None = None
        index: ArrowType | None = None
        if dictionary is not None:
            number = dictionary.number(0, "<q")
            index_type = dictionary.table(1)
            index = ArrowType("Int", np.dtype("<i4")) if index_type is None else _int(index_type)
        children = tuple(self.field(child, depth + 1) for child in field.tables(5))
        return ArrowField(name, _type(field), children, number, index)


def _type(field: Table) -> ArrowType:
    name = _TYPES.get(field.number(2, "<B"), "an unknown type")
    table = field.table(3)
    if table is None:
        raise broken_stream("a field has no type")
    match name:
        case "Int":
            return _int(table)
        case "FloatingPoint":
            precision = table.number(0, "<h")
            if precision not in _FLOATS:
                raise broken_stream(f"a field is of floats of precision {precision}")
            return ArrowType(name, _FLOATS[precision])
        case "FixedSizeList":
            size = table.number(0, "<i")
            if size < 0:
                raise broken_stream(f"a field is of lists of {size}")
            return ArrowType(name, size=size)
        case _:
            return ArrowType(name, width=_width(name, table))


def _width(name: str, table: Table) -> int:
    """0 for values of no one width. The defaults are those of the format."""
    match name:
        case "Timestamp" | "Duration":
            return 8
        case "Date":
            return 4 if table.number(0, "<h", 1) == 0 else 8
        case "Time":
            return _bytes(table.number(1, "<i", 32))
        case "Decimal":
            return _bytes(table.number(2, "<i", 128))
        case "FixedSizeBinary":
            return _bytes(8 * table.number(0, "<i"))
        case _:
            return 0


def _bytes(bits: int) -> int:
    if bits <= 0:
        raise broken_stream(f"a field is of values of {bits} bits")
    return bits // 8


def _int(table: Table) -> ArrowType:
    bits = table.number(0, "<i")
    if bits not in (8, 16, 32, 64):
        raise broken_stream(f"a field is of integers of {bits} bits")
    signed = table.number(1, "<?") != 0
    return ArrowType("Int", np.dtype(f"<{'i' if signed else 'u'}{bits // 8}"))
