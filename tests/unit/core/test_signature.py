import math
import re
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from penstock.core.errors import InvalidInput
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import DataType

BAD_NOTATIONS = (
    *("", "FP32", "?[-1]", "[-1]", "FP33[-1]", "fp32[-1]", "INT64?[-1]", "STRING?[-1]", "FP32??[-1]"),
    *("FP32[]", "FP32[-1", "FP32[-1]]", "FP32[-1] x", "FP32[1.5]", "FP32[-1,a]", "FP32[-1,]"),
    *("FP32[0]", "FP32[-2]", "FP32[-1,-2]"),
)
OUT = {"y": "FP32[-1]"}


def signature(**inputs: str) -> Signature:
    return Signature.of(inputs=inputs, outputs=OUT)


def f4(*shape: int) -> np.ndarray:
    return np.zeros(shape, "<f4")


def text(*elements: object) -> np.ndarray:
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array


# Notation


@given(
    st.sampled_from(list(DataType)),
    st.tuples(st.integers(-1, 9).filter(bool), st.lists(st.integers(-1, 9), max_size=4).map(tuple)),
    st.booleans(),
)
def test_notation_round_trip(datatype: DataType, axes: tuple[int, tuple[int, ...]], nan: bool) -> None:
    spec = TensorSpec(name="x", datatype=datatype, shape=(axes[0], *axes[1]), nan=nan and datatype.is_float)
    assert TensorSpec.parse("x", spec.describe()) == spec
    assert msgspec.json.decode(msgspec.json.encode(spec), type=TensorSpec) == spec


@pytest.mark.parametrize("notation", BAD_NOTATIONS)
def test_bad_notation_is_named(notation: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        TensorSpec.parse("x", notation)
    assert raised.value.where == "x"
    assert raised.value.hint


def test_signatures_need_names_once_on_both_sides() -> None:
    spec = TensorSpec.parse("x", "FP32[-1]")
    for inputs, outputs, where in (
        ((), (spec,), "inputs"),
        ((spec,), (), "outputs"),
        ((spec, spec), (spec,), "inputs"),
    ):
        with pytest.raises(InvalidInput) as raised:
            Signature(inputs=inputs, outputs=outputs)
        assert raised.value.where == where


def test_derived_facts() -> None:
    spec = TensorSpec.parse("x", "FP32[-1, 2, 3]")
    assert (spec.row_shape, spec.row_elements, spec.numeric, spec.restricted) == ((2, 3), 6, True, True)
    assert TensorSpec.parse("x", "FP32?[-1]").restricted is False
    assert TensorSpec.parse("x", "STRING[-1]").numeric is False
    for open_shape in ("FP32[-1, -1]", "FP32[4, 2]"):
        spec = TensorSpec.parse("x", open_shape)
        assert (spec.row_shape, spec.row_elements) == (None, 0)
    assert signature(x="FP32[-1]").rows_fixed is None
    assert signature(x="FP32[4]", z="FP32[-1]").rows_fixed == 4


# What `conform` takes


@pytest.mark.parametrize(
    ("notation", "given_shape", "shape"),
    [
        ("FP32[-1, 3]", (2, 3), (2, 3)),
        ("FP32[-1]", (2,), (2,)),
        ("FP32[-1]", (2, 1), (2,)),
        ("FP32[-1, 1]", (2,), (2, 1)),
        ("FP32[-1, -1]", (2,), (2, 1)),
        ("FP32[-1, -1]", (2, 7), (2, 7)),
        ("FP32[-1, -1, 3]", (2, 7, 3), (2, 7, 3)),
        ("FP32[-1, 3]", (2, 3, 1), (2, 3)),
        ("FP32[4, 3]", (4, 3), (4, 3)),
        ("FP32[4]", (4, 1), (4,)),
    ],
)
def test_shapes_that_fit(notation: str, given_shape: tuple[int, ...], shape: tuple[int, ...]) -> None:
    array = np.arange(math.prod(given_shape), dtype="<f4").reshape(given_shape)
    conformed = signature(x=notation).conform({"x": array})["x"]
    assert conformed.shape == shape
    assert conformed.ravel().tolist() == array.ravel().tolist()


def test_inputs_come_in_the_signatures_order_and_are_not_copied() -> None:
    given_tensors = {"b": f4(2), "a": np.zeros((2, 2), "<i8")}
    conformed = signature(a="INT64[-1, 2]", b="FP32[-1]").conform(given_tensors)
    assert list(conformed) == ["a", "b"]
    assert all(np.shares_memory(conformed[name], given_tensors[name]) for name in "ab")


# What `conform` refuses


@pytest.mark.parametrize(
    ("specs", "tensors", "where", "said"),
    [
        ({"a": "FP32[-1]", "b": "FP32[-1]"}, {"a": f4(1)}, "b", "missing ['b']"),
        ({"a": "FP32[-1]"}, {"a": f4(1), "c": f4(1)}, "c", "unknown ['c']"),
        ({"a": "FP32[-1]"}, {"c": f4(1)}, "a", "missing ['a'], unknown ['c']"),
        ({"a": "FP32[-1]"}, {}, "a", "missing ['a']"),
        ({"a": "FP32[-1]"}, {"a": np.zeros(1, "<f8")}, "a", "expected FP32, got float64"),
        ({"a": "FP32[-1]"}, {"a": np.zeros(1, ">f4")}, "a", "expected FP32"),
        ({"a": "STRING[-1]"}, {"a": np.array(["x"])}, "a", "expected STRING"),
        ({"a": "FP32[-1, 3]"}, {"a": f4(2, 4)}, "a", "expected shape [-1, 3], got [2, 4]"),
        ({"a": "FP32[-1, 3]"}, {"a": f4(3)}, "a", "expected shape [-1, 3], got [3]"),
        ({"a": "FP32[-1]"}, {"a": f4(2, 2)}, "a", "expected shape [-1], got [2, 2]"),
        ({"a": "FP32[-1]"}, {"a": f4(2, 1, 1, 2)}, "a", "expected shape [-1]"),
        ({"a": "FP32[-1]"}, {"a": f4()}, "a", "expected shape [-1], got []"),
        ({"a": "FP32[-1, 3]"}, {"a": f4()}, "a", "expected shape [-1, 3], got []"),
        ({"a": "FP32[4]"}, {"a": f4(3)}, "a", "expected shape [4], got [3]"),
        ({"a": "FP32[-1]"}, {"a": f4(0)}, "a", "zero rows"),
        ({"a": "FP32[-1, 2]"}, {"a": f4(0, 2)}, "a", "zero rows"),
        ({"a": "FP32[-1]", "b": "FP32[-1]"}, {"a": f4(2), "b": f4(3)}, "b", "3 rows where the inputs before"),
        ({"a": "FP32[-1]", "b": "FP32[-1]"}, {"a": f4(2), "b": f4(0)}, "b", "zero rows"),
    ],
)
def test_what_does_not_fit(specs: dict[str, str], tensors: dict[str, Any], where: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(said)) as raised:
        signature(**specs).conform(tensors)
    assert raised.value.where == where


@given(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3))
def test_any_shape_is_taken_or_named(shape: tuple[int, ...]) -> None:
    for notation in ("FP32[-1]", "FP32[-1, 1]", "FP32[-1, -1]", "FP32[-1, 2, 3]", "FP32[2, 3]"):
        spec = TensorSpec.parse("x", notation)
        try:
            conformed = signature(x=notation).conform({"x": f4(*shape)})["x"]
        except InvalidInput:
            continue
        else:
            assert conformed.ndim == len(spec.shape)
            assert all(axis in (-1, length) for axis, length in zip(spec.shape, conformed.shape, strict=True))
            assert len(conformed) > 0
            assert conformed.size == math.prod(shape)


# The values that `conform` refuses


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_without_a_place(datatype: str, bad: float) -> None:
    array = np.ones((5, 3), DataType(datatype).numpy)
    array[3, 1] = bad
    with pytest.raises(InvalidInput, match="input 'x', row 3") as raised:
        signature(x=f"{datatype}[-1, 3]").conform({"x": array})
    assert raised.value.where == "x"
    conformed = signature(x=f"{datatype}?[-1, 3]").conform({"x": array})
    np.testing.assert_array_equal(conformed["x"], array)


@given(hnp.arrays(st.sampled_from(["<f2", "<f4", "<f8"]), st.tuples(st.integers(1, 9), st.integers(1, 3))))
def test_finite_is_what_math_calls_finite(array: np.ndarray) -> None:
    """Squares that overflow are no infinity: the shortcut by a dot product must not refuse them."""
    finite = all(map(math.isfinite, array.ravel().tolist()))
    checked = signature(x=f"{DataType.of(array.dtype).value}[-1, -1]")
    if finite:
        checked.conform({"x": array})
    else:
        first = next(row for row, values in enumerate(array.tolist()) if not all(map(math.isfinite, values)))
        with pytest.raises(InvalidInput, match=f"row {first}:"):
            checked.conform({"x": array})


def test_large_squares_are_no_infinity() -> None:
    signature(x="FP32[-1]").conform({"x": np.full(3, 3e38, "<f4")})
    signature(x="FP64[-1]").conform({"x": np.full(3, 1e300, "<f8")})


def categorical(datatype: DataType, categories: tuple[Any, ...], nan: bool = False) -> Signature:
    spec = TensorSpec(name="c", datatype=datatype, shape=(-1,), categories=categories, nan=nan)
    return Signature(inputs=(spec,), outputs=(TensorSpec.parse("y", "FP32[-1]"),))


def test_categories() -> None:
    known = categorical(DataType.STRING, ("EWR", "JFK"))
    assert known.conform({"c": text("JFK", "EWR")})["c"].tolist() == ["JFK", "EWR"]
    with pytest.raises(InvalidInput, match="input 'c', row 1: unknown category 'LGA'") as raised:
        known.conform({"c": text("JFK", "LGA")})
    assert raised.value.hint == "known are 'EWR', 'JFK'"
    numbers = categorical(DataType.INT64, (1, 2))
    numbers.conform({"c": np.array([2, 1], "<i8")})
    with pytest.raises(InvalidInput, match="row 0: unknown category 3"):
        numbers.conform({"c": np.array([3], "<i8")})


def test_many_categories_are_not_all_listed() -> None:
    with pytest.raises(InvalidInput) as raised:
        categorical(DataType.STRING, tuple(f"c{i}" for i in range(15))).conform({"c": text("no")})
    assert (raised.value.hint or "").endswith("and 5 more")
    assert "c10" not in (raised.value.hint or "")
