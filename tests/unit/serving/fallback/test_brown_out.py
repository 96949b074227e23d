from hypothesis import given
from hypothesis import strategies as st

from penstock.serving.fallback.brown_out import ENTER_S, LEAVE_LONGEST_S, LEAVE_S, BrownOut

TICK_S = 0.125
"""So that sums of it are exact."""


def hold(brown_out: BrownOut, pressure: float, from_s: float, seconds: float) -> float:
    """Ticks with that pressure; when it ends."""
    now_s = from_s
    while now_s < from_s + seconds:
        brown_out.observe(pressure, now_s)
        now_s += TICK_S
    return now_s


def test_it_comes_on_with_pressure_that_lasts() -> None:
    brown_out = BrownOut()
    now_s = hold(brown_out, 0.3, 0.0, ENTER_S)
    assert not brown_out.active
    brown_out.observe(0.3, now_s)
    assert brown_out.active
    assert [brown_out.wants(criticality) for criticality in (1, 2, 3, 4)] == [False, False, True, True]


def test_a_moment_without_pressure_starts_the_count_anew() -> None:
    brown_out = BrownOut()
    now_s = hold(brown_out, 0.3, 0.0, ENTER_S)
    brown_out.observe(0.0, now_s)
    hold(brown_out, 0.3, now_s + TICK_S, ENTER_S)
    assert not brown_out.active
    assert brown_out.statistics().entered == 0


def test_it_goes_off_after_a_longer_calm() -> None:
    brown_out = BrownOut()
    now_s = hold(brown_out, 0.3, 0.0, ENTER_S + TICK_S)
    now_s = hold(brown_out, 0.0, now_s, LEAVE_S)
    assert brown_out.active
    brown_out.observe(0.0, now_s)
    assert not brown_out.active
    assert not brown_out.wants(4)


def test_the_calm_that_ends_it_grows_where_pressure_comes_back_and_shrinks_where_it_does_not() -> None:
    brown_out = BrownOut()
    now_s = 0.0
    calms = []
    for _ in range(7):
        now_s = hold(brown_out, 0.3, now_s, ENTER_S + TICK_S)
        assert brown_out.active
        calms.append(brown_out.statistics().leave_s)
        now_s = hold(brown_out, 0.0, now_s, calms[-1] + TICK_S)
        assert not brown_out.active
    assert calms == [5.0, 10.0, 20.0, 40.0, LEAVE_LONGEST_S, LEAVE_LONGEST_S, LEAVE_LONGEST_S]
    now_s = hold(brown_out, 0.0, now_s, 2 * LEAVE_LONGEST_S)
    hold(brown_out, 0.3, now_s, ENTER_S + TICK_S)
    assert brown_out.statistics().leave_s == LEAVE_S


def test_a_clock_that_is_set_back_starts_the_count_anew() -> None:
    brown_out = BrownOut()
    brown_out.observe(0.3, 1e6)
    brown_out.observe(0.3, 0.0)
    assert not brown_out.active
    brown_out.observe(0.3, ENTER_S)
    assert brown_out.active


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.95]), st.floats(0, 10)), max_size=60))
def test_it_turns_only_against_what_has_lasted(steps: list[tuple[float, float]]) -> None:
    """Held against the whole history: all that was seen over the time for which it must have lasted."""
    brown_out = BrownOut()
    now_s = 0.0
    history: list[tuple[float, bool]] = []
    for pressure, pause_s in steps:
        now_s += pause_s
        before = brown_out.active
        lasts_s = brown_out.statistics().leave_s if before else ENTER_S
        brown_out.observe(pressure, now_s)
        history.append((now_s, pressure > 0))
        run = []
        for at_s, pressed in reversed(history):
            if pressed is before:
                break
            run.append(at_s)
        if brown_out.active is not before:
            assert now_s - run[-1] >= lasts_s
