"""Golden rows: sample inputs of a version with the outputs that its native model gave at push."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from penstock.core.clock import Clock
from penstock.core.errors import ConfigurationError, CorruptArtifact, InvalidInput, ModelFailed, WrongOutputs
from penstock.core.signature import Signature
from penstock.core.tensors import Array, Tensors, row_count, slice_rows
from penstock.models.runtimes.runtime import Examine, Runtime

__all__ = ["GOLDEN_ROWS_MAX", "Golden", "check_golden", "declared_golden", "examination", "golden_rows"]

GOLDEN_ROWS_MAX = 64
PIECE_S, PIECE_ROWS_TIMES = 0.005, 1.5
"""What is tried at once takes about so long, or so many times as long as a single row."""
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


def declared_golden(
    model: str, signature: Signature, inputs: Mapping[str, object], outputs: Mapping[str, object]
) -> Golden:
    """Golden rows as a user writes them: lists, or arrays. Raises `ConfigurationError` where they misfit."""
    found = []
    for side, specs, values in (("inputs", signature.inputs, inputs), ("outputs", signature.outputs, outputs)):
        types = {spec.name: spec.dtype for spec in specs}
        try:
            arrays = {name: np.asarray(value, dtype=types.get(name)) for name, value in values.items()}
            found.append(Signature(inputs=specs, outputs=specs).conform(arrays))
        except (InvalidInput, TypeError, ValueError, OverflowError) as error:
            raise ConfigurationError(
                f"model {model!r}: the {side} of its health check do not fit: {error}",
                hint=f"they are {', '.join(f'{spec.name} {spec.describe()}' for spec in specs)}",
            ) from None
    golden = Golden(found[0], found[1])
    rows = (row_count(golden.inputs), row_count(golden.outputs))
    if rows[0] != rows[1] or rows[0] > GOLDEN_ROWS_MAX:
        raise ConfigurationError(
            f"model {model!r}: its health check has {rows[0]} rows of inputs and {rows[1]} of outputs",
            hint=f"give as many of the one as of the other, at most {GOLDEN_ROWS_MAX}",
        )
    return golden


def check_golden(runtime: Runtime, golden: Golden, *, model: str, timeout_s: float, first_row: int = 0) -> None:
    """Raises `WrongOutputs`, naming the first row that differs, where the runtime gives other outputs.
    `first_row` is the number of the first row.
    """
    outputs = runtime.run(golden.inputs, timeout_s)
    for name, expected in golden.outputs.items():
        given = outputs.get(name)
        if given is None or given.shape != expected.shape:
            shape = "missing" if given is None else f"of shape {list(given.shape)}"
            raise WrongOutputs(
                f"model {model!r}: on the golden rows output {name!r} is {shape}, "
                f"it should be of shape {list(expected.shape)}"
            )
        differing = np.flatnonzero(~_agree(given, expected))
        if len(differing):
            row = int(differing[0])
            raise WrongOutputs(
                f"model {model!r}: on golden row {first_row + row} output {name!r} is {given.tolist()[row]!r}, "
                f"it should be {expected.tolist()[row]!r} "
                f"({len(differing)} of the {len(expected)} rows that ran together differ)",
                hint="a library may have changed since; push the model again from this environment",
            )


def examination(
    golden: Golden, clock: Clock, *, model: str, timeout_s: float, latency_s: float | None
) -> Examine:
    """What tries a runtime on golden rows, now and again: that it gives their outputs, and (where a bound is
    given) that it takes no longer than `latency_s` for all of them. It raises `WrongOutputs`, `ModelFailed`
    where that took too long, and what the runtime raises.

    In pieces: all 64 rows at once would keep everybody else out for as long as 64 of them take.
    """

    def examine(runtime: Runtime) -> Iterator[None]:
        whole, start, spent_s = row_count(golden.inputs), 0, 0.0
        size = _PieceSize(whole if runtime.signature.rows_fixed is not None else 1)
        while start < whole:
            stop = start + size.rows
            piece = Golden(slice_rows(golden.inputs, start, stop), slice_rows(golden.outputs, start, stop))
            began_s = clock.monotonic()
            check_golden(runtime, piece, model=model, timeout_s=timeout_s, first_row=start)
            took_s = clock.monotonic() - began_s
            spent_s += took_s
            start = stop
            size.took(took_s)
            yield
        if latency_s is not None and spent_s > latency_s:
            raise ModelFailed(
                f"model {model!r}: its golden rows took {1000 * spent_s:.1f} ms, "
                f"and may take {1000 * latency_s:.1f} ms"
            )

    return examine


class _PieceSize:
    """How many rows are tried at once: twice as many, as long as they take hardly longer than one does."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._bound_s: float | None = None
        self._grows = True

    def took(self, seconds: float) -> None:
        """So many rows took so long."""
        if self._bound_s is None:
            self._bound_s = max(PIECE_S, PIECE_ROWS_TIMES * seconds)
        if not self._grows:
            return
        self._grows = seconds <= self._bound_s
        self.rows = 2 * self.rows if self._grows else max(1, self.rows // 2)


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
