"""Nobody comes back more often than allowed, before time, or out of order; nobody is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InvalidInput
from penstock.drills.surge.retrying import Retrying, RetryModel


@given(
    st.integers(0, 5),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.lists(st.tuples(st.floats(0, 9), st.integers(0, 3)), max_size=40),
)
def test_every_client_ends(retries_max: int, delay_s: float, first_failures: list[tuple[float, int]]) -> None:
    """All attempts fail at once: each client is at it 1 + retries_max times, or until the load ends."""
    crowd = Retrying(RetryModel(retries_max=retries_max, delay_s=delay_s), end_s=10.0)
    for at_s, kind in sorted(first_failures):
        crowd.failed(at_s, kind, 0)
    came_back, last_s = 0, 0.0
    while crowd.next_s is not None:
        assert crowd.due(crowd.next_s - 1e-9) == [], "nobody is early"
        for due_s, attempt, kind in crowd.due(crowd.next_s):
            assert last_s <= due_s < 10.0
            assert 1 <= attempt <= retries_max
            last_s = due_s
            came_back += 1
            crowd.failed(due_s, kind, attempt)
    assert len(crowd) == 0
    assert crowd.gave_up == len(first_failures)
    assert came_back <= retries_max * len(first_failures)
    if delay_s == 0:
        assert came_back == retries_max * len(first_failures)


def test_the_delay_is_from_the_failure() -> None:
    crowd = Retrying(RetryModel(retries_max=1, delay_s=2.0), end_s=10.0)
    assert crowd.failed(3.0, 7, 0)
    assert crowd.due(4.9) == []
    assert crowd.due(5.0) == [(5.0, 1, 7)]
    assert not crowd.failed(9.0, 7, 0), "the load has ended before it would be back"


@pytest.mark.parametrize(("retries_max", "delay_s"), [(-1, 0.0), (17, 0.0), (1, -0.1), (1, float("nan"))])
def test_nonsense_is_refused(retries_max: int, delay_s: float) -> None:
    with pytest.raises(InvalidInput):
        RetryModel(retries_max=retries_max, delay_s=delay_s)
