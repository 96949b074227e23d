import numpy as np
import pytest

from penstock.core.tensors import (
    OBJECT_OVERHEAD_BYTES,
    DataType,
    Tensors,
    concatenate_rows,
    row_count,
    slice_rows,
    tensors_bytes,
)

# From the Open Inference Protocol: name and size in bytes.
SIZES = {
    "BOOL": 1,
    "UINT8": 1,
    "UINT16": 2,
    "UINT32": 4,
    "UINT64": 8,
    "INT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "FP16": 2,
    "FP32": 4,
    "FP64": 8,
}
KINDS = {"B": "b", "U": "u", "I": "i", "F": "f"}


def objects(*elements: object) -> np.ndarray:
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_numeric_types(name: str, size: int) -> None:
    datatype = DataType(name)
    dtype = datatype.numpy
    assert (dtype.itemsize, dtype.kind) == (size, KINDS[name[0]])
    assert dtype.newbyteorder("<") == dtype
    assert datatype.wire == name
    assert datatype.is_float == name.startswith("FP")
    assert not datatype.is_object
    assert DataType.of(dtype) is DataType.of(dtype.newbyteorder(">")) is datatype


def test_text_and_bytes() -> None:
    for datatype in (DataType.STRING, DataType.BYTES):
        assert (datatype.wire, datatype.is_object, datatype.numpy) == ("BYTES", True, np.dtype(object))
        assert not datatype.is_float
    assert DataType.of(np.dtype("U3")) is DataType.of(np.dtype(object)) is DataType.STRING
    assert DataType.of(np.dtype("S3")) is DataType.BYTES
    assert set(SIZES) | {"BF16", "STRING", "BYTES"} == {datatype.value for datatype in DataType}


def test_bf16_is_float32_in_memory() -> None:
    assert (DataType.BF16.wire, DataType.BF16.numpy) == ("BF16", np.dtype("<f4"))
    assert DataType.BF16.is_float
    assert DataType.of(np.dtype("<f4")) is DataType.FP32


@pytest.mark.parametrize("dtype", ["datetime64[s]", "complex64", [("a", "i4")]])
def test_types_without_a_name(dtype: object) -> None:
    with pytest.raises(KeyError):
        DataType.of(np.dtype(dtype))


def test_rows() -> None:
    first: Tensors = {"x": np.array([[1, 2], [3, 4]]), "s": objects("a", "b")}
    second: Tensors = {"s": objects("c"), "x": np.array([[5, 6]])}
    together = concatenate_rows([first, second])
    assert list(together) == ["x", "s"]
    assert together["x"].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert together["s"].tolist() == ["a", "b", "c"]
    assert row_count(together) == 3
    assert row_count({}) == 0
    assert concatenate_rows([first]) is first
    with pytest.raises(AssertionError):
        concatenate_rows([])
    middle = slice_rows(together, 1, 3)
    assert middle["x"].tolist() == [[3, 4], [5, 6]]
    assert middle["s"].tolist() == ["b", "c"]
    assert np.shares_memory(middle["x"], together["x"])


def test_bytes() -> None:
    assert tensors_bytes({}) == 0
    assert tensors_bytes({"x": np.zeros((3, 5), "<f4"), "y": np.zeros(3, "?")}) == 3 * 5 * 4 + 3
    text = tensors_bytes({"s": objects("abc", b"", "de")})
    assert text == 3 * 8 + 5 + 3 * OBJECT_OVERHEAD_BYTES
