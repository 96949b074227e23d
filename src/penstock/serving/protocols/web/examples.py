"""Requests that a model answers: from its real rows, else from values that fit its signature."""

from typing import Any

import numpy as np

from penstock.core.signature import ANY, Signature, TensorSpec
from penstock.core.tensors import Array, DataType, Tensors, row_count, slice_rows
from penstock.serving.protocols.rows.typed import is_matrix

__all__ = ["example_inputs", "invocation_examples", "v2_example"]

ROWS_SHOWN = 2
OPEN_AXIS = 3
"""The length of an axis of any length."""


def example_inputs(signature: Signature, example: Tensors | None) -> Tensors:
    """A row or two of inputs. Real ones may have missing values, where they have a place."""
    rows = signature.rows_fixed or ROWS_SHOWN
    if example is not None and row_count(example) >= (signature.rows_fixed or 1):
        return slice_rows(example, 0, rows)
    return {spec.name: _made(spec, rows) for spec in signature.inputs}


def v2_example(signature: Signature, inputs: Tensors) -> dict[str, Any]:
    return {
        "inputs": [
            {
                "name": spec.name,
                "shape": list(inputs[spec.name].shape),
                "datatype": spec.datatype.wire,
                "data": _values(inputs[spec.name].ravel(), spec),
            }
            for spec in signature.inputs
        ]
    }


def invocation_examples(signature: Signature, inputs: Tensors) -> dict[str, Any]:
    """A body for each of the four forms."""
    columns = {spec.name: _values(inputs[spec.name], spec) for spec in signature.inputs}
    names = list(columns)
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    records = [dict(zip(names, row, strict=True)) for row in rows]
    instances: list[Any] = rows
    split_names, split_rows = names, rows
    if is_matrix(signature):
        instances = columns[names[0]]
        if len(signature.inputs[0].shape) == 2:
            split_rows = instances
            split_names = [f"f{index}" for index in range(len(instances[0]))]
            records = [dict(zip(split_names, row, strict=True)) for row in instances]
    return {
        "dataframe_split": {"dataframe_split": {"columns": split_names, "data": split_rows}},
        "dataframe_records": {"dataframe_records": records},
        "instances": {"instances": instances},
        "inputs": {"inputs": columns},
    }


def _made(spec: TensorSpec, rows: int) -> Array:
    shape = (rows, *(OPEN_AXIS if axis == ANY else axis for axis in spec.shape[1:]))
    count = int(np.prod(shape))
    values: list[Any]
    if spec.categories is not None:
        values = [spec.categories[index % len(spec.categories)] for index in range(count)]
    elif spec.datatype.is_object:
        values = ["text"] * count
    elif spec.dtype.kind == "b":
        values = [index % 2 == 0 for index in range(count)]
    else:
        values = [1] * count
    if spec.datatype is DataType.BYTES:
        values = [value.encode() if isinstance(value, str) else value for value in values]
    array = np.empty(count, dtype=spec.dtype)
    array[:] = values
    return array.reshape(shape)


def _values(array: Array, spec: TensorSpec) -> list[Any]:
    """Nested lists as JSON has them: floats as short as they are exact in their type, null for NaN."""
    if spec.datatype.is_float:
        return _shortened(array)
    values: list[Any] = array.tolist()
    if spec.datatype is DataType.BYTES:
        flat = [value.decode("utf-8", "backslashreplace") for value in array.ravel().tolist()]
        texts = np.empty(len(flat), dtype=object)
        texts[:] = flat
        values = texts.reshape(array.shape).tolist()
    return values


def _shortened(array: Array) -> list[Any]:
    flat = [float(str(value)) if np.isfinite(value) else None for value in array.ravel()]
    cells = np.empty(len(flat), dtype=object)
    cells[:] = flat
    nested: list[Any] = cells.reshape(array.shape).tolist()
    return nested
