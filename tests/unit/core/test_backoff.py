import pytest

from penstock.core.backoff import RestartBackoff


def test_the_first_restart_is_immediate_and_pauses_double() -> None:
    backoff = RestartBackoff(first_s=0.5, longest_s=30.0, stable_s=10.0)
    assert backoff.wait_s(0.0) == 0.0
    now, pauses = 0.0, []
    for _ in range(9):
        backoff.started(now)
        backoff.failed(now)
        pauses.append(backoff.wait_s(now))
        now += pauses[-1]
        assert backoff.wait_s(now) == 0.0
    assert pauses == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert backoff.statistics().failures == backoff.statistics().starts == 9


def test_the_pause_runs_down() -> None:
    backoff = RestartBackoff()
    for _ in range(3):
        backoff.started(5.0)
        backoff.failed(5.0)
    assert backoff.wait_s(5.25) == pytest.approx(0.75)
    assert backoff.wait_s(7.0) == 0.0
    assert backoff.statistics().not_before_s == 6.0


def test_what_stayed_up_has_proven_itself() -> None:
    backoff = RestartBackoff(stable_s=10.0)
    for _ in range(5):
        backoff.started(0.0)
        backoff.failed(0.0)
    backoff.started(100.0)
    backoff.failed(109.9)
    assert backoff.wait_s(109.9) > 0
    backoff.started(200.0)
    backoff.failed(210.0)
    assert backoff.wait_s(210.0) == 0.0
    assert backoff.statistics().failures == 1


def test_any_number_of_failures_is_bounded() -> None:
    backoff = RestartBackoff()
    for _ in range(5000):
        backoff.started(0.0)
        backoff.failed(0.0)
    assert backoff.wait_s(0.0) == 30.0
