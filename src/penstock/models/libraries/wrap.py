"""Which library an opened object belongs to."""

from typing import Any

from penstock.core.errors import InvalidInput
from penstock.models.libraries.lightgbm_booster import LightgbmPredictor
from penstock.models.libraries.predictor import Predictor
from penstock.models.libraries.scikit_learn import SklearnPredictor
from penstock.models.libraries.xgboost_booster import XgboostPredictor

__all__ = ["wrap_model"]


def wrap_model(model: Any, *, where: str) -> Predictor:
    """The predictor over an opened object; `where` names its file in messages.

    Raises `InvalidInput` for an object that is not a fitted model of a known library.
    """
    library = type(model).__module__.partition(".")[0]
    if type(model).__name__ == "Booster" and library == "xgboost":
        return XgboostPredictor(model, where=where)
    if type(model).__name__ == "Booster" and library == "lightgbm":
        return LightgbmPredictor(model, where=where)
    if isinstance(model, type) or not hasattr(model, "get_params"):
        raise InvalidInput(
            f"{where} holds a {type(model).__name__}, not a model",
            where=where,
            hint="push a fitted scikit-learn estimator or pipeline, an XGBoost or LightGBM model, or ONNX",
        )
    return SklearnPredictor(model, where=where)
