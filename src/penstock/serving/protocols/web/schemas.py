"""JSON Schemas (2020-12, as OpenAPI 3.1 has them) of a model's tensors and rows, made from its signature."""

from typing import Any

from penstock.core.signature import ANY, Signature, TensorSpec
from penstock.core.tensors import DataType
from penstock.serving.protocols.rows.typed import is_matrix

__all__ = ["Schema", "invocation_answer", "invocation_request", "v2_answer", "v2_request"]

Schema = dict[str, Any]

_TEXT = (DataType.STRING, DataType.BYTES)


def v2_request(signature: Signature) -> Schema:
    """What `/v2/models/NAME/infer` takes as JSON."""
    inputs = [_v2_tensor(spec) for spec in signature.inputs]
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "inputs": _tensors(inputs),
            "parameters": {"$ref": "#/components/schemas/V2Parameters"},
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": {"enum": [spec.name for spec in signature.outputs]}},
                },
            },
        },
    }


def v2_answer(signature: Signature) -> Schema:
    """What `/v2/models/NAME/infer` answers as JSON."""
    return {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string", "description": "Empty where no version computed the answer."},
            "id": {"type": "string"},
            "parameters": {
                "type": "object",
                "properties": {
                    "rung": {"type": "string", "description": "What answered in the model's place."}
                },
            },
            "outputs": {
                "type": "array",
                "minItems": 1,
                "items": _one_of([_v2_tensor(spec, answered=True) for spec in signature.outputs]),
            },
        },
    }


def invocation_request(signature: Signature) -> Schema:
    """What `/models/NAME/invocations` takes: exactly one of four forms."""
    params = {"type": ["object", "null"], "description": "Not looked at: no model takes any."}
    forms = {
        "dataframe_split": _split(signature),
        "dataframe_records": _some(_record(signature)),
        "instances": _some(_instance(signature)),
        "inputs": _columns(signature),
    }
    return {
        "oneOf": [
            {
                "type": "object",
                "title": name,
                "required": [name],
                "properties": {name: schema, "params": params},
                "additionalProperties": False,
            }
            for name, schema in forms.items()
        ]
    }


def invocation_answer(signature: Signature) -> Schema:
    """Predictions: of one output its values; of several a record a row or, for `inputs`, a list a name."""
    cells = {spec.name: _cell(spec, answered=True) for spec in signature.outputs}
    if len(cells) == 1:
        (cell,) = cells.values()
        predictions: Schema = {"type": "array", "items": cell}
    else:
        names = list(cells)
        record = {"type": "object", "required": names, "properties": cells}
        columns = {name: {"type": "array", "items": cell} for name, cell in cells.items()}
        by_column = {"type": "object", "required": names, "properties": columns}
        predictions = {"oneOf": [{"type": "array", "items": record}, by_column]}
    return {"type": "object", "required": ["predictions"], "properties": {"predictions": predictions}}


def _v2_tensor(spec: TensorSpec, *, answered: bool = False) -> Schema:
    axes: list[Schema] = [
        {"type": "integer", "minimum": 0 if answered else 1} if axis == ANY else {"const": axis}
        for axis in spec.shape
    ]
    return {
        "type": "object",
        "required": ["name", "datatype", "shape", *(["data"] if answered else [])],
        "properties": {
            "name": {"const": spec.name},
            "datatype": {"const": spec.datatype.wire},
            "shape": {
                "type": "array",
                **(
                    {"items": {"type": "integer", "minimum": 0}}
                    if answered
                    else {"prefixItems": axes, "items": False}
                ),
                "minItems": len(axes),
                "maxItems": len(axes),
            },
            "data": {
                "type": "array",
                "description": "The elements, row after row; flat, or nested as the shape says.",
                "items": _element(spec, answered=True)
                if answered
                else {"anyOf": [_element(spec), {"type": "array"}]},
            },
            "parameters": {"type": "object"},
        },
    }


def _tensors(tensors: list[Schema]) -> Schema:
    return {
        "type": "array",
        "items": _one_of(tensors),
        "minItems": len(tensors),
        "maxItems": len(tensors),
        "description": "Every input once, in any order.",
    }


def _one_of(schemas: list[Schema]) -> Schema:
    return schemas[0] if len(schemas) == 1 else {"oneOf": schemas}


def _split(signature: Signature) -> Schema:
    width = _matrix_width(signature)
    count: Schema = {}
    if is_matrix(signature):
        row = _one_row_of_matrix(signature.inputs[0])
        columns: Schema = {"type": "array", "items": {"type": ["string", "integer"]}, "uniqueItems": True}
        if width is not None:
            count = {"minItems": width, "maxItems": width}
    else:
        names = [spec.name for spec in signature.inputs]
        count = {"minItems": len(names), "maxItems": len(names)}
        cells = _one_of_different([_cell(spec) for spec in signature.inputs])
        row = {"type": "array", "items": cells, **count}
        columns = {"type": "array", "items": {"enum": names}, "uniqueItems": True}
    return {
        "type": "object",
        "required": ["columns", "data"],
        "properties": {
            "columns": {**columns, **count},
            "data": _some(row),
            "index": {"type": "array", "description": "Not looked at."},
        },
        "additionalProperties": False,
    }


def _record(signature: Signature) -> Schema:
    if is_matrix(signature):
        (spec,) = signature.inputs
        by_name = {
            "type": "object",
            "title": f"{spec.name} as one cell",
            "required": [spec.name],
            "properties": {spec.name: _cell(spec)},
            "additionalProperties": False,
        }
        if len(spec.shape) != 2:
            return by_name
        width = _matrix_width(signature)
        count = {} if width is None else {"minProperties": width, "maxProperties": width}
        columns = {
            "type": "object",
            "title": "a cell for each column",
            "additionalProperties": _element(spec),
            **count,
        }
        return {"anyOf": [columns, by_name]}
    return {
        "type": "object",
        "required": [spec.name for spec in signature.inputs],
        "properties": {spec.name: _cell(spec) for spec in signature.inputs},
        "additionalProperties": False,
    }


def _instance(signature: Signature) -> Schema:
    """A row as a list, or as a record; of a model of one column as the bare value."""
    if is_matrix(signature):
        return {"anyOf": [_cell(signature.inputs[0]), _record(signature)]}
    cells = [_cell(spec) for spec in signature.inputs]
    row = {
        "type": "array",
        "prefixItems": cells,
        "items": False,
        "minItems": len(cells),
        "maxItems": len(cells),
    }
    return {"anyOf": [*(cells if len(cells) == 1 else []), row, _record(signature)]}


def _columns(signature: Signature) -> Schema:
    columns = {spec.name: _some(_cell(spec)) for spec in signature.inputs}
    by_name = {
        "type": "object",
        "required": list(columns),
        "properties": columns,
        "additionalProperties": False,
        "description": "Every list has the same length: the number of rows.",
    }
    if len(columns) > 1:
        return by_name
    return {"anyOf": [*columns.values(), by_name]}


def _one_row_of_matrix(spec: TensorSpec) -> Schema:
    return (
        _cell(spec)
        if len(spec.shape) == 2
        else {"type": "array", "items": _cell(spec), "minItems": 1, "maxItems": 1}
    )


def _one_of_different(schemas: list[Schema]) -> Schema:
    different = [schema for index, schema in enumerate(schemas) if schema not in schemas[:index]]
    return different[0] if len(different) == 1 else {"anyOf": different}


def _matrix_width(signature: Signature) -> int | None:
    shape = signature.inputs[0].shape
    return shape[1] if len(shape) == 2 and shape[1] != ANY else None


def _cell(spec: TensorSpec, *, answered: bool = False) -> Schema:
    """What one row has for a tensor: an element, or nested lists."""
    schema = _element(spec, answered=answered)
    for axis in reversed(spec.shape[1:]):
        count = {} if axis == ANY else {"minItems": axis, "maxItems": axis}
        schema = {"type": "array", "items": schema, **count}
    return schema


def _some(row: Schema) -> Schema:
    return {"type": "array", "items": row, "minItems": 1}


def _element(spec: TensorSpec, *, answered: bool = False) -> Schema:
    """One element. Where NaN has a place null stands for it; an answer may have it anywhere."""
    if spec.categories is not None and not answered:
        return {"enum": [*spec.categories, *([None] if spec.nan else [])]}
    kind = spec.dtype.kind
    if spec.datatype in _TEXT:
        return {"type": "string"}
    if kind == "b":
        return {"type": "boolean"}
    if kind == "f":
        missing = spec.nan or answered
        schema: Schema = {"type": ["number", "null"] if missing else "number"}
        if not answered:
            schema |= _float_range(spec)
        return schema
    bits = 8 * spec.dtype.itemsize
    low, high = (0, 2**bits - 1) if kind == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return {"type": "integer", "minimum": low, "maximum": high}


def _float_range(spec: TensorSpec) -> Schema:
    largest = {2: 65504.0, 4: 3.4028234e38, 8: 1.7976931348623157e308}[spec.dtype.itemsize]
    return {"minimum": -largest, "maximum": largest}
