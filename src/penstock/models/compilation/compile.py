"""Compiling a native model: each precision is converted, bound to the signature, and put to the gate."""

import warnings
from typing import Any

import numpy as np

from penstock.core.signature import Signature
from penstock.core.tensors import Tensors, row_count
from penstock.models.compilation.forest import vote_exactly
from penstock.models.compilation.graph import bind_to_signature, gather_columns
from penstock.models.compilation.lightgbm import convert_lightgbm_booster
from penstock.models.compilation.parity import compare, count_float32_rows
from penstock.models.compilation.precision import Precision, candidates
from penstock.models.compilation.probes import probe_failure
from penstock.models.compilation.scikit_learn import convert_scikit_learn, final_estimator
from penstock.models.compilation.splits import splits_of
from penstock.models.compilation.threshold_probes import (
    threshold_failure,
    threshold_rows,
    unseen_integers_failure,
)
from penstock.models.compilation.thresholds import NoExactForm, make_exact, send_missing
from penstock.models.compilation.xgboost import convert_xgboost_booster, wrapped_booster
from penstock.models.native import NativeModel
from penstock.models.onnx_io import OnnxBinding, open_session, short_reason
from penstock.models.version import Compilation

__all__ = ["GATE_ROWS_MAX", "compile_to_onnx"]

GATE_ROWS_MAX = 20_000
"""Sample rows that the gate compares at most: they are taken evenly from all that there are."""


def compile_to_onnx(
    native: NativeModel, samples: Tensors | None
) -> tuple[bytes | None, tuple[Compilation, ...]]:
    """The first ONNX form that passes the gate, or None; and what came of every attempt.

    `samples` are rows that conform to the signature: the gate compares all of them, up to `GATE_ROWS_MAX`,
    and then rows made from them: with NaN, with unknown text, and next to the model's own thresholds. The
    form takes and gives exactly what the native model does, through an `OnnxBinding`. Raises only what the
    native model raises on the samples; whatever a converter does wrong is a failure with its reason.
    """
    attempts = candidates(
        native.signature, computes_before_trees=_computes_before_trees(native.predictor.model)
    )
    if samples is None or row_count(samples) == 0:
        reason = "no sample rows were given (--samples) to compare the compiled form with the native one"
        return None, (Compilation(precision=attempts[0].value, parity=None, failure=reason),)
    gate = _Gate(native, _spread(samples))
    results: list[Compilation] = []
    for precision in attempts:
        try:
            compiled = _convert(native, precision)
        except Exception as error:
            # Converters raise anything, some with a dump of the whole model: the first line says enough.
            results.append(_failed(precision, f"cannot be converted: {short_reason(error)}"))
            continue
        results.append(gate.judge(compiled, precision))
        if results[-1].passed:
            return compiled, tuple(results)
    return None, tuple(results)


def _computes_before_trees(model: Any) -> bool:
    return len(getattr(model, "steps", ())) > 1 and splits_of(final_estimator(model)) is not None


class _Gate:
    """The native answers, asked once, and the comparison of each compiled form with them."""

    def __init__(self, native: NativeModel, samples: Tensors) -> None:
        self._native = native
        self._samples = samples
        self._expected = native.run(samples)
        self._float32_rows = count_float32_rows(native.run, samples, self._expected)
        splits = splits_of(native.predictor.model)
        self._threshold_rows = (
            None
            if splits is None
            else threshold_rows(splits, native.signature, samples, native.predictor.column_names)
        )
        self._thresholds_known = splits is not None and not np.isnan(splits).any()

    def judge(self, compiled: bytes, precision: Precision) -> Compilation:
        signature = self._native.signature
        try:
            binding = OnnxBinding(open_session(compiled, where="the compiled form"), signature)
            answers = binding.run(self._samples)
            parity = compare(self._expected, answers, float32_rows=self._float32_rows)
            failure = self._failure(binding, precision) if parity.passed else None
        except Exception as error:
            # A graph that does not load, does not run or gives arrays of another size is no form of the model.
            return _failed(precision, f"cannot be run: {short_reason(error)}")
        if failure is not None:
            return _failed(precision, failure)
        return Compilation(precision=precision.value, parity=parity)

    def _failure(self, binding: OnnxBinding, precision: Precision) -> str | None:
        signature = self._native.signature
        failure = probe_failure(self._native, binding, signature, self._samples)
        failure = failure or threshold_failure(self._native, binding, self._threshold_rows)
        if failure is None and precision is Precision.FLOAT32 and not self._thresholds_known:
            failure = unseen_integers_failure(signature, self._samples)
        return failure


def _failed(precision: Precision, reason: str) -> Compilation:
    return Compilation(precision=precision.value, parity=None, failure=reason)


def _spread(samples: Tensors) -> Tensors:
    rows = row_count(samples)
    if rows <= GATE_ROWS_MAX:
        return samples
    picked = np.linspace(0, rows - 1, GATE_ROWS_MAX, dtype=np.int64)
    return {name: array[picked] for name, array in samples.items()}


def _convert(native: NativeModel, precision: Precision) -> bytes:
    with warnings.catch_warnings():
        # Converters use what numpy, onnx and scikit-learn have deprecated; nobody here can mend that.
        warnings.simplefilter("ignore")
        model, source = _converted(native, precision)
        gather_columns(model, native.signature)
        send_missing(model, source)
        vote_exactly(model, source)
        if precision is Precision.FLOAT64:
            _try_exact(model, source)
        bind_to_signature(model, native.signature)
        serialized: bytes = model.SerializeToString()
    return serialized


def _converted(native: NativeModel, precision: Precision) -> tuple[Any, Any]:
    """The converter's graph, and the estimator that its trees come from."""
    signature: Signature = native.signature
    predictor = native.predictor
    if predictor.library == "xgboost":
        wrapper = wrapped_booster(predictor.model, signature)
        return convert_xgboost_booster(predictor.model, signature, precision), wrapper
    if predictor.library == "lightgbm":
        return convert_lightgbm_booster(predictor.model, signature, precision), predictor.model
    return convert_scikit_learn(predictor.model, signature, precision), final_estimator(predictor.model)


def _try_exact(model: Any, source: Any) -> None:
    try:
        make_exact(model, source)
    except NoExactForm:
        # The graph stays as converted; the gate says whether that is good enough.
        return
