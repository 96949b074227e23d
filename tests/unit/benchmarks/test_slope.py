"""The slope and its standard error, against scipy's."""

import numpy as np
import pytest
from benchmarks.protocols.slope import slope
from scipy.stats import linregress


def test_slope_and_error_are_those_of_least_squares():
    random = np.random.default_rng(5)
    times_s = np.arange(0, 600, 5.0)
    values = 100 + 3 * times_s / 3600 + random.normal(0, 0.2, len(times_s))
    wanted = linregress(times_s, values)

    found = slope(times_s.tolist(), values.tolist())

    assert found is not None
    assert found.per_hour == pytest.approx(wanted.slope * 3600)
    assert found.standard_error == pytest.approx(wanted.stderr * 3600)


@pytest.mark.parametrize("times_s", [[], [1.0, 2.0], [1.0, 1.0, 1.0]])
def test_too_little_says_nothing(times_s):
    assert slope(times_s, [5.0] * len(times_s)) is None
