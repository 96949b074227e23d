"""Arrow record batches to tensors, for one signature."""

from typing import Any

import numpy as np

from penstock.core.arrow.arrow_messages import ArrowMessage, MessageKind
from penstock.core.arrow.arrow_schema import ArrowField, read_schema
from penstock.core.arrow.flatbuffers import broken_stream
from penstock.core.errors import InvalidInput, TooLarge
from penstock.core.signature import ANY, Signature, TensorSpec
from penstock.core.tensors import Array, DataType, Tensors
from penstock.serving.protocols.rows.arrow_columns import ArrowColumn, concatenate, read_columns
from penstock.serving.protocols.rows.cells import objects_array
from penstock.serving.protocols.rows.fields import FieldErrors
from penstock.serving.protocols.rows.typed import is_matrix

__all__ = ["ArrowDecoder"]

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
_TEXT = frozenset({"Utf8", "LargeUtf8", "Utf8View"})
_BYTES = frozenset({"Binary", "LargeBinary", "BinaryView"})


class ArrowDecoder:
    """Fed with the messages of one stream, gives the tensors of each record batch."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._specs = {spec.name: spec for spec in signature.inputs}
        self._fields: tuple[ArrowField, ...] | None = None
        self._dictionaries: dict[int, ArrowColumn] = {}
        self._dictionaries_bytes = 0
        self._columns: list[str] = []
        """Of a matrix that comes as a frame, the columns in its order; else empty."""

    def decode(self, message: ArrowMessage) -> Tensors | None:
        """The rows in a record batch; None for what has no rows. Raises `InvalidInput`."""
        if message.kind is MessageKind.SCHEMA:
            if self._fields is not None:
                raise broken_stream("it has two schemas")
            fields = read_schema(message.header)
            self._check_schema(fields)
            self._fields = fields
            return None
        if self._fields is None:
            raise broken_stream("it does not begin with a schema")
        if message.kind is MessageKind.DICTIONARY:
            self._add_dictionary(self._fields, message)
            return None
        columns = read_columns(self._fields, message.header, message.body, self._dictionaries)
        if columns[0].shape[0] == 0:
            return None
        return self._tensors({field.name: column for field, column in zip(self._fields, columns, strict=True)})

    def finish(self) -> None:
        """Nothing more comes. Raises `InvalidInput` where there was not even a schema."""
        if self._fields is None:
            raise InvalidInput("the body is empty, where an Arrow stream has a schema at least", where="body")

    def _add_dictionary(self, fields: tuple[ArrowField, ...], message: ArrowMessage) -> None:
        number = message.header.number(0, "<q")
        batch = message.header.table(1)
        owner = _owner(fields, number)
        if batch is None or owner is None:
            raise broken_stream("a dictionary belongs to no column")
        known = self._dictionaries.get(number)
        added = message.header.number(2, "<?") != 0
        self._dictionaries_bytes += len(message.content)
        if added and known is not None:
            # What was there is copied each time that something is added to it.
            self._dictionaries_bytes += known.values.nbytes
        if self._dictionaries_bytes > MESSAGE_BYTES_MAX:
            raise TooLarge(
                f"the dictionaries of an Arrow stream pass {MESSAGE_BYTES_MAX} bytes",
                where="body",
                hint="send text as plain strings",
            )
        values = owner._replace(dictionary=None, index_type=None)
        (column,) = read_columns((values,), batch, message.body, {})
        self._dictionaries[number] = concatenate(known, column) if added and known is not None else column

    def _check_schema(self, fields: tuple[ArrowField, ...]) -> None:
        """Raises `InvalidInput` where the columns do not fit the signature."""
        errors = FieldErrors()
        by_name = {field.name: field for field in fields}
        specs = self._signature.inputs
        if len(by_name) != len(fields):
            raise InvalidInput("a column comes twice in this Arrow stream", where="body")
        if is_matrix(self._signature) and list(by_name) != [specs[0].name]:
            self._columns = self._matrix_columns(list(by_name))
            for field in fields:
                _check_type(field, specs[0], errors, depth=0)
        else:
            for spec in specs:
                if spec.name in by_name:
                    _check_type(by_name[spec.name], spec, errors, depth=len(spec.shape) - 1)
                else:
                    errors.add(None, spec.name, spec.describe(), "nothing")
            for field in fields:
                if field.name not in self._specs:
                    errors.add(None, field.name, "no such column", field.describe())
        taken = ", ".join(f"{spec.name} {spec.describe()}" for spec in specs)
        errors.raise_if_any(f"the model takes {taken}")

    def _matrix_columns(self, names: list[str]) -> list[str]:
        (spec,) = self._signature.inputs
        if not names or len(spec.shape) != 2 or spec.shape[1] not in (ANY, len(names)):
            raise InvalidInput(
                f"input {spec.name!r}: expected {spec.describe()}, got a frame of {len(names)} columns",
                where=spec.name,
                hint=f"send as many columns, or one column {spec.name!r} of lists",
            )
        numbers = [str(index) for index in range(len(names))]
        return numbers if set(numbers) == set(names) else names

    def _tensors(self, columns: dict[str, ArrowColumn]) -> Tensors:
        if self._columns:
            (spec,) = self._signature.inputs
            return {spec.name: np.stack([_array(columns[name], spec, name) for name in self._columns], axis=1)}
        return {name: _array(columns[name], spec, name) for name, spec in self._specs.items()}


def _owner(fields: tuple[ArrowField, ...], dictionary: int) -> ArrowField | None:
    """The field whose values a dictionary has."""
    for field in fields:
        found = field if field.dictionary == dictionary else _owner(field.children, dictionary)
        if found is not None:
            return found
    return None


def _check_type(field: ArrowField, spec: TensorSpec, errors: FieldErrors, *, depth: int) -> None:
    """Tells `errors` of a column whose type does not fit, `depth` lists deep."""
    inner = field
    levels = 0
    while levels < depth and inner.children:
        inner = inner.children[0]
        levels += 1
    # A column of one element a row may come without its lists.
    flat = levels == 0 and spec.shape[1:] == (1,)
    if not _fits(inner, spec) or (levels != depth and not flat):
        errors.add(None, field.name, f"{'lists of ' * depth}{spec.datatype.value}", field.describe())


def _fits(field: ArrowField, spec: TensorSpec) -> bool:
    kind = spec.dtype.kind
    dtype = field.type.dtype
    if kind == "O":
        return field.type.name in _TEXT or (spec.datatype is DataType.BYTES and field.type.name in _BYTES)
    if kind == "b":
        return field.type.name == "Bool"
    return dtype is not None and (kind == "f" or dtype.kind != "f")


def _array(column: ArrowColumn, spec: TensorSpec, name: str) -> Array:
    """A column in the type that the model takes. Raises `InvalidInput` for a value that has no place."""
    values, missing, shape = column
    if missing is not None and missing.any():
        if not spec.nan:
            row = int(np.argmax(missing)) // max(1, len(values) // shape[0])
            raise InvalidInput(
                f"column {name!r}, row {row} of its record batch: there is no place for missing values",
                where=name,
            )
        with np.errstate(over="ignore"):
            values = values.astype(spec.dtype)
        values[missing] = np.nan
    return _converted(values, spec, name).reshape(shape)


def _converted(values: Any, spec: TensorSpec, name: str) -> Array:
    kind = spec.dtype.kind
    if kind == "O":
        elements = values.tolist()
        if elements and isinstance(elements[0], bytes):
            return np.asarray(values)
        return objects_array(elements, spec.datatype)
    if kind in "iu" and len(values):
        bounds = np.iinfo(spec.dtype.str)
        if int(values.min()) < bounds.min or int(values.max()) > bounds.max:
            raise InvalidInput(f"column {name!r}: a value is outside {bounds.min} to {bounds.max}", where=name)
    with np.errstate(over="ignore"):
        return np.asarray(values.astype(spec.dtype))
