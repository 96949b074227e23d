"""Giving a converter's graph the names and types of the signature."""

from typing import Any

import numpy as np

from penstock.core.errors import InvalidInput
from penstock.core.signature import ANY, Signature
from penstock.core.tensors import DataType

__all__ = ["bind_to_signature", "gather_columns"]

MATRIX_OF_COLUMNS = "columns::matrix"


def bind_to_signature(model: Any, signature: Signature) -> None:
    """Renames the inputs of an ONNX model, and casts and renames its outputs, to the signature's. In place.

    Inputs and outputs are taken in their order; outputs that the signature does not have are dropped.
    Declared output types are replaced by what the Cast gives: converters declare double where ONNX
    Runtime's tree ensembles give float, and [1] where they give a row for each row.

    Raises `InvalidInput` where a name stands on both sides, which a graph cannot have.
    """
    graph = model.graph
    inputs = [spec.name for spec in signature.inputs]
    outputs = [spec.name for spec in signature.outputs]
    both = set(inputs) & set(outputs)
    if both:
        raise InvalidInput(f"{sorted(both)} name inputs and outputs, which ONNX cannot", where=min(both))
    _free_names(graph, {*inputs, *outputs})
    _rename(graph, {argument.name: name for argument, name in zip(graph.input, inputs, strict=True)})
    _bind_outputs(graph, signature)


def gather_columns(model: Any, signature: Signature) -> None:
    """Gives a graph that takes one matrix an input [-1, 1] for each column of the signature instead. In place.

    A graph that has as many inputs as the signature is left alone.
    """
    from onnx import helper

    graph = model.graph
    if len(graph.input) == len(signature.inputs):
        return
    (matrix,) = graph.input
    element, source = matrix.type.tensor_type.elem_type, matrix.name
    names = [f"column::{place}" for place in range(len(signature.inputs))]
    del graph.input[:]
    graph.input.extend(helper.make_tensor_value_info(name, element, [None, 1]) for name in names)
    _rename(graph, {source: MATRIX_OF_COLUMNS})
    graph.node.insert(0, helper.make_node("Concat", names, [MATRIX_OF_COLUMNS], axis=1))


def _free_names(graph: Any, wanted: set[str]) -> None:
    """Moves everything that bears a wanted name out of the way."""
    names = {name for node in graph.node for name in (*node.input, *node.output)}
    names |= {argument.name for argument in (*graph.input, *graph.output)}
    _rename(graph, {name: f"{name}::inner" for name in names & wanted})


def _rename(graph: Any, new_names: dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [new_names.get(name, name) for name in node.input]
        node.output[:] = [new_names.get(name, name) for name in node.output]
    for argument in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        argument.name = new_names.get(argument.name, argument.name)


def _bind_outputs(graph: Any, signature: Signature) -> None:
    from onnx import TensorProto, helper

    elements = {
        DataType.BOOL: TensorProto.BOOL,
        DataType.INT64: TensorProto.INT64,
        DataType.FP32: TensorProto.FLOAT,
        DataType.FP64: TensorProto.DOUBLE,
    }
    given = [output.name for output in graph.output]
    del graph.output[:]
    del graph.value_info[:]
    for name, spec in zip(given, signature.outputs, strict=False):
        element = elements.get(spec.datatype, TensorProto.STRING)
        source = name
        if len(spec.shape) == 1:
            source = f"{spec.name}::flat"
            _flatten(graph, name, source)
        if element == TensorProto.STRING:
            graph.node.append(helper.make_node("Identity", [source], [spec.name]))
        else:
            graph.node.append(helper.make_node("Cast", [source], [spec.name], to=element))
        shape = [None if axis == ANY else axis for axis in spec.shape]
        graph.output.append(helper.make_tensor_value_info(spec.name, element, shape))


def _flatten(graph: Any, name: str, flat: str) -> None:
    """[n, 1], as some operators give it and others do not, to [n]."""
    from onnx import helper, numpy_helper

    shape = f"{flat}::shape"
    graph.initializer.append(numpy_helper.from_array(np.array([ANY], dtype=np.int64), shape))
    graph.node.append(helper.make_node("Reshape", [name, shape], [flat]))
