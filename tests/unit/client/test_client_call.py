"""Calls on a clock that the test moves: whom they ask, when again, and what they raise."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.client.budget import RetryBudget
from penstock.client.call import Call, Failure, Kind
from penstock.client.endpoints import Endpoint, Endpoints
from penstock.client.errors import CallFailed, CallRefused, Unreachable
from penstock.client.retrying import RetryPolicy

URLS = ["http://a:1", "http://b:1", "http://c:1"]
POLICY = RetryPolicy(attempts_max=4, first_s=0.1, longest_s=1.0)


def new_call(urls: int = 2, *, tokens: float = 100, deadline_s: float = 30.0, drawn: float = 0.5) -> Call:
    budget = RetryBudget(share=0, floor_per_s=0, tokens_max=tokens)
    endpoints = Endpoints(URLS[:urls], lambda: drawn)
    return Call(POLICY, budget, endpoints, deadline_s=deadline_s, draw=lambda: drawn)


def failure(kind: Kind, endpoint: Endpoint, retry_after_s: float | None = None) -> Failure:
    status = {Kind.REFUSED: 503, Kind.QUOTA: 429}.get(kind)
    return Failure(
        kind=kind,
        endpoint=endpoint,
        why=f"{kind.value} there",
        reason=kind.value,
        status=status,
        retry_after_s=retry_after_s,
    )


def test_a_server_that_cannot_be_reached_costs_neither_time_nor_budget() -> None:
    call = new_call(3, tokens=0)
    asked = [call.begin(0.0)]
    for _ in range(2):
        assert call.failed(failure(Kind.UNREACHABLE, asked[-1]), 0.0) == 0.0
        asked.append(call.choose(0.0))
    assert len(set(asked)) == 3
    error = call.failed(failure(Kind.UNREACHABLE, asked[-1]), 0.0)
    assert isinstance(error, Unreachable)
    assert all(url in error.message for url in URLS)
    assert error.hint == "the client's retry budget is spent: too many of its calls fail"
    assert error.attempts == 3


def test_a_broken_connection_is_tried_at_once_elsewhere_then_after_a_pause() -> None:
    call = new_call(2)
    first = call.begin(0.0)
    assert call.failed(failure(Kind.BROKEN, first), 0.0) == 0.0
    second = call.choose(0.0)
    assert second is not first
    assert call.failed(failure(Kind.BROKEN, second), 0.0) == 0.1  # 0.5 of 0.2
    third = call.choose(0.1)
    pause_s = call.failed(failure(Kind.BROKEN, third), 0.1)
    assert pause_s == 0.0
    error = call.failed(failure(Kind.BROKEN, call.choose(0.1)), 0.1)
    assert isinstance(error, Unreachable)
    assert error.attempts == POLICY.attempts_max


def test_one_that_asked_to_wait_is_left_alone_while_another_is_up() -> None:
    call = new_call(2)
    first = call.begin(0.0)
    pause_s = call.failed(failure(Kind.REFUSED, first, retry_after_s=10.0), 0.0)
    assert pause_s == 0.05
    second = call.choose(0.05)
    assert second is not first
    pause_s = call.failed(failure(Kind.REFUSED, second, retry_after_s=3.0), 0.05)
    assert pause_s == pytest.approx(3.0 + 0.1)
    assert call.choose(0.05 + 3.1) is second


def test_a_quota_holds_at_every_server() -> None:
    call = new_call(2)
    pause_s = call.failed(failure(Kind.QUOTA, call.begin(0.0), retry_after_s=5.0), 0.0)
    assert pause_s == 5.05


def test_a_pause_past_the_deadline_is_not_made_and_costs_no_token() -> None:
    call = new_call(1, tokens=1, deadline_s=5.0)
    error = call.failed(failure(Kind.REFUSED, call.begin(0.0), retry_after_s=5.0), 0.0)
    assert isinstance(error, CallRefused)
    assert (error.status, error.reason, error.retry_after_s, error.attempts) == (503, "refused", 5.0, 1)
    assert error.url == "http://a:1"
    assert "deadline" in (error.hint or "")
    other = new_call(1, tokens=1, deadline_s=5.0)
    assert other.failed(failure(Kind.REFUSED, other.begin(0.0), retry_after_s=4.0), 0.0) == 4.05


def test_a_hedge_goes_elsewhere_and_takes_from_the_budget() -> None:
    call = new_call(2, tokens=1)
    first = call.begin(0.0)
    other = call.hedge(first, 0.0)
    assert other is not None
    assert other is not first
    assert call.hedge(first, 0.0) is None  # the budget is spent
    alone = new_call(1)
    assert alone.hedge(alone.begin(0.0), 0.0) is None


kinds = st.sampled_from(Kind)
waits = st.none() | st.floats(0, 20) | st.just(float("inf"))


@given(
    st.lists(st.tuples(kinds, waits, st.booleans()), min_size=40, max_size=40),
    st.integers(1, 3),
    st.floats(0.1, 30),
    st.integers(0, 3),
    st.integers(1, 6),
    st.integers(0, 1000),
)
def test_attempts_end_before_the_deadline_and_pass_neither_bound_nor_budget(
    outcomes: list[tuple[Kind, float | None, bool]],
    urls: int,
    deadline_s: float,
    tokens: int,
    attempts_max: int,
    seed: int,
) -> None:
    draw = random.Random(seed).random
    budget = RetryBudget(share=0, floor_per_s=0, tokens_max=tokens)
    endpoints = Endpoints(URLS[:urls], draw)
    policy = RetryPolicy(attempts_max=attempts_max)
    call = Call(policy, budget, endpoints, deadline_s=deadline_s, draw=draw)
    now_s = 0.0
    endpoint = call.begin(now_s)
    free = 0
    for kind, retry_after_s, hedged in outcomes:
        assert now_s < deadline_s
        if hedged:
            call.hedge(endpoint, now_s)
        endpoints.failed(endpoint, "it failed", now_s)
        given_before = budget.statistics().given
        decided = call.failed(failure(kind, endpoint, retry_after_s), now_s)
        if isinstance(decided, CallFailed):
            break
        assert decided >= 0
        if budget.statistics().given == given_before:
            free += 1
            assert (kind, decided) == (Kind.UNREACHABLE, 0.0)
        now_s += decided
        endpoint = call.choose(now_s)
    else:
        raise AssertionError("the call does not end")
    assert free < urls
    assert budget.statistics().given <= min(tokens, attempts_max - 1)
    assert call.attempts <= attempts_max + urls - 1
