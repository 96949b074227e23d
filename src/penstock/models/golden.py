"""Golden rows: sample inputs of a version with the outputs that its native model gave at push."""

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from penstock.core.errors import CorruptArtifact, ModelFailed
from penstock.core.tensors import Array, Tensors, row_count
from penstock.models.runtimes.runtime import Runtime

__all__ = ["GOLDEN_ROWS_MAX", "Golden", "check_golden", "golden_rows"]

GOLDEN_ROWS_MAX = 64
TOLERANCE = 1e-4
"""Wider than the gate's: another processor or library may round otherwise; another model differs by more."""


class Golden(msgspec.Struct, frozen=True):
    """Inputs and outputs, row by row."""

    inputs: Tensors
    outputs: Tensors

    def encode(self) -> bytes:
        return msgspec.msgpack.encode({"inputs": _plain(self.inputs), "outputs": _plain(self.outputs)})

    @classmethod
    def decode(cls, content: bytes) -> "Golden":
        """Raises `CorruptArtifact` for bytes that are no golden rows."""
        try:
            decoded = msgspec.msgpack.decode(content)
            return cls(_tensors(decoded["inputs"]), _tensors(decoded["outputs"]))
        except (msgspec.DecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise CorruptArtifact(f"the golden rows cannot be read: {error}") from error


def golden_rows(samples: Tensors) -> Tensors:
    """Rows spread evenly over the samples, at most `GOLDEN_ROWS_MAX`."""
    rows = row_count(samples)
    picked = np.unique(np.linspace(0, rows - 1, min(rows, GOLDEN_ROWS_MAX), dtype=np.int64))
    return {name: array[picked] for name, array in samples.items()}


def check_golden(runtime: Runtime, golden: Golden, *, model: str, timeout_s: float) -> None:
    """Raises `ModelFailed`, naming the first row that differs, when the runtime does not give these outputs."""
    outputs = runtime.run(golden.inputs, timeout_s)
    for name, expected in golden.outputs.items():
        given = outputs.get(name)
        if given is None or given.shape != expected.shape:
            shape = "missing" if given is None else f"of shape {list(given.shape)}"
            raise ModelFailed(
                f"model {model!r}: on the golden rows output {name!r} is {shape}, "
                f"at push it was of shape {list(expected.shape)}"
            )
        differing = np.flatnonzero(~_agree(given, expected))
        if len(differing):
            row = int(differing[0])
            raise ModelFailed(
                f"model {model!r}: on golden row {row} output {name!r} is {given.tolist()[row]!r}, "
                f"at push it was {expected.tolist()[row]!r} ({len(differing)} of {len(expected)} rows differ)",
                hint="a library may have changed since; push the model again from this environment",
            )


def _agree(given: Array, expected: Array) -> npt.NDArray[np.bool_]:
    if expected.dtype.kind == "f":
        scale = np.where(np.isfinite(expected), np.maximum(1.0, np.abs(expected)), 1.0)
        same = np.isclose(given / scale, expected / scale, rtol=0, atol=TOLERANCE, equal_nan=True)
    else:
        same = np.asarray(given == expected)
    agreeing: npt.NDArray[np.bool_] = same.reshape(len(expected), -1).all(axis=1)
    return agreeing


def _plain(tensors: Tensors) -> dict[str, Any]:
    return {
        name: [array.dtype.str, list(array.shape), array.ravel().tolist() if _boxed(array) else array.tobytes()]
        for name, array in tensors.items()
    }


def _boxed(array: Array) -> bool:
    return array.dtype.kind == "O"


def _tensors(plain: dict[str, Any]) -> Tensors:
    tensors: Tensors = {}
    for name, (dtype, shape, data) in plain.items():
        if isinstance(data, bytes):
            tensors[name] = np.frombuffer(data, dtype=dtype).reshape(shape)
        else:
            boxed = np.empty(len(data), dtype=object)
            boxed[:] = data
            tensors[name] = boxed.reshape(shape)
    return tensors
