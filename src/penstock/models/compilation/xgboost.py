"""Conversion of XGBoost boosters."""

from typing import Any

from penstock.core.signature import Signature
from penstock.models.compilation.precision import Precision
from penstock.models.compilation.scikit_learn import convert_scikit_learn

__all__ = ["convert_xgboost_booster", "wrapped_booster"]


def convert_xgboost_booster(booster: Any, signature: Signature, precision: Precision) -> Any:
    """An ONNX model proto. Raises whatever the converter raises."""
    return convert_scikit_learn(wrapped_booster(booster, signature), signature, precision)


def wrapped_booster(booster: Any, signature: Signature) -> Any:
    """The booster in XGBoost's own wrapper, which is what the converter knows best."""
    from xgboost import XGBClassifier, XGBRegressor

    classifies = any(spec.name == "label" for spec in signature.outputs)
    wrapper = XGBClassifier() if classifies else XGBRegressor()
    wrapper.load_model(bytearray(booster.save_raw("ubj")))
    return wrapper
