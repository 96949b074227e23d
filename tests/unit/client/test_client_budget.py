"""The retry budget against a count of its own: what is given never passes what was put in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.client.budget import RetryBudget
from penstock.core.errors import InvalidInput

events = st.lists(st.tuples(st.sampled_from(["call", "take", "wait"]), st.floats(0, 5)), max_size=300)


@given(events, st.floats(0, 1), st.floats(0, 5), st.floats(0, 20))
def test_retries_never_pass_the_budget(
    steps: list[tuple[str, float]], share: float, floor_per_s: float, tokens_max: float
) -> None:
    budget = RetryBudget(share=share, floor_per_s=floor_per_s, tokens_max=tokens_max)
    now_s, calls, given_ = 0.0, 0, 0
    for what, amount in steps:
        if what == "wait":
            now_s += amount
        elif what == "call":
            budget.call(now_s)
            calls += 1
        elif budget.take(now_s):
            given_ += 1
        assert given_ <= tokens_max + share * calls + floor_per_s * now_s + 1e-6
    assert budget.statistics().given == given_


def test_ten_calls_pay_for_one_retry() -> None:
    budget = RetryBudget(share=0.1, floor_per_s=0, tokens_max=5)
    assert [budget.take(0.0) for _ in range(6)] == [True] * 5 + [False]
    for _ in range(10):
        budget.call(0.0)
    assert budget.take(0.0)
    assert not budget.take(0.0)
    assert budget.statistics().denied == 2


def test_the_floor_is_by_the_second_and_kept_up_to_the_bound() -> None:
    budget = RetryBudget(share=0, floor_per_s=2, tokens_max=3)
    assert [budget.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert budget.take(0.5)
    assert not budget.take(0.9)
    assert [budget.take(1000.0) for _ in range(4)] == [True, True, True, False]


def test_a_clock_that_goes_backwards_gives_nothing() -> None:
    budget = RetryBudget(share=0, floor_per_s=1, tokens_max=1)
    assert budget.take(10.0)
    assert not budget.take(0.0)
    assert not budget.take(10.0)


@pytest.mark.parametrize("name", ["share", "floor_per_s", "tokens_max"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_nonsense_is_refused(name: str, value: float) -> None:
    with pytest.raises(InvalidInput, match=name):
        RetryBudget(**{name: value})
