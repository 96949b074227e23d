import contextlib
import math
from collections import deque
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.clock import ManualClock
from penstock.core.errors import ConfigurationError, CorruptArtifact, ModelFailed, WrongOutputs
from penstock.core.signature import Signature
from penstock.core.tensors import Tensors
from penstock.models.golden import (
    GOLDEN_ROWS_MAX,
    Golden,
    check_golden,
    declared_golden,
    examination,
    golden_rows,
)


def objects(*elements: Any) -> np.ndarray:
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array


class Fixed:
    """A runtime that gives the same outputs whatever it is asked."""

    signature = Signature.of(inputs={"x": "FP32[-1]"}, outputs={"y": "FP32[-1]"})

    def __init__(self, outputs: Tensors) -> None:
        self.outputs = outputs
        self.asked: list[Tensors] = []

    def run(self, tensors: Tensors, timeout_s: float) -> Tensors:
        self.asked.append(tensors)
        return self.outputs

    def close(self) -> None:
        pass


INPUTS: Tensors = {"x": np.array([1, 2, 3], "<f4")}


def check(given_outputs: Tensors, expected: Tensors) -> None:
    check_golden(Fixed(given_outputs), Golden(INPUTS, expected), model="m", timeout_s=5.0)


def test_round_trip() -> None:
    inputs: Tensors = {
        "f": np.array([[1.5, math.nan], [math.inf, -0.0]], "<f4"),
        "s": objects("é", "").reshape(2, 1),
        "b": objects(b"\xff\0", b""),
    }
    outputs: Tensors = {"y": np.array([True, False]), "z": np.array([-(2**63), 2**63 - 1], "<i8")}
    again = Golden.decode(Golden(inputs, outputs).encode())
    for found, wanted in ((again.inputs, inputs), (again.outputs, outputs)):
        assert list(found) == list(wanted)
        for name, array in wanted.items():
            assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
            if array.dtype == object:
                assert found[name].tolist() == array.tolist()
            else:
                assert found[name].tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode(5),
        msgspec.msgpack.encode([]),
        msgspec.msgpack.encode({"inputs": {}}),
        msgspec.msgpack.encode({"inputs": [], "outputs": []}),
        msgspec.msgpack.encode({"inputs": {"x": ["<f4", [2], b"abc"]}, "outputs": {}}),
        msgspec.msgpack.encode({"inputs": {"x": ["<f4", [5], b"abcd"]}, "outputs": {}}),
        msgspec.msgpack.encode({"inputs": {"x": ["what", [1], b"abcd"]}, "outputs": {}}),
        msgspec.msgpack.encode({"inputs": {"x": ["|O", [1], b"abcdefgh"]}, "outputs": {}}),
        msgspec.msgpack.encode({"inputs": {"x": ["|O", [3], ["a"]]}, "outputs": {}}),
        msgspec.msgpack.encode({"inputs": {"x": 5}, "outputs": {}}),
        msgspec.msgpack.encode({"inputs": {"x": ["<f4", [1], 7]}, "outputs": {}}),
        Golden(INPUTS, INPUTS).encode()[:-1],
    ],
)
def test_what_are_no_golden_rows(content: bytes) -> None:
    with pytest.raises(CorruptArtifact):
        Golden.decode(content)


@given(st.binary(max_size=60))
def test_any_bytes_are_golden_rows_or_corrupt(content: bytes) -> None:
    with contextlib.suppress(CorruptArtifact):
        Golden.decode(content)


@given(st.integers(1, 500))
def test_rows_are_spread_over_the_samples(rows: int) -> None:
    picked = golden_rows({"x": np.arange(rows), "s": objects(*map(str, range(rows)))})
    values = picked["x"].tolist()
    assert len(values) == min(rows, GOLDEN_ROWS_MAX)
    assert values == sorted(set(values))
    assert values[0] == 0
    assert values[-1] == rows - 1 or rows == 1
    assert picked["s"].tolist() == list(map(str, values))
    gaps = np.diff(values)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


def test_the_same_answers_pass() -> None:
    runtime = Fixed({"y": np.array([1.0, 1000.0, math.nan])})
    expected: Tensors = {"y": np.array([1.00009, 1000.09, math.nan])}
    check_golden(runtime, Golden(INPUTS, expected), model="m", timeout_s=5.0)
    assert runtime.asked == [INPUTS]
    check({"s": objects("a", "b"), "more": np.zeros(2)}, {"s": objects("a", "b")})
    check({"y": np.array([math.inf, -math.inf])}, {"y": np.array([math.inf, -math.inf])})
    check({"y": np.array([[1, 2], [3, 4]])}, {"y": np.array([[1, 2], [3, 4]])})


@pytest.mark.parametrize(
    ("given_output", "expected", "row", "differing"),
    [
        (np.array([1.0, 2.0003, 3.0]), np.array([1.0, 2.0, 3.0]), 1, 1),
        (np.array([0.0002, 2.0, 4.0]), np.array([0.0, 2.0, 3.0]), 0, 2),
        (np.array([1.0, 2.0, math.nan]), np.array([1.0, 2.0, 3.0]), 2, 1),
        (np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, math.nan]), 2, 1),
        (np.array([math.inf, 0.0, 0.0]), np.array([-math.inf, 0.0, 0.0]), 0, 1),
        (np.array([math.inf, 0.0, 0.0]), np.array([1.0, 0.0, 0.0]), 0, 1),
        (np.array([1.0, 0.0, 0.0]), np.array([math.inf, 0.0, 0.0]), 0, 1),
        (np.array([1, 2, 4]), np.array([1, 2, 3]), 2, 1),
        (np.array([[0.0, 0.0], [0.0, 1.0]]), np.array([[0.0, 0.0], [0.0, 0.0]]), 1, 1),
        (objects("a", "b"), objects("a", "c"), 1, 1),
    ],
)
def test_other_answers_are_named(
    given_output: np.ndarray, expected: np.ndarray, row: int, differing: int
) -> None:
    with pytest.raises(WrongOutputs) as raised:
        check({"y": given_output}, {"y": expected})
    assert f"on golden row {row} output 'y' is {given_output.tolist()[row]!r}, " in str(raised.value)
    assert f"it should be {expected.tolist()[row]!r} " in str(raised.value)
    assert f"({differing} of the {len(expected)} rows that ran together differ)" in str(raised.value)


@pytest.mark.parametrize(
    "outputs", [{}, {"z": np.zeros(3)}, {"y": np.zeros(2)}, {"y": np.zeros((3, 2))}, {"y": np.zeros(0)}]
)
def test_answers_of_another_form(outputs: Tensors) -> None:
    with pytest.raises(WrongOutputs, match="output 'y'"):
        check(outputs, {"y": np.zeros(3)})


SIGNATURE = Signature.of(inputs={"x": "FP32[-1]", "s": "STRING[-1]"}, outputs={"y": "INT64[-1]"})


def test_golden_rows_as_a_user_writes_them() -> None:
    golden = declared_golden("m", SIGNATURE, {"s": ["a", "b"], "x": [1, 2]}, {"y": [3, 4]})
    assert list(golden.inputs) == ["x", "s"]
    assert (golden.inputs["x"].dtype, golden.outputs["y"].dtype) == ("<f4", "<i8")
    assert golden.outputs["y"].tolist() == [3, 4]


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({"x": [1.0]}, {"y": [1]}),
        ({"x": ["a"], "s": ["a"]}, {"y": [1]}),
        ({"x": [1.0], "s": ["a"]}, {"z": [1]}),
        ({"x": [1.0], "s": ["a"]}, {"y": [1, 2]}),
        ({"x": [], "s": []}, {"y": []}),
        ({"x": [[1.0, 2.0]], "s": ["a"]}, {"y": [1]}),
        ({"x": [math.nan], "s": ["a"]}, {"y": [1]}),
        ({"x": [1.0] * 65, "s": ["a"] * 65}, {"y": [1] * 65}),
    ],
)
def test_golden_rows_that_do_not_fit(inputs: Any, outputs: Any) -> None:
    with pytest.raises(ConfigurationError, match="model 'm': "):
        declared_golden("m", SIGNATURE, inputs, outputs)


def test_an_examination_has_a_bound_on_time() -> None:
    clock = ManualClock()
    runtime = Fixed({"y": np.array([1.0], "<f4")})
    golden = Golden({"x": np.array([1.0], "<f4")}, {"y": np.array([1.0], "<f4")})

    def run_slowly(tensors: Tensors, timeout_s: float) -> Tensors:
        clock.advance(0.25)
        return runtime.outputs

    runtime.run = run_slowly  # type: ignore[method-assign]

    def tried(latency_s: float | None) -> None:
        deque(
            examination(golden, clock, model="m", timeout_s=5.0, latency_s=latency_s)(runtime) or (), maxlen=0
        )  # type: ignore[arg-type]

    for latency_s in (None, 0.25):
        tried(latency_s)
    with pytest.raises(ModelFailed, match=r"took 250\.0 ms, and may take 200\.0 ms") as slow:
        tried(0.2)
    assert not isinstance(slow.value, WrongOutputs), "what it gives is right"
    runtime.outputs = {"y": np.array([2.0], "<f4")}
    with pytest.raises(WrongOutputs, match="golden row 0"):
        tried(None)


class Paced:
    """A runtime that doubles, and takes `fixed_s` for a run and `row_s` for each row of it."""

    def __init__(self, clock: ManualClock, *, fixed_s: float, row_s: float, shape: str = "FP32[-1]") -> None:
        self.signature = Signature.of(inputs={"x": shape}, outputs={"y": shape})
        self.clock, self.fixed_s, self.row_s = clock, fixed_s, row_s
        self.wrong_from = 64
        self.sizes: list[int] = []

    def run(self, tensors: Tensors, timeout_s: float) -> Tensors:
        self.clock.advance(self.fixed_s + self.row_s * len(tensors["x"]))
        self.sizes.append(len(tensors["x"]))
        return {"y": np.where(tensors["x"] < self.wrong_from, 2 * tensors["x"], 0).astype("<f4")}


@pytest.mark.parametrize(
    ("fixed_s", "row_s", "shape", "sizes"),
    [
        (0.0, 0.00005, "FP32[-1]", [1, 2, 4, 8, 16, 32, 1]),
        (0.0, 0.003, "FP32[-1]", [1, 2] + [1] * 61),
        (0.0, 0.02, "FP32[-1]", [1, 2] + [1] * 61),
        (0.02, 0.00001, "FP32[-1]", [1, 2, 4, 8, 16, 32, 1]),
        (0.0, 0.003, "FP32[64]", [64]),
    ],
)
def test_rows_are_tried_a_few_at_a_time(fixed_s: float, row_s: float, shape: str, sizes: list[int]) -> None:
    """Together where that costs hardly more than one by itself, and where the model takes no fewer."""
    clock = ManualClock()
    runtime = Paced(clock, fixed_s=fixed_s, row_s=row_s, shape=shape)
    x = np.arange(64, dtype="<f4")
    golden = Golden({"x": x}, {"y": 2 * x})
    examine = examination(golden, clock, model="m", timeout_s=5.0, latency_s=None)
    pieces = examine(runtime)  # type: ignore[arg-type]
    assert pieces is not None
    assert sum(1 for _ in pieces) == len(runtime.sizes)
    assert runtime.sizes == sizes
    runtime.wrong_from = 50
    with pytest.raises(WrongOutputs, match="on golden row 50 "):
        deque(examine(runtime) or (), maxlen=0)  # type: ignore[arg-type]
