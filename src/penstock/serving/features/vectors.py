"""What was read for each row of a batch, as outputs that no caller sees.

They go the way of the model's outputs, through batches that are cut and answers that are kept, and are found
again where an answer is recorded. Of each view it is one array of words of 8 bytes: the update's position, the
time as of which it was read, which features are defaults, and the features.
"""

from typing import Final, NamedTuple

import numpy as np

from penstock.core.tensors import Array, DataType
from penstock.features.reader import Reading
from penstock.features.timeline import Column, Ints, Mask
from penstock.features.view import FeatureView

__all__ = ["Vectors", "key_output_name", "output_name", "pack_vectors", "read_vectors"]

_HEAD_WORDS: Final = 3
_STALE_BIT: Final = 63


class Vectors(NamedTuple):
    """Of some rows: what was read of one view. `defaulted` is by feature."""

    positions: Ints
    as_of_ms: Ints
    stale: Mask
    columns: list[Column]
    defaulted: list[Mask]


def output_name(view: FeatureView) -> str:
    """A name that no model's output has."""
    return f"\0{view.name}"


def key_output_name(name: str) -> str:
    """Likewise, for an input that is a key."""
    return f"\0\0{name}"


def pack_vectors(reading: Reading) -> Ints:
    """A row of words for each row."""
    words = np.empty((len(reading.positions), _HEAD_WORDS + len(reading.columns)), np.int64)
    words[:, 0] = reading.positions
    words[:, 1] = reading.as_of_ms
    bits = reading.stale.astype(np.int64) << _STALE_BIT
    for number, (column, mask) in enumerate(zip(reading.columns, reading.defaulted, strict=True)):
        if not reading.whole:
            bits |= mask.astype(np.int64) << number
        words[:, _HEAD_WORDS + number] = column.view(np.int64) if column.dtype == np.float64 else column
    words[:, 2] = bits
    return words


def read_vectors(view: FeatureView, packed: Array) -> Vectors:
    """Of rows of an output that `pack_vectors` gave."""
    words: Ints = packed.astype(np.int64, copy=False)
    bits = words[:, 2]
    columns = [
        _column(words[:, _HEAD_WORDS + number], each.datatype) for number, each in enumerate(view.features)
    ]
    defaulted = [(bits >> number & 1).astype(np.bool_) for number in range(len(view.features))]
    return Vectors(words[:, 0], words[:, 1], bits < 0, columns, defaulted)


def _column(words: Ints, datatype: DataType) -> Column:
    if datatype is DataType.FP64:
        return np.ascontiguousarray(words).view(np.float64)
    return words.astype(datatype.numpy)
