"""Conversion of LightGBM boosters."""

from typing import Any

from penstock.core.signature import Signature
from penstock.models.compilation.precision import Precision

__all__ = ["convert_lightgbm_booster"]


def convert_lightgbm_booster(booster: Any, signature: Signature, precision: Precision) -> Any:
    """An ONNX model proto. Raises whatever the converter raises."""
    from onnx import TensorProto
    from onnxmltools.convert.common.data_types import FloatTensorType
    from onnxmltools.convert.lightgbm.convert import convert

    name = signature.inputs[0].name
    model = convert(
        booster, initial_types=[(name, FloatTensorType([None, booster.num_feature()]))], zipmap=False
    )
    if precision is Precision.FLOAT64:
        # The converter refuses double inputs; the node itself takes them.
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    return model
