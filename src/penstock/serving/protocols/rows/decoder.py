"""Rows to tensors: MLflow's scoring form, for one signature.

Source: the scoring protocol of MLflow 2 and later (`dataframe_records`, `dataframe_split`, `instances`,
`inputs`, `params`).
"""

from collections.abc import Collection, Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec
import numpy as np

from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import Array, Tensors
from penstock.serving.protocols.rows.cells import objects_array
from penstock.serving.protocols.rows.lenient import LenientRows
from penstock.serving.protocols.rows.typed import body_decoder, is_matrix, line_decoder

__all__ = ["DecodedRows", "RowsDecoder"]

COLUMNS_KNOWN_MAX = 8
COLUMNS_BYTES_MAX = 64 * 1024
_decode_columns = msgspec.json.Decoder(list[str | int]).decode
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class DecodedRows(NamedTuple):
    """The tensors of a request. `by_column` says that it came as `inputs`, and is answered in columns."""

    tensors: Tensors
    by_column: bool


class RowsDecoder:
    """Decodes requests for one version.

    What its typed decoders refuse, or numpy does, is read again by `LenientRows`, which either understands
    it after all (a matrix in records of two orders) or says what is wrong, field by field.
    """

    def __init__(self, signature: Signature) -> None:
        self._specs = signature.inputs
        self._spec = signature.inputs[0]
        self._matrix = is_matrix(signature)
        self._names = [spec.name for spec in signature.inputs]
        # What columns without names are called, as frames made from a matrix have them.
        self._numbers = [str(index) for index in range(self._spec.row_elements)] if self._matrix else []
        self._decode = body_decoder(signature).decode
        self._line_decoder = line_decoder(signature)
        self._lenient = LenientRows(signature)
        self._widths: dict[bytes, int] = {}
        """How many columns there are, by the `columns` of frames that came in the model's order."""
        dtypes = {spec.dtype for spec in signature.inputs}
        self._shared_dtype = None
        if len(dtypes) == 1 and self._spec.numeric and all(len(spec.shape) == 1 for spec in signature.inputs):
            self._shared_dtype = self._spec.dtype
        """Of models that take one number of the same type in every column: all become one array at once."""

    def decode(self, body: bytes) -> DecodedRows:
        """The request in `body`. Raises `InvalidInput`, and `InvalidRows` where fields are at fault."""
        try:
            return self._typed(body)
        except (*_UNDECODABLE, _Unusual, OverflowError, TypeError, ValueError, RuntimeWarning):
            tensors, by_column = self._lenient.decode(body)
            return DecodedRows(tensors, by_column)

    def explain(self, body: bytes) -> None:
        """Raises `InvalidRows` for a body whose fields are at fault."""
        self._lenient.decode(body)

    def decode_lines(self, lines: Sequence[bytes]) -> Tensors:
        """The rows of NDJSON lines. Raises `InvalidInput` where any of them is at fault, and does not say
        which: `decode_line` does.
        """
        try:
            return self._rows([self._line_decoder.decode(line) for line in lines])
        except (*_UNDECODABLE, _Unusual, OverflowError, TypeError, ValueError, RuntimeWarning):
            return self._lenient.decode_lines(lines)

    def decode_line(self, line: bytes) -> Tensors:
        """The one row in a line. Raises `InvalidInput`."""
        return self._lenient.decode_lines([line])

    def _typed(self, body: bytes) -> DecodedRows:
        message = self._decode(body)
        if message.params:
            self._lenient.pass_over(message.params)
        unset = msgspec.UNSET
        forms = (message.instances, message.inputs, message.dataframe_split, message.dataframe_records)
        if forms.count(unset) != 3:
            raise _Unusual
        instances, inputs, split, records = forms
        if instances is not unset:
            return DecodedRows(self._rows(instances), False)
        if records is not unset:
            return DecodedRows(self._rows(records), False)
        if split is not unset:
            return DecodedRows(self._split(bytes(split.columns), split.data), False)
        columns = [inputs] if type(inputs) is list else msgspec.structs.astuple(inputs)
        if not all(columns):
            raise _Unusual
        return DecodedRows(self._matrix_rows(columns[0]) if self._matrix else self._columns(columns), True)

    def _rows(self, rows: Sequence[Any]) -> Tensors:
        if not rows:
            raise _Unusual
        kinds = set(map(type, rows))
        if len(kinds) != 1:
            raise _Unusual
        (kind,) = kinds
        if self._matrix:
            return self._matrix_records(rows) if kind is dict else self._matrix_rows(rows)
        if kind is tuple:
            return self._columns(tuple(zip(*rows, strict=True)))
        if issubclass(kind, msgspec.Struct):
            return self._columns(tuple(zip(*map(msgspec.structs.astuple, rows), strict=True)))
        return self._columns([rows])

    def _matrix_records(self, rows: Sequence[dict[str, Any]]) -> Tensors:
        """A matrix from records. Keys in one order are the columns in order."""
        first = rows[0]
        names = list(first)
        if len(rows) > 1 and any(list(row) != names for row in rows):
            raise _Unusual
        if names == self._names and type(first[names[0]]) is list:
            return self._matrix_rows([row[names[0]] for row in rows])
        if not names or (names[0].isdecimal() and names != self._numbers):
            raise _Unusual
        return self._matrix_rows([row.values() for row in rows])

    def _matrix_rows(self, rows: Sequence[Collection[Any]]) -> Tensors:
        """A matrix from its rows. Through one flat iterator, which numpy reads faster than nested lists."""
        spec = self._spec
        width = spec.row_elements
        if len(spec.shape) != 2 or not width or spec.nan or not spec.numeric:
            return {spec.name: _array([row if type(row) is list else list(row) for row in rows], spec)}
        if any(len(row) != width for row in rows):
            raise _Unusual
        count = len(rows) * width
        flat = np.fromiter(chain.from_iterable(rows), spec.dtype, count)
        return {spec.name: flat.reshape((len(rows), width))}

    def _split(self, columns: bytes, data: Sequence[Any]) -> Tensors:
        width = self._widths.get(columns)
        if width is None:
            width = self._usual_columns(columns)
        if not data or (self._matrix and len(data[0]) != width):
            raise _Unusual
        return self._matrix_rows(data) if self._matrix else self._columns(tuple(zip(*data, strict=True)))

    def _usual_columns(self, columns: bytes) -> int:
        """How many columns there are, where they come in the model's order. From now on known as they are."""
        names = [str(name) for name in _decode_columns(columns)]
        if not self._matrix:
            usual = names == self._names
        else:
            numbers = bool(names) and names[0].isdecimal()
            usual = len(self._spec.shape) == 2 and len(set(names)) == len(names)
            usual = usual and names != self._names and (not numbers or names == self._numbers)
        if not usual:
            raise _Unusual
        if len(self._widths) < COLUMNS_KNOWN_MAX and len(columns) < COLUMNS_BYTES_MAX:
            self._widths[bytes(columns)] = len(names)
        return len(names)

    def _columns(self, columns: Sequence[Sequence[Any]]) -> Tensors:
        dtype = self._shared_dtype
        if dtype is not None and len(columns) > 1:
            return dict(zip(self._names, np.array(columns, dtype=dtype), strict=True))
        return {spec.name: _array(column, spec) for spec, column in zip(self._specs, columns, strict=True)}


class _Unusual(Exception):
    """For the lenient decoder."""


def _array(column: Sequence[Any], spec: TensorSpec) -> Array:
    if spec.dtype.kind == "O":
        if len(spec.shape) > 1:
            raise _Unusual
        return objects_array(column, spec.datatype)
    array = np.array(column, dtype=spec.dtype)
    row_shape = spec.row_shape
    if array.shape[1:] != row_shape and (row_shape is not None or array.ndim != len(spec.shape)):
        raise _Unusual
    return array
