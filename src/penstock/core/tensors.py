"""Tensors: a model's inputs or outputs, `dict[str, numpy.ndarray]` with the rows on the first axis."""

import enum
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "DataType", "Tensors", "concatenate_rows", "row_count", "slice_rows", "tensors_bytes"]

Array = npt.NDArray[np.generic]
Tensors = dict[str, Array]

# What an element of a text or binary tensor is taken to weigh beyond its own bytes (a Python object's header).
OBJECT_OVERHEAD_BYTES = 49


class DataType(enum.Enum):
    """Element types by their names in the Open Inference Protocol (V2).

    The protocol has one type, BYTES, for text and for raw bytes. A model always means one of the two, so
    signatures tell them apart: STRING elements are `str` and travel as BYTES in UTF-8, BYTES elements are
    `bytes`. In memory both are arrays of objects. BF16, which numpy does not have, is float32 in memory and
    the upper two bytes of that on the wire.
    """

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BF16 = "BF16"
    BYTES = "BYTES"
    STRING = "STRING"

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The element type in memory, little-endian."""
        return _NUMPY[self]

    @property
    def wire(self) -> str:
        """The name on the wire, as V2 has it."""
        return "BYTES" if self is DataType.STRING else self.value

    @property
    def is_float(self) -> bool:
        return self in _FLOATS

    @property
    def is_object(self) -> bool:
        return self is DataType.STRING or self is DataType.BYTES

    @classmethod
    def of(cls, dtype: np.dtype[np.generic]) -> "DataType":
        """The element type of a numpy dtype. Text and object arrays are taken to be STRING.

        Raises `KeyError` for dtypes that have no name in V2 (dates, complex numbers, records).
        """
        if dtype.kind in "OUT":
            return cls.STRING
        if dtype.kind == "S":
            return cls.BYTES
        return _BY_NUMPY[dtype.newbyteorder("<")]


_NUMPY: dict[DataType, np.dtype[np.generic]] = {
    DataType.BOOL: np.dtype("?"),
    DataType.UINT8: np.dtype("<u1"),
    DataType.UINT16: np.dtype("<u2"),
    DataType.UINT32: np.dtype("<u4"),
    DataType.UINT64: np.dtype("<u8"),
    DataType.INT8: np.dtype("<i1"),
    DataType.INT16: np.dtype("<i2"),
    DataType.INT32: np.dtype("<i4"),
    DataType.INT64: np.dtype("<i8"),
    DataType.FP16: np.dtype("<f2"),
    DataType.FP32: np.dtype("<f4"),
    DataType.FP64: np.dtype("<f8"),
    DataType.BF16: np.dtype("<f4"),
    DataType.BYTES: np.dtype("O"),
    DataType.STRING: np.dtype("O"),
}
_BY_NUMPY = {
    dtype: datatype
    for datatype, dtype in _NUMPY.items()
    if not datatype.is_object and datatype is not DataType.BF16
}
_FLOATS = frozenset({DataType.FP16, DataType.FP32, DataType.FP64, DataType.BF16})


def row_count(tensors: Mapping[str, Array]) -> int:
    """How many rows the tensors have; 0 for no tensors. They are taken to agree."""
    for array in tensors.values():
        return len(array)
    return 0


def concatenate_rows(parts: Sequence[Tensors]) -> Tensors:
    """One set of tensors with the rows of all `parts`, in their order. All have the first one's names."""
    assert parts, "there is nothing to concatenate"
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def slice_rows(tensors: Tensors, start: int, stop: int) -> Tensors:
    """Rows `start` to `stop`, as views."""
    return {name: array[start:stop] for name, array in tensors.items()}


def tensors_bytes(tensors: Mapping[str, Array]) -> int:
    """About how much memory the tensors hold."""
    size_bytes = 0
    for array in tensors.values():
        size_bytes += array.nbytes if array.dtype.kind != "O" else _object_bytes(array)
    return size_bytes


def _object_bytes(array: Array) -> int:
    elements: list[str | bytes] = array.ravel().tolist()
    return int(array.nbytes) + sum(len(element) + OBJECT_OVERHEAD_BYTES for element in elements)
