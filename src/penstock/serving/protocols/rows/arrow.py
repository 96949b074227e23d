"""Arrow record batches to tensors and back, by way of Polars."""

import io
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.core.errors import InvalidInput, TooLarge
from penstock.core.signature import ANY, Signature, TensorSpec
from penstock.core.tensors import Array, DataType, Tensors
from penstock.serving.batching.outputs import BatchRows
from penstock.serving.protocols.rows.arrow_messages import (
    END_OF_STREAM,
    ArrowMessage,
    ArrowMessages,
    MessageKind,
)
from penstock.serving.protocols.rows.cells import objects_array
from penstock.serving.protocols.rows.fields import FieldErrors
from penstock.serving.protocols.rows.typed import is_matrix

if TYPE_CHECKING:
    import polars as pl

__all__ = ["ArrowDecoder", "ArrowEncoder"]

MESSAGE_BYTES_MAX = 64 * 1024 * 1024


class ArrowDecoder:
    """Fed with the messages of one stream, gives the tensors of each record batch."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._specs = {spec.name: spec for spec in signature.inputs}
        self._schema: bytes | None = None
        self._dictionaries: list[bytes] = []
        self._dictionaries_bytes = 0
        self._columns: list[str] = []
        """Of a matrix that comes as a frame, the columns in its order; else empty."""

    def decode(self, message: ArrowMessage) -> Tensors | None:
        """The rows in a record batch; None for what has no rows. Raises `InvalidInput`."""
        if message.kind is MessageKind.SCHEMA:
            if self._schema is not None:
                raise InvalidInput("this Arrow stream has two schemas", where="body")
            self._check_schema(_read([message.content]))
            self._schema = message.content
            return None
        if self._schema is None:
            raise InvalidInput("this Arrow stream does not begin with a schema", where="body")
        if message.kind is MessageKind.DICTIONARY:
            self._dictionaries.append(message.content)
            self._dictionaries_bytes += len(message.content)
            if self._dictionaries_bytes > MESSAGE_BYTES_MAX:
                raise TooLarge(
                    f"the dictionaries of an Arrow stream pass {MESSAGE_BYTES_MAX} bytes",
                    where="body",
                    hint="send text as plain strings",
                )
            return None
        frame = _read([self._schema, *self._dictionaries, message.content])
        return self._tensors(frame) if frame.height else None

    def finish(self) -> None:
        """Nothing more comes. Raises `InvalidInput` where there was not even a schema."""
        if self._schema is None:
            raise InvalidInput("the body is empty, where an Arrow stream has a schema at least", where="body")

    def _check_schema(self, frame: "pl.DataFrame") -> None:
        """Raises `InvalidInput` where the columns do not fit the signature."""
        errors = FieldErrors()
        names = frame.columns
        specs = self._signature.inputs
        if is_matrix(self._signature) and names != [specs[0].name]:
            self._columns = self._matrix_columns(names)
            for name in names:
                _check_type(frame.schema[name], specs[0], name, errors, depth=0)
        else:
            for spec in specs:
                if spec.name in names:
                    _check_type(frame.schema[spec.name], spec, spec.name, errors, depth=len(spec.shape) - 1)
                else:
                    errors.add(None, spec.name, spec.describe(), "nothing")
            for name in names:
                if name not in self._specs:
                    errors.add(None, name, "no such column", str(frame.schema[name]))
        taken = ", ".join(f"{spec.name} {spec.describe()}" for spec in specs)
        errors.raise_if_any(f"the model takes {taken}")

    def _matrix_columns(self, names: list[str]) -> list[str]:
        (spec,) = self._signature.inputs
        if len(spec.shape) != 2 or spec.shape[1] not in (ANY, len(names)):
            raise InvalidInput(
                f"input {spec.name!r}: expected {spec.describe()}, got a frame of {len(names)} columns",
                where=spec.name,
                hint=f"send as many columns, or one column {spec.name!r} of lists",
            )
        numbers = [str(index) for index in range(len(names))]
        return numbers if set(numbers) == set(names) else names

    def _tensors(self, frame: "pl.DataFrame") -> Tensors:
        if self._columns:
            (spec,) = self._signature.inputs
            columns = [_flat(frame[name], spec, name) for name in self._columns]
            return {spec.name: np.stack(columns, axis=1)}
        return {name: _column(frame[name], spec) for name, spec in self._specs.items()}


class ArrowEncoder:
    """Outputs as the messages of one stream: a schema first, then a record batch a call."""

    content_type = "application/vnd.apache.arrow.stream"

    def __init__(self, signature: Signature) -> None:
        self._outputs = signature.outputs
        self._begun = False

    def encode(self, answer: BatchRows) -> bytes:
        """The record batch of some rows, the schema before the first of them."""
        import polars as pl

        batch, start, stop = answer
        frame = pl.DataFrame(
            [_series(spec, batch.tensors[spec.name][start:stop]) for spec in self._outputs]
        )
        stream = io.BytesIO()
        # The oldest level: readers of every language know its types.
        frame.write_ipc_stream(stream, compat_level=pl.CompatLevel.oldest())
        kinds = (MessageKind.RECORDS,) if self._begun else (MessageKind.SCHEMA, MessageKind.RECORDS)
        self._begun = True
        messages = ArrowMessages(message_bytes_max=1 << 40).feed(stream.getvalue())
        return b"".join(message.content for message in messages if message.kind in kinds)

    def end(self) -> bytes:
        """What ends the stream; with it a schema, where there was no row."""
        if self._begun:
            return END_OF_STREAM
        empty = {spec.name: np.empty((0, *_fixed(spec)), dtype=spec.dtype) for spec in self._outputs}
        from penstock.serving.batching.outputs import BatchOutputs

        return self.encode(BatchRows(BatchOutputs(empty), 0, 0)) + END_OF_STREAM


def _read(messages: list[bytes]) -> "pl.DataFrame":
    import polars as pl

    try:
        return pl.read_ipc_stream(io.BytesIO(b"".join((*messages, END_OF_STREAM))))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise InvalidInput(
            f"this Arrow stream cannot be read: {str(error).splitlines()[0][:200] if str(error) else 'broken'}",
            where="body",
        ) from None


def _check_type(dtype: "pl.DataType", spec: TensorSpec, name: str, errors: FieldErrors, *, depth: int) -> None:
    """Tells `errors` of a column whose type does not fit, `depth` lists deep."""
    import polars as pl

    inner: Any = dtype
    for _ in range(depth):
        if isinstance(inner, pl.Array):
            # An array of several axes has them all in its shape.
            inner = inner.inner
        elif isinstance(inner, pl.List):
            inner = inner.inner
        else:
            break
    fits: Callable[[Any], bool] = {
        "b": lambda each: each == pl.Boolean,
        "i": lambda each: each.is_integer(),
        "u": lambda each: each.is_integer(),
        "f": lambda each: each.is_integer() or each.is_float(),
        "O": lambda each: each in (pl.String, pl.Categorical, pl.Enum) or (
            spec.datatype is DataType.BYTES and each == pl.Binary
        ),
    }[spec.dtype.kind]
    if not fits(inner):
        lists = "lists of " * depth
        errors.add(None, name, f"{lists}{spec.datatype.value}", str(dtype))


def _column(series: "pl.Series", spec: TensorSpec) -> Array:
    """A column of scalars, or of lists that all have one length."""
    shape = [len(series)]
    for axis in spec.shape[1:]:
        flat, length = _explode(series, spec.name)
        if axis not in (ANY, length):
            raise InvalidInput(
                f"column {spec.name!r}: expected lists of {axis}, got lists of {length}", where=spec.name
            )
        shape.append(length)
        series = flat
    return _flat(series, spec, spec.name).reshape(shape)


def _explode(series: "pl.Series", name: str) -> "tuple[pl.Series, int]":
    """One level of lists flattened, and their one length."""
    import polars as pl

    if isinstance(series.dtype, pl.Array):
        series = series.arr.to_list()
    lengths = series.list.len().unique()
    if series.null_count() or len(lengths) != 1:
        raise InvalidInput(f"column {name!r}: its lists have several lengths, or some are missing", where=name)
    length = int(lengths[0])
    return (series.explode() if length else series.clear().explode()), length


def _flat(series: "pl.Series", spec: TensorSpec, name: str) -> Array:
    """The elements of a column, in the type that the model takes."""
    import polars as pl

    missing = series.null_count()
    if missing and not spec.nan:
        row = series.is_null().arg_max()
        raise InvalidInput(
            f"column {name!r}, row {row} of a batch: there is no place for missing values", where=name
        )
    kind = spec.dtype.kind
    if kind == "O":
        if series.dtype != pl.Binary:
            return objects_array(series.cast(pl.String).to_list(), spec.datatype)
        array = np.empty(len(series), dtype=object)
        array[:] = series.to_list()
        return array
    if kind == "b":
        return series.to_numpy()
    values = series.to_numpy()
    if kind in "iu":
        bounds = np.iinfo(spec.dtype)
        if len(values) and (int(values.min()) < bounds.min or int(values.max()) > bounds.max):
            raise InvalidInput(
                f"column {name!r}: a value is outside {bounds.min} to {bounds.max}", where=name
            )
    with np.errstate(over="ignore"):
        return values.astype(spec.dtype)


def _series(spec: TensorSpec, array: Array) -> "pl.Series":
    import polars as pl

    if spec.dtype.kind == "O":
        kind: Any = pl.Binary if spec.datatype is DataType.BYTES else pl.String
        flat = pl.Series(spec.name, array.ravel().tolist(), dtype=kind)
    elif array.dtype == np.float16:
        flat = pl.Series(spec.name, array.astype(np.float32).ravel())
    else:
        flat = pl.Series(spec.name, np.ascontiguousarray(array).ravel())
    width = math.prod(array.shape[1:])
    if array.ndim == 1:
        return flat
    if not width:
        return pl.Series(spec.name, [[]] * len(array), dtype=pl.Array(flat.dtype, array.shape[1:]))
    return flat.reshape((len(array), *array.shape[1:])) if len(array) else pl.Series(
        spec.name, [], dtype=pl.Array(flat.dtype, array.shape[1:])
    )


def _fixed(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(max(axis, 0) for axis in spec.shape[1:])
