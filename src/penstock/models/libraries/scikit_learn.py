"""scikit-learn estimators and pipelines, and the wrappers of XGBoost and LightGBM in its style."""

from typing import Any

import numpy as np

from penstock.core.errors import InvalidInput
from penstock.core.tensors import Array, DataType
from penstock.models.libraries.predictor import LABEL, PREDICTION, PROBABILITIES, Rows

__all__ = ["SklearnPredictor"]


class SklearnPredictor:
    """A fitted estimator with `predict`.

    Raises `InvalidInput` for one that is not fitted, does not predict, or has several outputs of classes.
    """

    library = "scikit-learn"
    number_datatype = DataType.FP64  # scikit-learn computes in float64 unless it is handed something else.

    def __init__(self, model: Any, *, where: str) -> None:
        from sklearn.base import is_classifier, is_regressor

        if not hasattr(model, "predict"):
            raise InvalidInput(
                f"{where}: {type(model).__name__} has no predict()",
                where=where,
                hint="push an estimator or a pipeline that ends in one",
            )
        _check_fitted(model, where)
        self.model = model
        names = getattr(model, "feature_names_in_", None)
        self.column_names = None if names is None else tuple(str(name) for name in names)
        self.feature_names = self.column_names
        features = getattr(model, "n_features_in_", None)
        self.features = None if features is None else int(features)
        self.classes = _classes(model, where) if is_classifier(model) else None
        self._output = PREDICTION if is_regressor(model) else LABEL

    def predict(self, rows: Rows) -> dict[str, Array]:
        outputs: dict[str, Array] = {self._output: np.asarray(self.model.predict(rows))}
        if self.classes is not None and hasattr(self.model, "predict_proba"):
            outputs[PROBABILITIES] = np.asarray(self.model.predict_proba(rows))
        return outputs


def _check_fitted(model: Any, where: str) -> None:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(model)
    except (NotFittedError, TypeError) as error:
        raise InvalidInput(
            f"{where}: {type(model).__name__} is not a fitted estimator",
            where=where,
            hint="call fit() before saving it",
        ) from error


def _classes(model: Any, where: str) -> Array:
    classes = getattr(model, "classes_", None)
    if classes is None or isinstance(classes, list):
        raise InvalidInput(
            f"{where}: {type(model).__name__} predicts several labels at once, which is not supported",
            where=where,
            hint="push one model for each label",
        )
    return np.asarray(classes)
