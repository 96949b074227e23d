"""Parity: how the answers of two forms of a model differ, row by row. Knows numpy alone."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from penstock.core.tensors import Array, Tensors, row_count
from penstock.models.version import Parity

__all__ = ["TOLERANCE", "compare", "count_float32_rows", "round_to_float32"]

TOLERANCE = 1e-5
"""The largest difference allowed: of a probability, or of a value relative to the scale of the outputs."""

Mask = npt.NDArray[np.bool_]


def compare(
    native: Tensors, compiled: Tensors, *, float32_rows: int = 0, tolerance: float = TOLERANCE
) -> Parity:
    """The parity of `compiled` with `native`; both have the same names, shapes and rows.

    Outputs that are not floats are labels: a row differs where any element does. Of floats, a row differs
    where any |Δ| > tolerance·scale. Beside labels they are probabilities and scores, with a scale of 1; on
    their own they are values y, with the scale max(|y|, m) of their native answers, so that neither their
    unit nor a value near zero decides. m is the median of |y| over those of the output's column that are not
    zero, which a few outliers do not move: with a mean, one 1e12 would excuse all other rows. NaN agrees
    with NaN, an infinity with itself, and neither with anything else; `difference_max` is over the
    differences that are finite.
    """
    rows = row_count(native)
    assert rows > 0, "there is nothing to compare"
    assert native.keys() == compiled.keys(), "both forms have the outputs of one signature"
    has_labels = any(output.dtype.kind != "f" for output in native.values())
    labels_differ, values_differ = np.zeros(rows, dtype=bool), np.zeros(rows, dtype=bool)
    difference_max = 0.0
    for name, expected in native.items():
        if compiled[name].shape != expected.shape:
            labels_differ[:] = True
        elif expected.dtype.kind != "f":
            labels_differ |= _any_in_row(np.asarray(compiled[name] != expected))
        else:
            difference = _difference(expected, compiled[name], relative=not has_labels)
            values_differ |= _any_in_row(~(difference <= tolerance))
            difference_max = max(difference_max, _finite_max(difference))
    return Parity(
        rows=rows,
        tolerance=tolerance,
        labels_differ=int(labels_differ.sum()),
        values_differ=int(values_differ.sum()),
        difference_max=difference_max,
        float32_rows=float32_rows,
    )


def count_float32_rows(
    run: Callable[[Tensors], Tensors], tensors: Tensors, native: Tensors, *, tolerance: float = TOLERANCE
) -> int:
    """How many rows `run` answers differently when nothing but their FP64 inputs is rounded to float32.

    `native` is what it answers without. What `run` raises goes through.
    """
    rounded = round_to_float32(tensors)
    if all(rounded[name] is tensors[name] for name in tensors):
        return 0
    moved = compare(native, run(rounded), tolerance=tolerance)
    return max(moved.labels_differ, moved.values_differ)


def round_to_float32(tensors: Tensors) -> Tensors:
    """The tensors with each FP64 array rounded to float32 and back; arrays that it leaves alone are kept."""
    rounded: Tensors = {}
    for name, array in tensors.items():
        if array.dtype != np.float64:
            rounded[name] = array
            continue
        with np.errstate(over="ignore"):
            narrow = array.astype(np.float32).astype(np.float64)
        rounded[name] = array if np.array_equal(narrow, array, equal_nan=True) else narrow
    return rounded


def _difference(expected: Array, given: Array, *, relative: bool) -> npt.NDArray[np.float64]:
    wanted, got = expected.astype(np.float64), given.astype(np.float64)
    same = (wanted == got) | (np.isnan(wanted) & np.isnan(got))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        difference = np.abs(got - wanted)
        if relative:
            difference = difference / np.maximum(np.abs(wanted), _typical(wanted))
    return np.where(same, 0.0, difference)


def _typical(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """By column, the median of |y| over what is finite and not zero; 0 where nothing is."""
    columns = np.abs(values).reshape(len(values), -1)
    typical = np.zeros(columns.shape[1])
    for place, column in enumerate(columns.T):
        counted = column[np.isfinite(column) & (column > 0)]
        typical[place] = np.median(counted) if counted.size else 0.0
    return typical.reshape(values.shape[1:])


def _any_in_row(mask: Mask) -> Mask:
    per_row: Mask = np.any(mask.reshape(len(mask), -1), axis=1)
    return per_row


def _finite_max(difference: npt.NDArray[np.float64]) -> float:
    finite = difference[np.isfinite(difference)]
    return float(finite.max()) if finite.size else 0.0
