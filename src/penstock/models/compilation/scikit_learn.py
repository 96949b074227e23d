"""Conversion of scikit-learn estimators and pipelines, with XGBoost's and LightGBM's wrappers in them."""

import copy
from typing import Any

from penstock.core.signature import ANY, Signature
from penstock.core.tensors import DataType
from penstock.models.compilation.imputer import convert_simple_imputer
from penstock.models.compilation.precision import Precision

__all__ = ["TARGET_OPSET", "convert_scikit_learn", "final_estimator", "takes_columns"]

TARGET_OPSET = {"": 18, "ai.onnx.ml": 3}
"""The converters of trees write ai.onnx.ml 3; they refuse, or are not known to work, at later ones."""


def convert_scikit_learn(model: Any, signature: Signature, precision: Precision) -> Any:
    """An ONNX model proto whose inputs are, in order, the signature's: columns [-1, 1] or the matrix.

    Raises whatever skl2onnx raises, which says in its first line what it cannot do.
    """
    from skl2onnx import convert_sklearn
    from sklearn.impute import SimpleImputer

    _register_wrappers(model)
    options = {"zipmap": False} if hasattr(model, "predict_proba") else None
    return convert_sklearn(
        _without_feature_names_and_types(model),
        initial_types=_initial_types(signature, precision, split=takes_columns(model)),
        options=options,
        target_opset=TARGET_OPSET,
        custom_conversion_functions={SimpleImputer: convert_simple_imputer},
    )


def takes_columns(model: Any) -> bool:
    """Whether columns are picked out by name or number first; otherwise it takes all of them as one matrix."""
    while hasattr(model, "steps"):
        model = model.steps[0][1]
    return hasattr(model, "transformers_")


def final_estimator(model: Any) -> Any:
    """The estimator at the end of a pipeline, or the model itself."""
    while hasattr(model, "steps"):
        model = model.steps[-1][1]
    return model


def _initial_types(signature: Signature, precision: Precision, *, split: bool) -> list[tuple[str, Any]]:
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

    number = FloatTensorType if precision is Precision.FLOAT32 else DoubleTensorType

    def kind(datatype: DataType) -> Any:
        return StringTensorType if datatype.is_object else number

    first = signature.inputs[0]
    if len(first.shape) > 1:
        return [(first.name, kind(first.datatype)([None, None if first.shape[1] == ANY else first.shape[1]]))]
    if split:
        return [(spec.name, kind(spec.datatype)([None, 1])) for spec in signature.inputs]
    kinds = {spec.datatype.is_object for spec in signature.inputs}
    if len(kinds) > 1:
        raise ValueError("text and numbers in one matrix have no form in ONNX; use a ColumnTransformer")
    return [("columns", kind(first.datatype)([None, len(signature.inputs)]))]


def _without_feature_names_and_types(model: Any) -> Any:
    """A copy whose XGBoost booster has numbers f0, f1, … for features, which is all that the converter reads.

    Types of features change nothing but how trees are printed, unless they are categories.
    """
    estimator = final_estimator(model)
    if not type(estimator).__name__.startswith("XGB"):
        return model
    if "c" in (estimator.get_booster().feature_types or ()):
        raise NotImplementedError("XGBoost with categorical features has no form in ONNX")
    copied = copy.deepcopy(model)
    booster = final_estimator(copied).get_booster()
    booster.feature_names = None
    booster.feature_types = None
    return copied


def _register_wrappers(model: Any) -> None:
    """Tells skl2onnx of the converters that onnxmltools has for the wrapper that `model` ends in."""
    name = type(final_estimator(model)).__name__
    if name.startswith("XGB"):
        _register_xgboost()
    elif name.startswith("LGBM"):
        _register_lightgbm()


def _register_xgboost() -> None:
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
    from xgboost import XGBClassifier, XGBRegressor, XGBRFClassifier, XGBRFRegressor

    for wrapper in (XGBClassifier, XGBRFClassifier):
        _register(wrapper, convert_xgboost, classifies=True)
    for wrapper in (XGBRegressor, XGBRFRegressor):
        _register(wrapper, convert_xgboost, classifies=False)


def _register_lightgbm() -> None:
    from lightgbm import LGBMClassifier, LGBMRegressor
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

    _register(LGBMClassifier, convert_lightgbm, classifies=True)
    _register(LGBMRegressor, convert_lightgbm, classifies=False)


def _register(wrapper: Any, converter: Any, *, classifies: bool) -> None:
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    update_registered_converter(
        wrapper,
        f"Penstock{wrapper.__name__}",
        calculate_linear_classifier_output_shapes if classifies else calculate_linear_regressor_output_shapes,
        converter,
        options={"nocl": [True, False], "zipmap": [True, False, "columns"]} if classifies else None,
    )
