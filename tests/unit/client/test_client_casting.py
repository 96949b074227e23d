"""What users hand over becomes the model's types, unchanged in value, or is refused."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.client.casting import cast
from penstock.core.errors import InvalidInput
from penstock.core.signature import TensorSpec

WHOLE = ["UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"]


def spec(notation: str) -> TensorSpec:
    return TensorSpec.parse("x", notation)


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1), st.sampled_from([*WHOLE, "FP16", "FP32", "FP64"])
)
def test_whole_numbers_keep_their_value_or_are_refused(values: list[int], datatype: str) -> None:
    wanted = spec(f"{datatype}[-1]")

    def holds(value: int) -> bool:
        if wanted.dtype.kind in "iu":
            limits = np.iinfo(wanted.dtype.str)
            return bool(limits.min <= value <= limits.max)
        converted = wanted.dtype.type(value)  # type: ignore[call-arg]
        return bool(np.isfinite(converted)) and int(converted) == value

    with np.errstate(over="ignore"):
        fits = all(map(holds, values))
    try:
        array = cast(values, wanted)
    except InvalidInput:
        # 2^63 itself is a float, and refused with all that are as large: no int64 can tell.
        assert not fits or max(map(abs, values)) >= 2**63 - 1
    else:
        assert fits
        assert array.dtype == wanted.dtype
        assert [int(each) for each in array.tolist()] == values


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1))
def test_floats_are_rounded_and_never_become_infinite(values: list[float]) -> None:
    with np.errstate(over="ignore"):
        rounded = np.array(values).astype(np.float32)
    overflows = bool((np.isinf(rounded) & ~np.isinf(values)).any())
    try:
        array = cast(values, spec("FP32[-1]"))
    except InvalidInput:
        assert overflows
    else:
        assert not overflows
        np.testing.assert_array_equal(array, rounded)


@pytest.mark.parametrize(
    ("value", "notation", "expected"),
    [
        ([1.5, 2.5], "FP32[-1]", np.array([1.5, 2.5], np.float32)),
        ([[1, 2], [3, 4]], "FP32[-1, 2]", np.array([[1, 2], [3, 4]], np.float32)),
        ([1, 2], "FP32[-1, 1]", np.array([[1], [2]], np.float32)),
        (np.array([[1], [2]]), "INT8[-1]", np.array([1, 2], np.int8)),
        ([True, False], "BOOL[-1]", np.array([True, False])),
        (["a", "ü"], "BYTES[-1]", np.array(["a", "ü"], object)),
        (np.array(["a", "b"]), "BYTES[-1]", np.array(["a", "b"], object)),
        ([b"a", b"\xff"], "BYTES[-1]", np.array([b"a", b"\xff"], object)),
        (pl.Series([1, 2]), "FP64[-1]", np.array([1.0, 2.0])),
        (pl.Series(["a", "b"]), "BYTES[-1]", np.array(["a", "b"], object)),
        (np.array([1.0, 2.0], object), "FP32[-1]", np.array([1, 2], np.float32)),
        (np.arange(6.0)[::2], "FP64[-1]", np.array([0.0, 2.0, 4.0])),
        (np.array([1.0, 2.0], ">f4"), "FP32[-1]", np.array([1.0, 2.0], np.float32)),
        (range(3), "INT64[-1]", np.array([0, 1, 2])),
    ],
)
def test_values_in_the_model_s_types(value: Any, notation: str, expected: Any) -> None:
    array = cast(value, spec(notation))
    assert array.dtype == spec(notation).dtype
    assert array.flags.c_contiguous
    np.testing.assert_array_equal(array, expected)
    assert array.shape == expected.shape


@pytest.mark.parametrize(
    ("value", "notation", "said"),
    [
        (3.0, "FP32[-1]", "single value"),
        ("Paris", "BYTES[-1]", "single value"),
        ([1.5], "INT64[-1]", "expected INT64, got float64"),
        (["1"], "FP32[-1]", "expected FP32, got <U1"),
        ([1, "a"], "BYTES[-1]", "element 0: expected text or bytes, got 1"),
        ([1.0], "BYTES[-1]", "expected text or bytes, got 1.0"),
        (np.array([1.0]), "BYTES[-1]", "expected text or bytes, got float64"),
        ([[1, 2], [3]], "FP32[-1, 2]", "is no array"),
        ([[1, 2]], "FP32[-1, 3]", "expected shape"),
        ([0, 300, -1], "UINT8[-1]", "row 1: UINT8 cannot hold 300"),
        ([1, 2**24 + 1], "FP32[-1]", "row 1: FP32 cannot hold 16777217"),
        ([1e39], "FP32[-1]", "row 0: FP32 cannot hold 1e\\+39"),
        ([70_000], "FP16[-1]", "row 0: FP16 cannot hold 70000"),
        ([True], "INT64[-1]", "expected INT64, got bool"),
        ([1], "BOOL[-1]", "expected BOOL, got int64"),
        ([1.0, None], "FP32[-1]", "expected FP32, got object"),
        ([1j], "FP32[-1]", "expected FP32, got complex128"),
        (None, "FP32[-1]", "expected FP32, got object"),
        ([2**70], "INT64[-1]", "expected INT64, got object"),
    ],
)
def test_what_cannot_be_cast_is_told(value: Any, notation: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as raised:
        cast(value, spec(notation))
    assert raised.value.where == "x"
