"""A process rests when it hardly used its processor for some seconds, and is told so once."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from penstock.app.idle import IDLE_S, IdleWatch


def test_what_resting_takes_is_no_work() -> None:
    watch = IdleWatch(0.0, 0.0)
    told, used_s = [], 0.0
    for second in range(1, 40):
        used_s += 0.8 if second <= 3 else 0.0
        if watch.fell_idle(float(second), used_s):
            told.append(second)
            used_s += 2.0
            watch.rested(used_s)
    assert told == [3 + IDLE_S]


def test_it_falls_idle_after_work_and_only_once() -> None:
    watch = IdleWatch(0.0, 0.0)
    told = []
    used_s = 0.0
    for second in range(1, 40):
        used_s += 0.8 if second <= 10 else 0.01
        if watch.fell_idle(float(second), used_s):
            told.append(second)
    assert told == [10 + IDLE_S]


def test_one_that_never_worked_has_nothing_to_clean_up() -> None:
    watch = IdleWatch(0.0, 3.0)  # what its start has cost
    assert not any(watch.fell_idle(float(second), 3.0 + 0.002 * second) for second in range(1, 200))


def test_work_without_a_pause_is_no_rest() -> None:
    watch = IdleWatch(0.0, 0.0)
    assert not any(watch.fell_idle(float(second), 0.3 * second) for second in range(1, 200))


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=120))
def test_each_rest_follows_idle_seconds_and_is_paid_for_by_work(loads: list[float]) -> None:
    watch = IdleWatch(0.0, 0.0)
    used_s, told = 0.0, []
    totals = [0.0]
    for second, load in enumerate(loads, 1):
        used_s += load
        totals.append(used_s)
        if watch.fell_idle(float(second), used_s):
            told.append(second)
    for at in told:
        assert totals[at] - totals[at - int(IDLE_S)] <= 0.25 + 1e-9
    for one, next_one in itertools.pairwise(told):
        assert totals[next_one] - totals[one] >= 0.5 - 1e-9
