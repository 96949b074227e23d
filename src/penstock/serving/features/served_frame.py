"""What was served as a frame: a row for each row that was predicted."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from penstock.core.tensors import Array, Tensors, tensors_bytes
from penstock.features.timeline import Ints
from penstock.serving.features.filling import Filling, ViewUse
from penstock.serving.features.vectors import key_output_name, output_name, read_vectors

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "ServedBatch",
    "ServedRows",
    "ServedShare",
    "encode_frame",
    "frame_of",
    "served_batch",
    "served_rows",
]


class ServedShare(NamedTuple):
    """A request's rows `start` to `stop` of a batch: the id of its answer, which of its rows the first is."""

    prediction: str
    first_row: int
    start: int
    stop: int


@dataclass(slots=True)
class ServedBatch:
    """What is recorded of a batch: when it was answered, its rows of the inputs that are keys and of what was
    read of each view, in the order of the filling; and what of these are whose.
    """

    time_ms: int
    keys: Tensors
    vectors: tuple[Array, ...]
    shares: list[ServedShare] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        """Of its rows, about."""
        return tensors_bytes(self.keys) + sum([each.nbytes for each in self.vectors])


class ServedRows(NamedTuple):
    """Rows of many answers: in which of `predictions` each is, as which row, and when it was answered; then as
    of a batch; and about how many bytes each takes.
    """

    predictions: Sequence[str]
    owners: Ints
    numbers: Ints
    times_ms: Ints
    keys: Tensors
    vectors: tuple[Array, ...]
    sizes: Ints


def served_batch(filling: Filling, time_ms: int, outputs: Tensors) -> ServedBatch:
    """Of a batch that gave these outputs, which are not held beyond that."""
    keys = {name: outputs[key_output_name(name)] for use in filling.uses for name in use.keys}
    return ServedBatch(time_ms, keys, tuple([outputs[output_name(use.view)] for use in filling.uses]))


def served_rows(batches: Sequence[ServedBatch]) -> ServedRows:
    """All rows of all shares, at least one."""
    shares = [share for batch in batches for share in batch.shares]
    predictions, first_rows, starts, stops = zip(*shares, strict=True)
    counts = np.array(stops) - np.array(starts)
    owners = np.repeat(np.arange(len(shares)), counts)
    own = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    in_batch = [len(batch.shares) for batch in batches]
    heights = np.array([len(batch.vectors[0]) for batch in batches])
    rows = (np.repeat(np.cumsum(heights) - heights, in_batch) + np.array(starts))[owners] + own
    keys = {name: np.concatenate([each.keys[name] for each in batches])[rows] for name in batches[0].keys}
    vectors = tuple(
        [
            np.concatenate([each.vectors[place] for each in batches])[rows]
            for place in range(len(batches[0].vectors))
        ]
    )
    sizes = np.array(list(map(len, predictions)))[owners] + sum([each.shape[1] * 8 for each in vectors])
    for array in keys.values():
        sizes = sizes + _sizes(array)
    times_ms = np.repeat([batch.time_ms for batch in batches], in_batch)[owners]
    return ServedRows(predictions, owners, np.array(first_rows)[owners] + own, times_ms, keys, vectors, sizes)


def frame_of(filling: Filling, version: str, served: ServedRows, start: int, stop: int) -> "pl.DataFrame":
    """Of rows `start` to `stop`: `prediction.id`, `.row`, `.time`, `.version`; the keys by the names of their
    inputs; of each view `VIEW.position`, `VIEW.as_of` and `VIEW.stale`; and each feature as `FEATURE`, with
    `FEATURE.default` for whether it is its default.
    """
    import polars as pl

    owners = served.owners[start:stop]
    first = int(owners[0])
    named = pl.Series(served.predictions[first : int(owners[-1]) + 1], dtype=pl.String)
    columns: dict[str, pl.Series] = {
        "prediction.id": named.gather(owners - first),
        "prediction.row": pl.Series(served.numbers[start:stop]),
        "prediction.time": _times(served.times_ms[start:stop]),
        "prediction.version": pl.Series([version], dtype=pl.String).new_from_index(0, stop - start),
    }
    for name, array in served.keys.items():
        columns[name] = _series(array[start:stop])
    for use, packed in zip(filling.uses, served.vectors, strict=True):
        columns |= _view_columns(use, packed[start:stop])
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


def _sizes(array: Array) -> Ints:
    """Of each element."""
    if array.dtype == object:
        return np.fromiter(map(len, array.tolist()), np.int64, count=len(array))
    return np.full(len(array), array.itemsize, np.int64)


def _series(array: Array) -> "pl.Series":
    import polars as pl

    if array.dtype == object:
        return pl.Series(array.tolist(), dtype=pl.String)
    return pl.Series(array)


def _times(milliseconds: Array) -> "pl.Series":
    import polars as pl

    return pl.Series(milliseconds.astype(np.int64)).cast(pl.Datetime("ms", "UTC"))
