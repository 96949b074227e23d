"""Capacity, recovery, the bound of one core and the cost of a refusal."""

import pytest
from benchmarks.surge.judge import (
    best_level,
    bound,
    good_share_from,
    levels_worth_trying,
    recovered_s,
    refusal_cost_us,
)
from hypothesis import given
from hypothesis import strategies as st
from surge_reports import WINDOW_S, seen, seen_class, seen_phase

FINE, BAD = (1000, 1000), (1000, 500)


def level(in_flight: int, good: int, late: int = 0):
    total = seen_class(good=good, late=late, p50_ms=1.0, p99_ms=2.0)
    return seen_phase(f"level-{in_flight}", total, in_flight=in_flight, seconds=2.0)


def test_capacity_is_the_best_level_by_what_is_in_time():
    best = best_level([level(1, 200), level(4, 600, late=200), level(16, 500, late=900)], [0.1, 0.8, 1.0])

    assert best is not None
    assert (best.rps, best.in_flight) == (300.0, 4)
    assert best.answer_us == pytest.approx(1000.0)  # 0.8 s for 800 answers, late ones too


def test_without_a_good_answer_there_is_no_capacity():
    assert best_level([level(1, 0, late=10)], [0.1]) is None


@given(
    bad=st.integers(0, 30),
    fine=st.integers(5, 30),
    before=st.lists(st.sampled_from([FINE, BAD]), max_size=20),
)
def test_it_is_normal_when_the_last_bad_window_is_over(bad, fine, before):
    run = seen([*before, *[BAD] * bad, *[FINE] * fine])

    assert recovered_s(run, 100.0 + len(before) * WINDOW_S) == pytest.approx(bad * WINDOW_S)


@given(fine=st.integers(0, 4))
def test_fewer_than_five_normal_windows_at_the_end_are_not_enough(fine):
    assert recovered_s(seen([*[BAD] * 5, *[FINE] * fine]), 100.0) is None


def test_what_breaks_again_was_not_normal():
    assert recovered_s(seen([*[FINE] * 6, *[BAD] * 6, *[FINE] * 6]), 100.0) == pytest.approx(1.2)


def test_one_request_of_a_thin_window_and_empty_windows_are_no_sign():
    assert recovered_s(seen([(3, 2), (0, 0), (2, 2), (0, 0), (4, 4)]), 100.0) == 0.0
    assert recovered_s(seen([(3, 1), (0, 0), (2, 2), (0, 0), (4, 4)]), 100.0) is None


def test_the_bound_is_what_refusals_leave_of_the_core():
    assert bound(10, refusal_us=30, answer_us=3000) == pytest.approx(0.91)
    assert bound(1, refusal_us=30, answer_us=3000) == 1.0
    assert bound(10, refusal_us=400, answer_us=3000) == 0.0


def test_a_refusal_costs_its_share_of_the_processor_time():
    refused = seen_phase("refused", seen_class(arrivals=1000, good=0, statuses={503: 995, 504: 5}))

    assert refusal_cost_us(refused, 0.04) == pytest.approx(40.0)


def test_where_anything_is_answered_there_is_no_cost_of_a_refusal():
    answered = seen_phase("refused", seen_class(arrivals=1000, good=1, statuses={200: 1, 503: 999}))

    assert refusal_cost_us(answered, 1.0) is None


def test_the_good_share_is_of_what_was_due_from_then_on():
    run = seen([(10, 0), (10, 9), (30, 30)])

    assert good_share_from(run, 100.1) == pytest.approx(39 / 40)
    assert good_share_from(run, 100.3) is None


def test_levels_that_could_only_be_late_are_not_tried():
    assert levels_worth_trying((1, 4, 16, 32), row_ms=6.25, good_ms=100) == [1, 4, 16]
    assert levels_worth_trying((8, 16), row_ms=50, good_ms=100) == [8]
