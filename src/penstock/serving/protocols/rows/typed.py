"""Decoders made for one signature: they check types while they parse, which is much faster than after."""

import re
from typing import Any

import msgspec

from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import DataType

__all__ = ["body_decoder", "element_type", "is_matrix", "line_decoder"]

_NAMEABLE = re.compile(r'[^\\"\x00-\x1f]*')
_ELEMENTS: dict[DataType, Any] = {
    DataType.BOOL: bool,
    DataType.FP16: float,
    DataType.FP32: float,
    DataType.FP64: float,
    DataType.BYTES: str,
    DataType.STRING: str,
}


def is_matrix(signature: Signature) -> bool:
    """Whether the model takes one input whose rows have axes: a frame's columns are its elements then."""
    return len(signature.inputs) == 1 and len(signature.inputs[0].shape) > 1


def element_type(spec: TensorSpec) -> Any:
    """The type of a JSON element, with None where null stands for NaN."""
    element = _ELEMENTS.get(spec.datatype, int)
    return element | None if spec.nan else element


def body_decoder(signature: Signature) -> msgspec.json.Decoder[Any]:
    """Decodes a whole request in one of the four forms, all of which are optional to it."""
    row = _row_type(signature)
    records = _record_type(signature)
    spec = signature.inputs[0]
    columns: Any = _record("Columns", [(each.name, _list(_cell(each))) for each in signature.inputs])
    inputs = columns
    if len(signature.inputs) == 1:
        inputs = columns | _list(_cell(spec))
    split = msgspec.defstruct(
        "Split",
        # Raw: columns are the same in one request after the other, and are looked at when they are not.
        [("columns", msgspec.Raw), ("data", _list(row)), ("index", msgspec.Raw, msgspec.Raw())],
        gc=False,
    )
    unset = msgspec.UnsetType
    instances: Any = row | records
    if len(signature.inputs) == 1 and len(spec.shape) == 1:
        instances |= element_type(spec)
    return msgspec.json.Decoder(
        msgspec.defstruct(
            "Invocation",
            [
                ("instances", _list(instances) | unset, msgspec.UNSET),
                ("inputs", inputs | unset, msgspec.UNSET),
                ("dataframe_split", split | unset, msgspec.UNSET),
                ("dataframe_records", _list(records) | unset, msgspec.UNSET),
                ("params", dict[str, Any] | None, None),
            ],
            forbid_unknown_fields=True,
            gc=False,
        )
    )


def line_decoder(signature: Signature) -> msgspec.json.Decoder[Any]:
    """Decodes one row: a list, or a record by column."""
    return msgspec.json.Decoder(_row_type(signature) | _record_type(signature))


def _row_type(signature: Signature) -> Any:
    """A row as a list: of a matrix its elements, else a cell for each input in the signature's order."""
    if is_matrix(signature):
        return _cell(signature.inputs[0])
    cells = tuple(_cell(spec) for spec in signature.inputs)
    return tuple.__class_getitem__(cells)


def _record_type(signature: Signature) -> Any:
    """A row as an object: a cell for each input by name, or the elements of a matrix by any names."""
    if not is_matrix(signature):
        return _record("Record", [(spec.name, _cell(spec)) for spec in signature.inputs])
    spec = signature.inputs[0]
    values = _cell(spec)
    if len(spec.shape) == 2:
        values |= element_type(spec)
    return dict.__class_getitem__((str, values))


def _cell(spec: TensorSpec) -> Any:
    cell = element_type(spec)
    for _ in spec.shape[1:]:
        cell = _list(cell)
    return cell


def _list(element: Any) -> Any:
    return list.__class_getitem__(element)


def _record(name: str, fields: list[tuple[str, Any]]) -> Any:
    # Attributes of their own, for an input may have any name, also one that Python does not take.
    # msgspec takes no quotes, backslashes or control characters: such a record is left to the lenient decoder,
    # as the name here, longer than any in the signature, never comes.
    longest = max(len(field) for field, _ in fields)
    names = {
        f"c{index}": field if _NAMEABLE.fullmatch(field) else "?" * (longest + 1 + index)
        for index, (field, _) in enumerate(fields)
    }
    return msgspec.defstruct(
        name,
        [(f"c{index}", kind) for index, (_, kind) in enumerate(fields)],
        rename=names,
        forbid_unknown_fields=True,
        gc=False,
    )
