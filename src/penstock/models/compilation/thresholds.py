"""Exact thresholds for tree ensembles in graphs that compute in float64.

Converters write thresholds as float32. scikit-learn's histogram boosting and LightGBM compare float64 with
float64, so a value between the two thresholds goes to the other side. ai.onnx.ml 3 has attributes for
float64 (`nodes_values_as_tensor`), which ONNX Runtime reads for float64 inputs; they are filled here with
the source's own thresholds, after checking, node by node, that each rounds to what the converter wrote.

The other trees of scikit-learn and XGBoost round their inputs to float32 themselves. Before those a Cast is
put, and each threshold becomes the float32 that splits float32 values as the source's float64 does.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["NoExactForm", "make_exact", "scikit_learn_trees", "send_missing"]

Thresholds = npt.NDArray[np.float64]

_FLOAT_ATTRIBUTES = ("nodes_values", "nodes_hitrates", "base_values", "target_weights", "class_weights")
_ML_DOMAIN = "ai.onnx.ml"
_ML_OPSET = 3


class NoExactForm(Exception):
    """The graph's trees cannot be told to be the source's. Stays inside this package."""


def make_exact(model: Any, estimator: Any) -> None:
    """Makes the one tree ensemble in an ONNX `model` split exactly as `estimator`'s trees do. In place.

    A model without a tree ensemble is left alone. Raises `NoExactForm` where there are several, and where
    nodes and source do not match.
    """
    nodes = [node for node in model.graph.node if node.op_type.startswith("TreeEnsemble")]
    if not nodes:
        return
    if len(nodes) > 1:
        raise NoExactForm("the graph has several tree ensembles")
    node, kind = nodes[0], type(estimator).__name__
    if hasattr(estimator, "_predictors"):
        _set_float64(model, node, _histogram_thresholds(estimator))
    elif kind.startswith("LGBM") or type(estimator).__module__.startswith("lightgbm"):
        _set_float64(model, node, _lightgbm_thresholds(estimator, node))
    else:
        if not kind.startswith("XGB"):
            _set_float32(node, estimator)
        _cast_input_to_float32(model.graph, node)


def send_missing(model: Any, estimator: Any) -> None:
    """Sends NaN, in scikit-learn's own trees, to the side that `estimator` sends it to. In place.

    The converter sends it always to the right. Boosted trees with a direction of their own are left alone,
    as is a graph whose trees are not the estimator's.
    """
    nodes = [node for node in model.graph.node if node.op_type.startswith("TreeEnsemble")]
    trees = scikit_learn_trees(estimator)
    if len(nodes) != 1 or not trees:
        return
    tracks = _attributes(nodes[0])["nodes_missing_value_tracks_true"]
    left = np.concatenate([np.asarray(tree.missing_go_to_left) for tree in trees])
    if len(left) == len(tracks.ints):
        tracks.ints[:] = np.where(_branches(nodes[0]), left, 0).tolist()


def _attributes(node: Any) -> dict[str, Any]:
    return {attribute.name: attribute for attribute in node.attribute}


def _branches(node: Any) -> npt.NDArray[np.bool_]:
    return np.array([mode != b"LEAF" for mode in _attributes(node)["nodes_modes"].strings])


def _histogram_thresholds(estimator: Any) -> Thresholds:
    trees = [tree.nodes for iteration in estimator._predictors for tree in iteration]  # noqa: SLF001 (no public way)
    nodes = np.concatenate(trees)
    if nodes["is_categorical"].any():
        raise NoExactForm("trees that split on sets of categories have no form in this graph")
    return np.where(nodes["is_leaf"], 0.0, nodes["num_threshold"])


def _lightgbm_thresholds(estimator: Any, node: Any) -> Thresholds:
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import modify_tree_for_rule_in_set

    dumped = getattr(estimator, "booster_", estimator).dump_model()
    modify_tree_for_rule_in_set(dumped, use_float=True)  # as the converter does: sets become chains of ==
    attributes = _attributes(node)
    place_of = {
        key: place
        for place, key in enumerate(
            zip(attributes["nodes_treeids"].ints, attributes["nodes_nodeids"].ints, strict=True)
        )
    }
    true_ids, false_ids = attributes["nodes_truenodeids"].ints, attributes["nodes_falsenodeids"].ints
    thresholds = np.zeros(len(place_of))
    pending = [(tree, 0, info["tree_structure"]) for tree, info in enumerate(dumped["tree_info"])]
    while pending:
        tree, number, source = pending.pop()
        if "left_child" not in source:
            continue
        place = place_of[tree, number]
        thresholds[place] = float(source["threshold"])
        pending.append((tree, true_ids[place], source["left_child"]))
        pending.append((tree, false_ids[place], source["right_child"]))
    return thresholds


def _set_float64(model: Any, node: Any, thresholds: Thresholds) -> None:
    from onnx import helper, numpy_helper

    written = np.array(_attributes(node)["nodes_values"].floats, dtype=np.float32)
    branches = _branches(node)
    if len(written) != len(thresholds) or np.any(written[branches] != thresholds[branches].astype(np.float32)):
        raise NoExactForm("the graph's thresholds are not the source's, rounded")
    kept = []
    for attribute in node.attribute:
        if attribute.name not in _FLOAT_ATTRIBUTES:
            kept.append(attribute)
            continue
        values = np.array(attribute.floats, dtype=np.float64)
        exact = thresholds if attribute.name == "nodes_values" else values
        name = f"{attribute.name}_as_tensor"
        kept.append(helper.make_attribute(name, numpy_helper.from_array(exact, name)))
    del node.attribute[:]
    node.attribute.extend(kept)
    _require_ml_opset(model)


def _require_ml_opset(model: Any) -> None:
    for opset in model.opset_import:
        if opset.domain == _ML_DOMAIN:
            opset.version = max(opset.version, _ML_OPSET)


def _set_float32(node: Any, estimator: Any) -> None:
    trees = scikit_learn_trees(estimator)
    if not trees:
        raise NoExactForm("the source's trees cannot be read")
    exact = np.concatenate([tree.threshold for tree in trees])
    rounded = exact.astype(np.float32)
    below = np.where(rounded > exact, np.nextafter(rounded, np.float32(-np.inf)), rounded)
    values = _attributes(node)["nodes_values"]
    written = np.array(values.floats, dtype=np.float32)
    branches = _branches(node)
    if len(written) != len(below) or not np.allclose(written[branches], below[branches], rtol=1e-6, atol=0):
        raise NoExactForm("the graph's thresholds are not the source's")
    written[branches] = below[branches]
    values.floats[:] = written.tolist()


def scikit_learn_trees(estimator: Any) -> list[Any]:
    """The trees of a forest, of gradient boosting or of a single tree, in the order of a graph's nodes."""
    members = np.ravel(np.array(getattr(estimator, "estimators_", [estimator]), dtype=object))
    trees = [getattr(member, "tree_", None) for member in members]
    return trees if all(tree is not None for tree in trees) else []


def _cast_input_to_float32(graph: Any, node: Any) -> None:
    from onnx import TensorProto, helper

    narrow = f"{node.input[0]}::float32"
    cast = helper.make_node("Cast", [node.input[0]], [narrow], to=TensorProto.FLOAT)
    node.input[0] = narrow
    place = list(graph.node).index(node)
    graph.node.insert(place, cast)
