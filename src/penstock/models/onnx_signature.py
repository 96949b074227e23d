"""The signature of an ONNX graph, read from the graph itself."""

import math

import numpy as np

from penstock.core.errors import InvalidInput
from penstock.core.signature import ANY, Signature, TensorSpec
from penstock.core.tensors import Tensors
from penstock.models.onnx_io import DATATYPES, OnnxBinding, Session, SessionArgument
from penstock.models.signature_inference import with_nan_places

__all__ = ["onnx_signature"]

PROBE_ELEMENTS_MAX = 1 << 20
"""Graphs whose single row is larger than this are not probed with NaN."""


def onnx_signature(session: Session, *, where: str) -> Signature:
    """The signature of the graph in an open session, which has to run; `where` names it in messages.

    A fixed number of rows is kept, axes with names are of any length, and a column [n, 1] stays one. Whether
    NaN has a place is tried out on the graph with a row of ones.

    Raises `InvalidInput` for inputs or outputs that are not tensors.
    """
    signature = Signature(
        inputs=tuple(_spec(argument, "input", where) for argument in session.get_inputs()),
        outputs=tuple(_spec(argument, "output", where) for argument in session.get_outputs()),
    )
    row = _row_of_ones(signature)
    if row is None:
        return signature
    return with_nan_places(signature, OnnxBinding(session, signature), row)


def _spec(argument: SessionArgument, side: str, where: str) -> TensorSpec:
    datatype = DATATYPES.get(argument.type)
    if datatype is None:
        raise InvalidInput(
            f"{where}: {side} {argument.name!r} is a {argument.type}, not a tensor of a known type",
            where=argument.name,
            hint="export it without ZipMap: convert_sklearn(..., options={'zipmap': False})",
        )
    shape = tuple(axis if isinstance(axis, int) and axis >= 0 else ANY for axis in argument.shape or ())
    if shape and shape[0] == 0:
        raise InvalidInput(f"{where}: {side} {argument.name!r} takes no rows", where=argument.name)
    return TensorSpec(name=argument.name, datatype=datatype, shape=shape or (ANY,))


def _row_of_ones(signature: Signature) -> Tensors | None:
    """The least rows that the graph takes; None where they would be large."""
    rows = signature.rows_fixed or 1
    row: Tensors = {}
    for spec in signature.inputs:
        shape = (rows, *(1 if axis == ANY else axis for axis in spec.shape[1:]))
        if math.prod(shape) > PROBE_ELEMENTS_MAX:
            return None
        row[spec.name] = np.full(shape, "" if spec.datatype.is_object else 1, dtype=spec.datatype.numpy)
    return row
