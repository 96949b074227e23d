"""What was served as a frame: a row for each row that was predicted."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from penstock.core.tensors import Array, Tensors
from penstock.serving.features.filling import Filling, ViewUse
from penstock.serving.features.vectors import Vectors, read_vectors
from penstock.serving.inference import Inference

if TYPE_CHECKING:
    import polars as pl

__all__ = ["ServedRows", "encode_frame", "frame_of"]


class ServedRows(NamedTuple):
    """Rows `start` to `stop` of a batch's outputs are what a request was answered."""

    inference: Inference
    time_ms: int
    outputs: Tensors
    start: int
    stop: int


def frame_of(filling: Filling, version: str, served: Sequence[ServedRows]) -> "pl.DataFrame":
    """`prediction.id`, `.row`, `.time`, `.version`; the keys by the names of their inputs; of each view
    `VIEW.position`, `VIEW.as_of` and `VIEW.stale`; and each feature as `FEATURE`, with `FEATURE.default` for
    whether it is its default.
    """
    import polars as pl

    counts = [each.stop - each.start for each in served]
    columns: dict[str, pl.Series] = {
        "prediction.id": pl.Series(
            _repeated([each.inference.prediction for each in served], counts), dtype=pl.String
        ),
        "prediction.row": pl.Series(np.concatenate([_numbers(each) for each in served])),
        "prediction.time": _times(np.repeat(np.array([each.time_ms for each in served]), counts)),
        "prediction.version": pl.Series([version] * sum(counts), dtype=pl.String),
    }
    for name in dict.fromkeys(name for use in filling.uses for name in use.keys):
        columns[name] = _series(np.concatenate([each.inference.tensors[name].ravel() for each in served]))
    for use in filling.uses:
        columns |= _view_columns(use, served)
    return pl.DataFrame(columns)


def encode_frame(frame: "pl.DataFrame") -> bytes:
    """An Arrow stream in the types that all readers know, as streams read them with `format="arrow"`."""
    import polars as pl

    written = io.BytesIO()
    frame.write_ipc_stream(written, compat_level=pl.CompatLevel.oldest())
    return written.getvalue()


def _view_columns(use: ViewUse, served: Sequence[ServedRows]) -> "dict[str, pl.Series]":
    read = [read_vectors(use.view, each.outputs, each.start, each.stop) for each in served]
    vectors = [each for each in read if each is not None]
    assert len(vectors) == len(read), "what another rung answered is not recorded"
    name = use.view.name
    columns = {
        f"{name}.position": _series(_joined([each.positions for each in vectors])),
        f"{name}.as_of": _times(_joined([each.as_of_ms for each in vectors])),
        f"{name}.stale": _series(_joined([each.stale for each in vectors])),
    }
    for number, feature in enumerate(use.view.features):
        columns[feature.name] = _series(_joined(_of(vectors, number)))
        columns[f"{feature.name}.default"] = _series(_joined([each.defaulted[number] for each in vectors]))
    return columns


def _of(vectors: Sequence[Vectors], number: int) -> list[Array]:
    return [each.columns[number] for each in vectors]


def _joined(arrays: Sequence[Array]) -> Array:
    return np.concatenate(arrays)


def _series(array: Array) -> "pl.Series":
    import polars as pl

    if array.dtype == object:
        return pl.Series(array.tolist(), dtype=pl.String)
    return pl.Series(array)


def _times(milliseconds: Array) -> "pl.Series":
    import polars as pl

    return pl.Series(milliseconds.astype(np.int64)).cast(pl.Datetime("ms", "UTC"))


def _numbers(served: ServedRows) -> Array:
    first = served.inference.first_row
    return np.arange(first, first + served.stop - served.start, dtype=np.int64)


def _repeated(values: Sequence[str], counts: Sequence[int]) -> list[str]:
    return [value for value, count in zip(values, counts, strict=True) for _ in range(count)]
