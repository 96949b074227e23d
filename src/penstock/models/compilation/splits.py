"""The splits of a model's trees, as the model itself has them: which feature, at which threshold."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.models.compilation.scikit_learn import final_estimator
from penstock.models.compilation.thresholds import scikit_learn_trees

__all__ = ["TREES_MAX", "Splits", "splits_of"]

TREES_MAX = 100
"""Trees, or rounds of boosting, that are read: the first ones, whose steps are the largest."""

LIGHTGBM_ZERO = 1.1e-35
"""What LightGBM takes for zero, whatever its sign: its trees tell signs apart with thresholds at +-1e-35."""

Splits = npt.NDArray[np.float64]
"""Rows (feature, threshold), sorted and each once; the feature is NaN where it is not an input's number."""


def splits_of(model: Any) -> Splits | None:
    """The splits of scikit-learn's, LightGBM's and XGBoost's trees; None where `model` has no such trees.

    Behind a pipeline's other steps a tree's features are not the model's inputs: they are NaN then.
    """
    estimator = final_estimator(model)
    try:
        found = list(_read(estimator))
    except (AttributeError, KeyError, TypeError, ValueError):
        # Private parts of three libraries: what is not as it was cannot be read, and that is all.
        return None
    if not found:
        return None
    splits = np.array(found, dtype=np.float64)
    if estimator is not model or getattr(estimator, "_preprocessor", None) is not None:
        splits[:, 0] = np.nan
    return np.unique(splits[np.isfinite(splits[:, 1])], axis=0)


def _read(estimator: Any) -> Iterator[tuple[float, float]]:
    name = type(estimator).__name__
    if hasattr(estimator, "_predictors"):
        return _histogram(estimator)
    if name.startswith("LGBM") or type(estimator).__module__.startswith("lightgbm"):
        return _lightgbm(getattr(estimator, "booster_", estimator))
    if name.startswith("XGB") or type(estimator).__module__.startswith("xgboost"):
        return _xgboost(estimator.get_booster() if hasattr(estimator, "get_booster") else estimator)
    return _scikit_learn(estimator)


def _histogram(estimator: Any) -> Iterator[tuple[float, float]]:
    for iteration in estimator._predictors[:TREES_MAX]:  # noqa: SLF001 (no public way)
        for tree in iteration:
            nodes = tree.nodes[~tree.nodes["is_leaf"].astype(bool) & ~tree.nodes["is_categorical"].astype(bool)]
            yield from zip(nodes["feature_idx"].tolist(), nodes["num_threshold"].tolist(), strict=True)


def _scikit_learn(estimator: Any) -> Iterator[tuple[float, float]]:
    for tree in scikit_learn_trees(estimator)[:TREES_MAX]:
        branches = tree.feature >= 0
        yield from zip(tree.feature[branches].tolist(), tree.threshold[branches].tolist(), strict=True)


def _lightgbm(booster: Any) -> Iterator[tuple[float, float]]:
    pending = [tree["tree_structure"] for tree in booster.dump_model(num_iteration=TREES_MAX)["tree_info"]]
    while pending:
        node = pending.pop()
        if "left_child" in node:
            pending += (node["left_child"], node["right_child"])
            if node["decision_type"] == "<=" and abs(node["threshold"]) > LIGHTGBM_ZERO:
                yield node["split_feature"], float(node["threshold"])


def _xgboost(booster: Any) -> Iterator[tuple[float, float]]:
    names = booster.feature_names or [f"f{number}" for number in range(booster.num_features())]
    numbers = {name: number for number, name in enumerate(names)}
    dumped = booster[: min(TREES_MAX, booster.num_boosted_rounds())].get_dump(dump_format="json")
    pending = [json.loads(tree) for tree in dumped]
    while pending:
        node = pending.pop()
        pending += node.get("children", ())
        if isinstance(node.get("split_condition"), int | float):
            yield numbers[node["split"]], float(node["split_condition"])
