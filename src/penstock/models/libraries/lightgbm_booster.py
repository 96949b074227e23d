"""LightGBM boosters, from their own files."""

from typing import Any

import numpy as np

from penstock.core.errors import InvalidInput
from penstock.core.tensors import Array, DataType
from penstock.models.libraries.predictor import LABEL, PREDICTION, PROBABILITIES, Rows, as_matrix

__all__ = ["LightgbmPredictor"]


class LightgbmPredictor:
    """A booster; the objectives binary and multiclass are classifiers with classes 0, 1, …; others regress.

    Raises `InvalidInput` for the objectives `multiclassova` and cross entropy.
    """

    library = "lightgbm"
    number_datatype = DataType.FP64  # LightGBM compares features with thresholds in float64.

    def __init__(self, model: Any, *, where: str) -> None:
        dumped = model.dump_model(num_iteration=1)
        objective = str(dumped.get("objective", "regression")).split(" ", maxsplit=1)[0]
        if objective in ("multiclassova", "cross_entropy", "cross_entropy_lambda"):
            raise InvalidInput(
                f"{where}: the objective {objective} is not supported",
                where=where,
                hint="train it with binary, multiclass or a regression objective",
            )
        self.model = model
        self.features: int | None = int(model.num_feature())
        names = tuple(model.feature_name())
        self.feature_names: tuple[str, ...] | None = None if names[:1] == ("Column_0",) else names
        self.column_names = self.feature_names
        class_count = max(2, int(dumped["num_class"]))
        self.classes: Array | None = (
            np.arange(class_count, dtype=np.int64) if objective in ("binary", "multiclass") else None
        )

    def predict(self, rows: Rows) -> dict[str, Array]:
        answer = np.asarray(self.model.predict(as_matrix(rows), num_threads=1))
        if self.classes is None:
            return {PREDICTION: answer}
        probabilities = np.column_stack([1 - answer, answer]) if answer.ndim == 1 else answer
        return {LABEL: self.classes[probabilities.argmax(axis=1)], PROBABILITIES: probabilities}
