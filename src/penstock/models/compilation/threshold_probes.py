"""Rows at a model's own thresholds, which no sample may come near and every request may.

A float32 graph rounds what is wider: with ids near 1.7e9, a hundred neighbours become one number, and half
of them may fall to the wrong side of a split. Samples with small ids do not show it, so rows are made that do.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from penstock.core.errors import PenstockError
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import Tensors, row_count
from penstock.models.compilation.parity import compare
from penstock.models.compilation.precision import NARROW
from penstock.models.compilation.splits import Splits
from penstock.models.signature_inference import Runner

__all__ = ["threshold_failure", "threshold_rows", "unseen_integers_failure"]

SPLITS_MAX = 256
FLOAT32_INTEGER_MAX = 1 << 24
"""Up to here float32 holds every integer."""

Place = tuple[TensorSpec, int]
"""An input and a column of it."""


def threshold_failure(native: Runner, compiled: Runner, rows: Tensors | None) -> str | None:
    """Where the forms differ on `threshold_rows`; None where they agree or the model refuses the rows."""
    if rows is None:
        return None
    try:
        expected = native.run(rows)
    except PenstockError:
        return None
    parity = compare(expected, compiled.run(rows))
    if parity.passed:
        return None
    differ = max(parity.labels_differ, parity.values_differ)
    return f"agrees on the samples, but {differ} of {parity.rows} rows differ next to the model's thresholds"


def threshold_rows(
    splits: Splits, signature: Signature, samples: Tensors, columns: Sequence[str] | None
) -> Tensors | None:
    """Sample rows with one number each just below, at and just above a threshold; None: none can be made.

    At most `SPLITS_MAX` thresholds are taken, spread evenly over all. Only inputs that hold more than float32
    does are set. A split without a feature is tried in each of them. `columns` names the features in order.
    """
    places = _places(signature, columns, samples)
    wanted = list(_placed(splits, places))
    if not wanted:
        return None
    picked = np.unique(np.linspace(0, len(wanted) - 1, min(len(wanted), SPLITS_MAX), dtype=np.int64))
    chosen = [wanted[place] for place in picked for _ in range(3)]
    base = np.arange(len(chosen)) % row_count(samples)
    rows: dict[str, Any] = {name: array[base] for name, array in samples.items()}
    for number, ((spec, column), threshold) in enumerate(chosen):
        flat = rows[spec.name].reshape(len(chosen), -1)
        flat[number, column] = _neighbour(threshold, spec.datatype.numpy, number % 3 - 1)
    return rows


def unseen_integers_failure(signature: Signature, samples: Tensors) -> str | None:
    """Why float32 will not do for a model whose thresholds cannot be read: integers beyond 2**24 in samples."""
    for spec in signature.inputs:
        if _wide(spec) and spec.dtype.kind in "iu":
            array: Any = samples[spec.name]
            if max(int(array.max()), -int(array.min())) > FLOAT32_INTEGER_MAX:
                return (
                    f"input {spec.name!r} has integers beyond 2**24, which float32 rounds, and the model's "
                    "thresholds cannot be read to try what that does"
                )
    return None


def _wide(spec: TensorSpec) -> bool:
    return spec.numeric and spec.datatype not in NARROW and spec.categories is None


def _places(signature: Signature, columns: Sequence[str] | None, samples: Tensors) -> list[Place | None]:
    """By the number of the feature: the place of an input that is wider than float32, None for another."""
    first = signature.inputs[0]
    if len(signature.inputs) == 1 and len(first.shape) > 1:
        width = math.prod(samples[first.name].shape[1:])
        return [(first, column) if _wide(first) else None for column in range(width)]
    specs = {spec.name: spec for spec in signature.inputs}
    ordered = [specs[name] for name in columns] if columns is not None else list(signature.inputs)
    return [(spec, 0) if _wide(spec) else None for spec in ordered]


def _placed(splits: Splits, places: list[Place | None]) -> Iterator[tuple[Place, float]]:
    anywhere = [place for place in places if place is not None]
    for feature, threshold in splits.tolist():
        if math.isnan(feature):
            yield from ((place, threshold) for place in anywhere)
            continue
        place = places[int(feature)] if feature < len(places) else None
        if place is not None:
            yield place, threshold


def _neighbour(threshold: float, dtype: np.dtype[np.generic], step: int) -> float | int:
    """The number of `dtype` at the threshold (integers: the last one not above it), or `step` of them on."""
    if dtype.kind == "f":
        return threshold if step == 0 else math.nextafter(threshold, step * math.inf)
    bounds = np.iinfo(dtype)  # type: ignore[type-var]  # an integer's, here
    return min(max(math.floor(threshold) + step, int(bounds.min)), int(bounds.max))
