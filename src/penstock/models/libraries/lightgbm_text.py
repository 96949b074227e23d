"""A check of LightGBM's text format before LightGBM reads it.

LightGBM parses trees in parallel, and two that are damaged end the process (`terminate called`): no error
to catch. So what it would stumble over is looked for first.
"""

import itertools

__all__ = ["check_lightgbm_text"]

_BRANCH_FIELDS = ("split_feature", "threshold", "decision_type", "left_child", "right_child")


def check_lightgbm_text(text: str) -> None:
    """Raises `ValueError` where the header, the sizes or the fields of the trees do not fit together."""
    start = text.find("Tree=0")
    if start < 0 or "\nend of trees" not in text or "\nend of parameters" not in text:
        raise ValueError("its end is missing")
    header = _fields(text[:start])
    if "tree_sizes" not in header or "max_feature_idx" not in header:
        raise ValueError("the header has no tree_sizes or no max_feature_idx")
    features = int(header["max_feature_idx"]) + 1
    ends = list(itertools.accumulate((int(size) for size in header["tree_sizes"].split()), initial=start))
    for number, (begin, end) in enumerate(itertools.pairwise(ends)):
        block = text[begin:end]
        if not block.startswith(f"Tree={number}\n"):
            raise ValueError(f"tree {number} is not where the header has it")
        _check_tree(_fields(block), number, features)
    if not text.startswith("end of trees", ends[-1]):
        raise ValueError("the trees do not end where the header has it")


def _fields(block: str) -> dict[str, str]:
    return {name: value for name, _, value in (line.partition("=") for line in block.splitlines())}


def _check_tree(fields: dict[str, str], number: int, features: int) -> None:
    missing = [name for name in ("num_leaves", "num_cat", "leaf_value", *_BRANCH_FIELDS) if name not in fields]
    if missing:
        raise ValueError(f"tree {number} has no {missing[0]}")
    leaves = int(fields["num_leaves"])
    numbers = {
        name: [float(value) for value in fields[name].split()] for name in ("leaf_value", *_BRANCH_FIELDS)
    }
    for name, values in numbers.items():
        if len(values) != (leaves if name == "leaf_value" else leaves - 1):
            raise ValueError(f"tree {number} has {len(values)} of {name} for {leaves} leaves")
    if any(not 0 <= feature < features for feature in numbers["split_feature"]):
        raise ValueError(f"tree {number} splits on a feature that there is not")
    children = numbers["left_child"] + numbers["right_child"]
    # A child below zero is a leaf, counted from -1; each node but the root is a child once.
    if sorted(children) != [*range(-leaves, 0), *range(1, leaves - 1)] and leaves > 1:
        raise ValueError(f"tree {number} is not a tree")
