"""Quantiles of the buckets against quantiles of the values themselves."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.drills.surge.quantiles import BUCKETS, buckets_of, quantile_s


@given(st.lists(st.floats(2e-5, 99), min_size=1, max_size=200), st.floats(0, 1))
def test_within_one_in_a_hundred_of_the_value_at_that_rank(values: list[float], share: float) -> None:
    counts = np.bincount(buckets_of(np.array(values)), minlength=BUCKETS)
    exact = sorted(values)[max(math.ceil(share * len(values)), 1) - 1]
    assert quantile_s(counts, share) == pytest.approx(exact, rel=0.0101)


def test_nothing_counted_is_no_quantile_and_extremes_have_a_place() -> None:
    assert quantile_s(np.zeros(BUCKETS, dtype=np.int64), 0.5) is None
    assert list(buckets_of(np.array([0.0, 1e-9, 1e9]))) == [0, 0, BUCKETS - 1]
