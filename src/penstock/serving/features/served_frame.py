"""What was served as a frame: a row for each row that was predicted."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from penstock.core.tensors import Array, Tensors
from penstock.serving.features.filling import Filling, ViewUse
from penstock.serving.features.vectors import output_name, read_vectors
from penstock.serving.inference import Inference

if TYPE_CHECKING:
    import polars as pl

__all__ = ["ServedRows", "encode_frame", "frame_of", "served_rows"]


class ServedRows(NamedTuple):
    """What is recorded of rows that a request was answered: its id, which of its rows is the first, when it
    was, the inputs that are keys, and what was read of each view, in the order of the filling.
    """

    prediction: str
    first_row: int
    time_ms: int
    keys: Tensors
    vectors: tuple[Array, ...]

    @property
    def rows(self) -> int:
        return len(self.vectors[0])

    @property
    def size(self) -> int:
        """Bytes, about."""
        keys = sum(_size(each) for each in self.keys.values())
        return len(self.prediction) + keys + sum(each.nbytes for each in self.vectors)

    def cut(self, start: int, stop: int) -> "ServedRows":
        """Some of the rows."""
        return self._replace(
            first_row=self.first_row + start,
            keys={name: each[start:stop] for name, each in self.keys.items()},
            vectors=tuple(each[start:stop] for each in self.vectors),
        )


def served_rows(
    filling: Filling, inference: Inference, time_ms: int, outputs: Tensors, start: int, stop: int
) -> ServedRows:
    """Of a request that was answered by the rows `start` to `stop` of a batch. No more is held of either."""
    keys = {name: inference.tensors[name].ravel().copy() for use in filling.uses for name in use.keys}
    vectors = tuple(outputs[output_name(use.view)][start:stop] for use in filling.uses)
    return ServedRows(inference.prediction, inference.first_row, time_ms, keys, vectors)


def frame_of(filling: Filling, version: str, served: Sequence[ServedRows]) -> "pl.DataFrame":
    """`prediction.id`, `.row`, `.time`, `.version`; the keys by the names of their inputs; of each view
    `VIEW.position`, `VIEW.as_of` and `VIEW.stale`; and each feature as `FEATURE`, with `FEATURE.default` for
    whether it is its default.
    """
    import polars as pl

    counts = np.array([each.rows for each in served])
    first_rows = np.repeat([each.first_row for each in served], counts)
    own_rows = np.arange(len(first_rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    columns: dict[str, pl.Series] = {
        "prediction.id": pl.Series([each.prediction for each in served], dtype=pl.String)[
            np.repeat(np.arange(len(served)), counts)
        ],
        "prediction.row": pl.Series(first_rows + own_rows),
        "prediction.time": _times(np.repeat([each.time_ms for each in served], counts)),
        "prediction.version": pl.Series([version] * len(first_rows), dtype=pl.String),
    }
    for name in dict.fromkeys(name for use in filling.uses for name in use.keys):
        columns[name] = _series(np.concatenate([each.keys[name] for each in served]))
    for place, use in enumerate(filling.uses):
        # As it lies, and once for all: what is done for each request is done while others are waited for.
        columns |= _view_columns(use, np.concatenate([each.vectors[place] for each in served]))
    return pl.DataFrame(columns)


def encode_frame(frame: "pl.DataFrame") -> bytes:
    """An Arrow stream in the types that all readers know, as streams read them with `format="arrow"`."""
    import polars as pl

    written = io.BytesIO()
    frame.write_ipc_stream(written, compat_level=pl.CompatLevel.oldest())
    return written.getvalue()


def _view_columns(use: ViewUse, packed: Array) -> "dict[str, pl.Series]":
    import polars as pl

    vectors = read_vectors(use.view, packed)
    name = use.view.name
    columns = {
        f"{name}.position": pl.Series(vectors.positions),
        f"{name}.as_of": _times(vectors.as_of_ms),
        f"{name}.stale": pl.Series(vectors.stale),
    }
    for feature, column, defaulted in zip(use.view.features, vectors.columns, vectors.defaulted, strict=True):
        columns[feature.name] = pl.Series(column)
        columns[f"{feature.name}.default"] = pl.Series(defaulted)
    return columns


def _size(array: Array) -> int:
    if array.dtype == object:
        return sum(map(len, array.tolist()))
    return int(array.nbytes)


def _series(array: Array) -> "pl.Series":
    import polars as pl

    if array.dtype == object:
        return pl.Series(array.tolist(), dtype=pl.String)
    return pl.Series(array)


def _times(milliseconds: Array) -> "pl.Series":
    import polars as pl

    return pl.Series(milliseconds.astype(np.int64)).cast(pl.Datetime("ms", "UTC"))
