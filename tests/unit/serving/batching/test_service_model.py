"""The fit against numpy.polyfit over the same window, its slowest decile clipped."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.serving.batching.service_model import ServiceModel

WINDOW = 50

batches = st.lists(st.tuples(st.integers(1, 1000), st.floats(1e-5, 10)), min_size=1, max_size=130)


def expected_fit(observed: list[tuple[int, float]]) -> tuple[float, float, float]:
    """(a, b, σ) after `observed`: a fit after each of the first ten batches and every tenth after."""
    slope = fixed = spread = 0.0
    for seen in range(1, len(observed) + 1):
        if seen > 10 and seen % 10:
            continue
        window = observed[:seen][-WINDOW:]
        n = np.array([rows for rows, _ in window], dtype=float)
        t = np.array([seconds for _, seconds in window])
        slowest = len(window) // 10
        if slowest:
            excess = t - (slope * n + fixed)
            t = np.minimum(excess, np.sort(excess)[-1 - slowest]) + (slope * n + fixed)
        steepest = t.mean() / n.mean()
        slope = steepest if np.ptp(n) == 0 else float(np.clip(np.polyfit(n, t, 1)[0], 0, steepest))
        fixed = max(0.0, float(t.mean() - slope * n.mean()))
        spread = float(np.sqrt(np.mean((t - slope * n - fixed) ** 2)))
    return slope, fixed, spread


def check_against_polyfit(observed: list[tuple[int, float]]) -> None:
    model = ServiceModel()
    for rows, seconds in observed:
        model.observe(rows, seconds)
    slope, fixed, spread = expected_fit(observed)
    longest = max(seconds for _, seconds in observed)
    assert model.per_row_s == pytest.approx(slope, rel=1e-6, abs=1e-9 * longest)
    assert model.fixed_s == pytest.approx(fixed, rel=1e-6, abs=1e-6 * longest)
    assert model.spread_s == pytest.approx(spread, rel=1e-6, abs=1e-6 * longest)
    statistics = model.statistics()
    assert statistics.batches == len(observed)
    assert (statistics.per_row_s, statistics.fixed_s) == (model.per_row_s, model.fixed_s)
    assert statistics.spread_s == model.spread_s


@given(batches)
def test_agrees_with_polyfit(observed: list[tuple[int, float]]) -> None:
    check_against_polyfit(observed)


@pytest.mark.parametrize("count", [49, 50, 51, 60, 130, 137])
def test_agrees_with_polyfit_past_the_window(count: int) -> None:
    rng = random.Random(count)
    check_against_polyfit([(rng.randint(1, 500), rng.expovariate(10)) for _ in range(count)])


def test_finds_the_line_behind_noise_and_outliers() -> None:
    rng = random.Random(1)
    model = ServiceModel()
    for batch in range(200):
        rows = rng.randint(1, 256)
        seconds = 2e-3 + 1e-4 * rows + rng.gauss(0, 1e-4)
        model.observe(rows, seconds + (0.5 if batch % 20 == 0 else 0.0))  # a twentieth pauses for half a second
    assert model.per_row_s == pytest.approx(1e-4, rel=0.05)
    assert model.fixed_s == pytest.approx(2e-3, rel=0.25)
    assert model.spread_s < 1e-3


def test_nothing_known() -> None:
    model = ServiceModel()
    assert model.predict_s(10) == 0.0
    assert model.rows_within(0.001) == math.inf


@given(batches, st.floats(1e-4, 20))
def test_rows_within_is_the_inverse_of_predict(observed: list[tuple[int, float]], budget_s: float) -> None:
    model = ServiceModel()
    for rows, seconds in observed:
        model.observe(rows, seconds)
    rows_within = model.rows_within(budget_s)
    assert rows_within > 0
    if rows_within == math.inf:
        assert model.per_row_s == 0
        return
    largest = math.floor(rows_within)
    if model.predict_s(0) < budget_s:
        assert model.predict_s(largest) <= budget_s * (1 + 1e-9)
        assert model.predict_s(largest + 1) >= budget_s * (1 - 1e-9)
    else:
        assert rows_within == 1.0


def test_it_forgets_what_left_the_window() -> None:
    model = ServiceModel()
    for _ in range(50):
        model.observe(10, 1.0)
    for _ in range(100):
        model.observe(10, 0.1)
    assert model.predict_s(10) == pytest.approx(0.1)
