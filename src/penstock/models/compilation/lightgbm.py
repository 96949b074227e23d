"""Conversion of LightGBM boosters."""

from typing import Any

from penstock.core.signature import Signature
from penstock.models.compilation.precision import Precision

__all__ = ["convert_lightgbm_booster"]


def convert_lightgbm_booster(booster: Any, signature: Signature, precision: Precision) -> Any:
    """An ONNX model proto. Raises whatever the converter raises."""
    from onnxmltools.convert.common.data_types import DoubleTensorType, FloatTensorType
    from onnxmltools.convert.lightgbm.convert import convert

    number = FloatTensorType if precision is Precision.FLOAT32 else DoubleTensorType
    spec = signature.inputs[0]
    return convert(booster, initial_types=[(spec.name, number([None, booster.num_feature()]))], zipmap=False)
