"""Columns of a stream as a model's inputs, and its outputs as columns."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from penstock.core.errors import InvalidInput, shown
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import Array, DataType, Tensors
from penstock.streams.scoring import Inputs

__all__ = ["columns_of_input", "fits", "series_of", "tensors_of"]

_POLARS: dict[DataType, pl.DataType] = {
    DataType.BOOL: pl.Boolean(),
    DataType.UINT8: pl.UInt8(),
    DataType.UINT16: pl.UInt16(),
    DataType.UINT32: pl.UInt32(),
    DataType.UINT64: pl.UInt64(),
    DataType.INT8: pl.Int8(),
    DataType.INT16: pl.Int16(),
    DataType.INT32: pl.Int32(),
    DataType.INT64: pl.Int64(),
    DataType.FP16: pl.Float32(),
    DataType.FP32: pl.Float32(),
    DataType.FP64: pl.Float64(),
    DataType.BF16: pl.Float32(),
    DataType.STRING: pl.String(),
    DataType.BYTES: pl.Binary(),
}


def columns_of_input(name: str, named: Inputs) -> Sequence[str]:
    """The columns of a model's input: one, or those of a matrix."""
    columns = named.get(name, name)
    return (columns,) if isinstance(columns, str) else columns


def fits(dtype: pl.DataType, spec: TensorSpec) -> bool:
    """Whether values of such a column can be the input's at all."""
    if spec.datatype is DataType.STRING:
        return isinstance(dtype, pl.String | pl.Categorical | pl.Enum)
    if spec.datatype is DataType.BYTES:
        return isinstance(dtype, pl.Binary)
    return dtype.is_numeric() or isinstance(dtype, pl.Boolean)


def tensors_of(
    frame: pl.DataFrame, signature: Signature, named: Inputs, filled: Tensors | None = None
) -> Tensors:
    """The frame's rows as the signature's inputs, not yet conformed; `filled` are those that are there already.

    Raises `InvalidInput`, naming the column and its row, for nulls where the model has no place for them, and
    for values that the input's type cannot hold.
    """
    tensors: Tensors = {}
    for spec in signature.inputs:
        if filled is not None and spec.name in filled:
            tensors[spec.name] = filled[spec.name]
            continue
        parts = [_tensor(frame.get_column(name), spec) for name in columns_of_input(spec.name, named)]
        matrix = not isinstance(named.get(spec.name, ""), str)
        tensors[spec.name] = np.column_stack(parts) if matrix else parts[0]
    return tensors


def series_of(name: str, output: Array) -> pl.Series:
    """An output, a row a value; of a matrix an array."""
    values: Any = output
    if output.ndim == 2 and output.shape[1] == 1:
        values = values[:, 0]
    return pl.Series(name, values.tolist() if output.dtype == object else values)


def _tensor(column: pl.Series, spec: TensorSpec) -> Array:
    wanted = _POLARS[spec.datatype]
    if column.dtype != wanted:
        column = _cast(column, spec, wanted)
    nulls = column.null_count()
    if nulls and not (spec.datatype.is_float and spec.nan):
        row = column.is_null().arg_max()
        raise InvalidInput(
            f"column {column.name!r}, row {row}: null, where input {shown(spec.name)} takes {spec.describe()}",
            where=column.name,
            hint="fill it before: stream.with_columns(pl.col(...).fill_null(...))",
        )
    if spec.datatype.is_object:
        return np.array(column.to_list(), dtype=object)
    values: Array = column.to_numpy()
    return values if values.dtype == spec.dtype else values.astype(spec.dtype)


def _cast(column: pl.Series, spec: TensorSpec, wanted: pl.DataType) -> pl.Series:
    try:
        return column.cast(wanted)
    except pl.exceptions.PolarsError as error:
        raise InvalidInput(
            f"column {column.name!r} of {column.dtype} does not fit input {shown(spec.name)}, which is"
            f" {spec.describe()}: {str(error).partition(chr(10))[0]}",
            where=column.name,
            hint="cast or clip it before: stream.with_columns(...)",
        ) from error
