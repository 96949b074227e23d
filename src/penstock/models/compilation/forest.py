"""Forests of classifiers, voting as scikit-learn does.

The converter divides each leaf's weights by the number of trees and rounds them to float32, so that a tie
(ten of twenty trees) comes out as a little more or less than one half, and labels differ in as many rows as
there are ties: one in a hundred is common. Here the leaves' fractions are summed first (whole numbers are
exact) and divided then, and the first of the largest is the label, as in scikit-learn's argmax.
"""

from typing import Any

import numpy as np

__all__ = ["vote_exactly"]

_NODE_PREFIX = "nodes_"


def vote_exactly(model: Any, estimator: Any) -> None:
    """Replaces the one TreeEnsembleClassifier of a random forest or of extra trees in `model`. In place.

    Graphs of other estimators are left alone.
    """
    from onnx import helper, numpy_helper

    nodes = [node for node in model.graph.node if node.op_type == "TreeEnsembleClassifier"]
    if len(nodes) != 1 or type(estimator).__name__ not in ("RandomForestClassifier", "ExtraTreesClassifier"):
        return
    (node,) = nodes
    label, probabilities = node.output
    votes, winner, trees, classes = (f"{label}::{part}" for part in ("votes", "winner", "trees", "classes"))
    graph = model.graph
    graph.initializer.append(
        numpy_helper.from_array(np.array([len(estimator.estimators_)], dtype=np.float32), trees)
    )
    graph.initializer.append(numpy_helper.from_array(_class_labels(estimator), classes))
    replacement = [
        _tree_votes(node, estimator, votes),
        helper.make_node("Div", [votes, trees], [probabilities]),
        helper.make_node("ArgMax", [votes], [winner], axis=1, keepdims=0),
        helper.make_node("Gather", [classes, winner], [label]),
    ]
    place = list(graph.node).index(node)
    del graph.node[place]
    for offset, added in enumerate(replacement):
        graph.node.insert(place + offset, added)


def _class_labels(estimator: Any) -> Any:
    labels = np.array(estimator.classes_.tolist())
    return labels.astype(object) if labels.dtype.kind == "U" else labels.astype(np.int64)


def _tree_votes(node: Any, estimator: Any, output: str) -> Any:
    """A TreeEnsembleRegressor [rows, classes] with the node's trees and the leaves' fractions of each class."""
    from onnx import helper

    tree_ids, leaf_ids, class_ids, fractions = [], [], [], []
    for tree_id, member in enumerate(estimator.estimators_):
        tree = member.tree_
        leaves = np.flatnonzero(tree.children_left == -1)
        counts = tree.value[leaves, 0, :]
        shares = counts / counts.sum(axis=1, keepdims=True)
        rows, columns = np.nonzero(shares)
        tree_ids.append(np.full(len(rows), tree_id))
        leaf_ids.append(leaves[rows])
        class_ids.append(columns)
        fractions.append(shares[rows, columns])
    votes = helper.make_node(
        "TreeEnsembleRegressor",
        [node.input[0]],
        [output],
        domain="ai.onnx.ml",
        name=f"{node.name}_votes",
        n_targets=len(estimator.classes_),
        target_treeids=np.concatenate(tree_ids).tolist(),
        target_nodeids=np.concatenate(leaf_ids).tolist(),
        target_ids=np.concatenate(class_ids).tolist(),
        target_weights=np.concatenate(fractions).tolist(),
        post_transform="NONE",
    )
    votes.attribute.extend(attribute for attribute in node.attribute if attribute.name.startswith(_NODE_PREFIX))
    return votes
