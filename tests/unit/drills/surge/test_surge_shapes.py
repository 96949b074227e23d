"""The curve's inverse against numerical integration, and what every shape promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InvalidInput
from penstock.drills.surge.shapes import SHAPES, Shape, make_shape, shape_of_bins

RATES = st.floats(1, 1e5)


def rate_at(shape: Shape, at_s: float) -> float:
    """Read off the pieces, one by one: independent of the inverse."""
    for segment in shape.segments:
        if at_s <= segment.seconds:
            return segment.rate_start + (segment.rate_end - segment.rate_start) * at_s / segment.seconds
        at_s -= segment.seconds
    return shape.segments[-1].rate_end


@given(st.sampled_from(SHAPES), RATES, RATES, st.floats(0.5, 600), st.floats(0.001, 0.999))
def test_so_many_are_expected_by_the_time_that_is_found(
    name: str, base: float, peak: float, duration_s: float, share: float
) -> None:
    shape = make_shape(name, base_per_s=base, peak_per_s=peak, duration_s=duration_s)
    expected = share * shape.requests_expected
    at_s = float(shape.times_at(np.array([expected]))[0])
    assert 0 <= at_s <= duration_s * (1 + 1e-9)
    edges = np.linspace(0, at_s, 4001)
    middles = (edges[1:] + edges[:-1]) / 2
    integral = sum(rate_at(shape, float(middle)) for middle in middles) * at_s / 4000
    assert integral == pytest.approx(expected, rel=0.01, abs=max(base, peak) * duration_s / 2000)


@given(st.sampled_from(SHAPES), RATES, RATES, st.floats(0.5, 600))
def test_a_shape_lasts_as_long_as_asked_and_keeps_to_its_rates(
    name: str, base: float, peak: float, duration_s: float
) -> None:
    shape = make_shape(name, base_per_s=base, peak_per_s=peak, duration_s=duration_s)
    assert shape.duration_s == pytest.approx(duration_s)
    low, high = min(base, peak), max(base, peak)
    for segment in shape.segments:
        assert low * 0.999 <= min(segment.rate_start, segment.rate_end)
        assert max(segment.rate_start, segment.rate_end) <= high * 1.001
    if shape.surge_end_s is not None:
        assert rate_at(shape, shape.duration_s) == pytest.approx(base), "it ends at normal load"


def test_nothing_comes_where_the_rate_is_zero() -> None:
    shape = shape_of_bins("trace", [0, 4, 0, 0, 1], peak_per_s=100, duration_s=5)
    times = shape.times_at(np.linspace(0, shape.requests_expected, 1001)[1:-1])
    assert (np.diff(times) >= 0).all()
    assert (((times >= 1) & (times <= 2)) | (times >= 4)).all()
    assert shape.peak_per_s == 100


@pytest.mark.parametrize(
    ("name", "base", "peak", "duration_s"),
    [
        ("square", 1, 2, 3),
        ("step", -1, 2, 3),
        ("step", 1, 0, 3),
        ("step", 1, 2, float("nan")),
        ("step", 1, 2, 1e9),
        ("step", 1, float("inf"), 3),
    ],
)
def test_nonsense_is_refused(name: str, base: float, peak: float, duration_s: float) -> None:
    with pytest.raises(InvalidInput):
        make_shape(name, base_per_s=base, peak_per_s=peak, duration_s=duration_s)


def test_a_trace_without_requests_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no requests"):
        shape_of_bins("trace", [0, 0], peak_per_s=1, duration_s=1)
