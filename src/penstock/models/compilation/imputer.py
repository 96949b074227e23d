"""SimpleImputer where skl2onnx has no way: float64, which ONNX Runtime's Imputer lacks, and missing text.

A tensor of text has no missing elements, so an imputer of missing text (NaN or None) changes nothing in it.
"""

from typing import Any

import numpy as np

__all__ = ["convert_simple_imputer"]


def convert_simple_imputer(scope: Any, operator: Any, container: Any) -> None:
    """A conversion function for skl2onnx; hands on to skl2onnx's own one what that can do."""
    from skl2onnx.common.data_types import DoubleTensorType, StringTensorType
    from skl2onnx.operator_converters.imputer_op import convert_sklearn_imputer

    imputer, kind = operator.raw_operator, operator.inputs[0].type
    if imputer.add_indicator:
        raise NotImplementedError("SimpleImputer(add_indicator=True) has no converter")
    if isinstance(kind, StringTensorType) and not isinstance(imputer.missing_values, str):
        _convert_text(scope, operator, container)
    elif isinstance(kind, DoubleTensorType):
        _convert_float64(scope, operator, container)
    else:
        convert_sklearn_imputer(scope, operator, container)


def _convert_text(scope: Any, operator: Any, container: Any) -> None:
    from skl2onnx.operator_converters.common import concatenate_variables

    source = concatenate_variables(scope, operator.inputs, container)
    container.add_node("Identity", [source], [operator.outputs[0].full_name])


def _convert_float64(scope: Any, operator: Any, container: Any) -> None:
    from onnx import TensorProto
    from skl2onnx.operator_converters.common import concatenate_variables

    imputer = operator.raw_operator
    statistics = np.asarray(imputer.statistics_, dtype=np.float64)
    missing = imputer.missing_values
    if not (isinstance(missing, float) and np.isnan(missing)):
        raise NotImplementedError(f"SimpleImputer(missing_values={missing!r}) has no converter in float64")
    if np.isnan(statistics).any():
        raise NotImplementedError("SimpleImputer that drops empty columns has no converter in float64")
    source = concatenate_variables(scope, operator.inputs, container)
    filling = scope.get_unique_variable_name("statistics")
    is_missing = scope.get_unique_variable_name("is_missing")
    container.add_initializer(filling, TensorProto.DOUBLE, [1, len(statistics)], statistics.tolist())
    container.add_node("IsNaN", [source], [is_missing], op_version=13)
    container.add_node("Where", [is_missing, filling, source], [operator.outputs[0].full_name], op_version=16)
