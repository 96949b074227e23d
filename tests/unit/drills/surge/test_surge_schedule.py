"""Arrivals: as many as the shape expects, where it expects them, each sent by exactly one generator."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.rng import seeded
from penstock.drills.surge.schedule import draw_schedule
from penstock.drills.surge.shapes import make_shape

SPIKE = make_shape("spike", base_per_s=300, peak_per_s=3000, duration_s=9)


def test_arrivals_follow_the_shape() -> None:
    at_s = draw_schedule(SPIKE, (1.0,), seeded(1), requests_max=10**6).at_s
    found, _ = np.histogram(at_s, bins=3, range=(0, 9))
    for count, expected in zip(found, (900, 9000, 900), strict=True):
        assert abs(count - expected) < 5 * expected**0.5
    # Gaps of a Poisson process: their deviation is their mean. Even gaps have none.
    gaps = np.diff(at_s[(at_s > 3) & (at_s < 6)])
    assert abs(gaps.std() / gaps.mean() - 1) < 0.05


def test_kinds_are_mixed_by_weight() -> None:
    kind = draw_schedule(SPIKE, (1.0, 3.0), seeded(2), requests_max=10**6).kind
    assert abs((kind == 1).mean() - 0.75) < 0.02


@given(st.integers(0, 2**32), st.integers(1, 7), st.integers(1, 20_000))
def test_shares_are_a_partition_of_what_the_seed_gives(seed: int, processes: int, requests_max: int) -> None:
    whole = draw_schedule(SPIKE, (1.0, 2.0), seeded(seed), requests_max=requests_max)
    assert len(whole.at_s) == len(whole.kind) <= requests_max
    assert (np.diff(whole.at_s) >= 0).all()
    shares = [whole.share(index, processes) for index in range(processes)]
    together = np.sort(np.concatenate([share.at_s for share in shares]))
    assert np.array_equal(together, whole.at_s)
    pairs = {pair for share in shares for pair in zip(share.at_s.tolist(), share.kind.tolist(), strict=True)}
    assert pairs == set(zip(whole.at_s.tolist(), whole.kind.tolist(), strict=True))
    again = draw_schedule(SPIKE, (1.0, 2.0), seeded(seed), requests_max=requests_max)
    assert np.array_equal(again.at_s, whole.at_s)
    assert np.array_equal(again.kind, whole.kind)
    assert whole.cut == (
        len(draw_schedule(SPIKE, (1.0, 2.0), seeded(seed), requests_max=10**6).at_s) > requests_max
    )


def test_a_limit_keeps_the_first_and_draws_no_others() -> None:
    """Drawn in full, this load would be 860 thousand million times."""
    long = make_shape("constant", base_per_s=0, peak_per_s=1e7, duration_s=86_400)
    at_s = draw_schedule(long, (1.0,), seeded(3), requests_max=10_000).at_s
    assert len(at_s) == 10_000
    # Ten thousand gaps of 0.1 µs; five deviations of their sum are five hundredths.
    assert abs(at_s[-1] - 1e-3) < 5e-5
