import numpy as np
import pytest

from penstock.models.compilation.parity import compare, count_float32_rows, round_to_float32


def labelled(labels, probabilities):
    return {"label": np.array(labels), "probabilities": np.array(probabilities, dtype=np.float32)}


def test_equal_answers_pass():
    answers = labelled([0, 1], [[0.9, 0.1], [0.2, 0.8]])
    parity = compare(answers, answers)
    assert parity.passed
    assert (parity.rows, parity.difference_max) == (2, 0.0)


def test_rows_are_counted_by_label_and_by_probability():
    native = labelled([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    compiled = labelled([0, 0, 1], [[0.9, 0.1], [0.2, 0.8], [0.31, 0.69]])
    parity = compare(native, compiled)
    assert not parity.passed
    assert (parity.labels_differ, parity.values_differ) == (1, 1)
    assert parity.difference_max == pytest.approx(0.01, rel=1e-4)


@pytest.mark.parametrize(("difference", "passes"), [(0.9e-5, True), (1.2e-5, False)])
def test_probabilities_are_compared_absolutely(difference, passes):
    native = {"label": np.array([0]), "probabilities": np.array([[1e-3, 0.999]])}
    compiled = {"label": np.array([0]), "probabilities": np.array([[1e-3 + difference, 0.999]])}
    assert compare(native, compiled).passed is passes


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_values_are_compared_on_their_own_scale(unit):
    native = {"prediction": np.array([1.0, -1.0, 0.0]) * unit}
    near = {"prediction": np.array([1.0, -1.0, 0.5e-5]) * unit}
    far = {"prediction": np.array([1.0, -1.0, 5e-5]) * unit}
    assert compare(native, near).passed
    assert compare(native, far).values_differ == 1


@pytest.mark.parametrize("zeros", [0, 90])
def test_one_large_value_does_not_excuse_the_others(zeros):
    values = np.concatenate([np.zeros(zeros), np.linspace(1.0, 2.0, 99), [1e12]])
    wrong = np.where((values > 0) & (values < 3), values + 1.0, values)
    assert compare({"prediction": values}, {"prediction": wrong}).values_differ == 99
    on_zeros = np.where(values == 0, 1e-3, values)
    assert compare({"prediction": values}, {"prediction": on_zeros}).values_differ == zeros


def test_each_output_has_a_scale_of_its_own():
    native = {"prediction": np.array([[1e9, 1.0], [2e9, 0.0], [3e9, 2.0]])}
    compiled = {"prediction": np.array([[1e9, 1.0], [2e9, 1e-3], [3e9, 2.0]])}
    assert compare(native, compiled).values_differ == 1
    assert compare(native, native).passed


def test_nothing_but_zeros_agrees_with_zeros_alone():
    zeros = {"prediction": np.zeros(3)}
    assert compare(zeros, zeros).passed
    assert compare(zeros, {"prediction": np.array([0.0, 0.0, 1e-9])}).values_differ == 1


def test_nan_and_infinity_agree_only_with_themselves():
    native = {"prediction": np.array([np.nan, np.inf, np.nan, 1.0, np.inf])}
    compiled = {"prediction": np.array([np.nan, np.inf, 1.0, np.nan, -np.inf])}
    parity = compare(native, compiled)
    assert parity.values_differ == 3
    assert np.isfinite(parity.difference_max)


def test_answers_of_another_shape_differ_everywhere():
    parity = compare({"prediction": np.zeros(3)}, {"prediction": np.zeros((3, 2))})
    assert parity.labels_differ == 3


def test_float32_rows_are_those_that_rounding_carries_over_a_threshold():
    threshold = np.float64(np.float32(0.1))
    x = {"x": np.array([threshold, np.nextafter(threshold, 1), 0.5])}

    def step(tensors):
        return {"prediction": (tensors["x"] > threshold).astype(np.float64)}

    assert count_float32_rows(step, x, step(x)) == 1


def test_nothing_is_run_again_where_float32_holds_every_input():
    def never(tensors):
        raise AssertionError("it was run again")

    tensors = {"x": np.array([0.5, np.nan]), "n": np.array([2**60]), "s": np.array(["a"], dtype=object)}
    assert round_to_float32(tensors)["x"] is tensors["x"]
    assert count_float32_rows(never, tensors, {"prediction": np.zeros(2)}) == 0
