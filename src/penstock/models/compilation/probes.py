"""Probes: rows that samples may not hold and requests may: missing numbers and unknown text."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from penstock.core.errors import PenstockError
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import Tensors, slice_rows
from penstock.models.compilation.parity import compare
from penstock.models.signature_inference import Runner

__all__ = ["probe_failure"]

PROBE_ROWS = 256
UNKNOWN_TEXT = "\N{EMPTY SET} unknown"


def probe_failure(native: Runner, compiled: Runner, signature: Signature, samples: Tensors) -> str | None:
    """Where the compiled form does not answer as the native one does; None where it does everywhere.

    Tried are NaN and both infinities in every input that has a place for them, and unknown and empty text
    in every input whose categories are not listed. Rows that the native model itself refuses are passed
    over: there is nothing to agree with.
    """
    for said, tensors in _probes(signature, slice_rows(samples, 0, PROBE_ROWS)):
        try:
            expected = native.run(tensors)
        except PenstockError:
            continue
        parity = compare(expected, compiled.run(tensors))
        if not parity.passed:
            rows = max(parity.labels_differ, parity.values_differ)
            return f"agrees on the samples, but {rows} of {parity.rows} rows differ with {said}"
    return None


def _probes(signature: Signature, rows: Tensors) -> Iterator[tuple[str, Tensors]]:
    for spec in signature.inputs:
        if spec.nan and spec.datatype.is_float:
            for value in (np.nan, np.inf, -np.inf):
                yield f"{value} in input {spec.name!r}", _with(rows, spec, value)
        elif spec.datatype.is_object and spec.categories is None:
            for text in (UNKNOWN_TEXT, ""):
                yield f"the text {text!r} in input {spec.name!r}", _with(rows, spec, text)


def _with(rows: Tensors, spec: TensorSpec, value: float | str) -> Tensors:
    """The rows with `value` in one place of each, the places taken in turn."""
    changed: Any = rows[spec.name].copy()  # numbers or objects, as the input is
    flat = changed.reshape(len(changed), -1)
    every = np.arange(len(flat))
    flat[every, every % flat.shape[1]] = value
    return {**rows, spec.name: changed}
