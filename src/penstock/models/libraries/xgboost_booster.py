"""XGBoost boosters, from their own files."""

import json
from typing import Any

import numpy as np

from penstock.core.errors import InvalidInput
from penstock.core.tensors import Array, DataType
from penstock.models.libraries.predictor import LABEL, PREDICTION, PROBABILITIES, Rows, as_matrix

__all__ = ["XgboostPredictor"]

CLASS_OBJECTIVES = frozenset({"binary:logistic", "multi:softprob"})
# What these give is neither a probability of each class nor a quantity, so it fits none of the outputs.
OTHER_OBJECTIVES = ("binary:", "multi:", "survival:aft")


class XgboostPredictor:
    """A booster; binary:logistic and multi:softprob are classifiers with classes 0, 1, …; others regress.

    Raises `InvalidInput` for the objectives `binary:hinge`, `binary:logitraw` and `multi:softmax`.
    """

    library = "xgboost"
    number_datatype = DataType.FP32  # XGBoost keeps features and thresholds in float32.

    def __init__(self, model: Any, *, where: str) -> None:
        learner = json.loads(model.save_config())["learner"]
        objective = str(learner["objective"]["name"])
        if objective not in CLASS_OBJECTIVES and objective.startswith(OTHER_OBJECTIVES):
            raise InvalidInput(
                f"{where}: the objective {objective} gives no probabilities",
                where=where,
                hint="train it with binary:logistic or multi:softprob",
            )
        self.model = model
        self.features: int | None = int(model.num_features())
        names = model.feature_names
        self.feature_names: tuple[str, ...] | None = tuple(names) if names else None
        self.column_names = self.feature_names
        class_count = max(2, int(learner["learner_model_param"]["num_class"]))
        self.classes: Array | None = (
            np.arange(class_count, dtype=np.int64) if objective in CLASS_OBJECTIVES else None
        )

    def predict(self, rows: Rows) -> dict[str, Array]:
        import xgboost

        types = self.model.feature_types
        matrix = xgboost.DMatrix(
            as_matrix(rows),
            feature_names=self.model.feature_names,
            feature_types=types,
            enable_categorical="c" in (types or ()),
            nthread=1,
        )
        answer = np.asarray(self.model.predict(matrix, iteration_range=self._iterations()))
        if self.classes is None:
            return {PREDICTION: answer}
        probabilities = np.column_stack([1 - answer, answer]) if answer.ndim == 1 else answer
        return {LABEL: self.classes[probabilities.argmax(axis=1)], PROBABILITIES: probabilities}

    def _iterations(self) -> tuple[int, int]:
        # After early stopping the booster keeps the rounds past the best one; its wrappers leave them out.
        best = self.model.attr("best_iteration")
        return (0, 0) if best is None else (0, int(best) + 1)
