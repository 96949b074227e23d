import pytest

from penstock.serving.jobs.job import JobAnswer, JobState
from penstock.serving.jobs.life import (
    Held,
    JobPolicy,
    Outcome,
    Told,
    Verdict,
    after_attempt,
    after_cancel,
    after_lease,
    after_waiting,
    pause_s,
)

POLICY = JobPolicy(attempts_max=3, first_s=2.0, longest_s=30.0, lease_s=10.0, kept_s=60.0)
NOW_US = 1_000_000_000
SECOND = 1_000_000


def held(**more) -> Held:
    given = {
        "state": JobState.RUNNING,
        "epoch": 4,
        "due_us": NOW_US + 5,
        "attempts": 1,
        "refusals": 0,
        "cancel_asked": False,
        "expires_us": None,
        "error": "",
        "told": Told("id", "@", "m", False),
    }
    return Held(**given | more)


def ended(verdict, drawn=0.0, *, wait_s=0.0, **more):
    outcome = Outcome(verdict, JobAnswer(200, b"", b""), "it broke", wait_s)
    return after_attempt(held(**more), outcome, POLICY, NOW_US, drawn)


def test_an_answer_is_its_end() -> None:
    change = ended(Verdict.DONE, error="the attempt before")
    assert (change.state, change.attempts, change.error) == (JobState.DONE, 1, "")
    assert change.due_us == NOW_US + 60 * SECOND


@pytest.mark.parametrize(("attempts", "drawn", "pause"), [(1, 0.0, 1.0), (1, 1.0, 2.0), (2, 0.0, 2.0)])
def test_it_is_tried_again_after_a_pause_that_doubles(attempts: int, drawn: float, pause: float) -> None:
    change = ended(Verdict.RETRY, drawn, attempts=attempts)
    assert change.state is JobState.QUEUED
    assert change.due_us - NOW_US == pause * SECOND
    assert (change.attempts, change.error) == (attempts, "it broke")


def test_pauses_have_an_end() -> None:
    assert pause_s(POLICY, 10_000, 1.0) == 30.0


def test_the_last_attempt() -> None:
    change = ended(Verdict.RETRY, attempts=3)
    assert (change.state, change.error) == (JobState.FAILED, "it broke")


def test_what_would_fail_again_is_not_tried_again() -> None:
    assert ended(Verdict.FAILED, attempts=1).state is JobState.FAILED


def test_a_refusal_is_no_attempt_however_often() -> None:
    change = ended(Verdict.REFUSED, attempts=3, refusals=3, wait_s=7.0)
    assert (change.state, change.attempts, change.refusals) == (JobState.QUEUED, 2, 4)
    assert change.due_us - NOW_US == (7.0 + 8.0) * SECOND


def test_what_is_given_back_waits_for_nothing() -> None:
    change = ended(Verdict.RELEASED, attempts=3, refusals=2)
    assert (change.state, change.attempts, change.refusals) == (JobState.QUEUED, 2, 2)
    assert change.due_us == NOW_US


@pytest.mark.parametrize("verdict", [Verdict.RETRY, Verdict.REFUSED, Verdict.RELEASED])
def test_what_is_not_wanted_or_too_old_does_not_wait_anew(verdict: Verdict) -> None:
    assert ended(verdict, cancel_asked=True).state is JobState.CANCELLED
    assert ended(verdict, expires_us=NOW_US).state is JobState.EXPIRED
    assert ended(verdict, expires_us=NOW_US + 1).state is JobState.QUEUED


def test_an_answer_to_what_was_cancelled_or_is_too_old_counts() -> None:
    assert ended(Verdict.DONE, cancel_asked=True, expires_us=1).state is JobState.DONE


def test_a_lease_that_is_over() -> None:
    change = after_lease(held(attempts=2), POLICY, NOW_US, 0.0)
    # No attempt, but counted; and whoever crashes is not given it at once.
    assert (change.state, change.attempts, change.losses) == (JobState.QUEUED, 1, 1)
    assert change.due_us == NOW_US + SECOND
    assert "its process ended" in change.error
    assert after_lease(held(losses=1), POLICY, NOW_US, 1.0).due_us == NOW_US + 4 * SECOND
    last = after_lease(held(attempts=1, losses=2), POLICY, NOW_US, 0.0)
    assert (last.state, last.attempts, last.losses) == (JobState.FAILED, 0, 3)
    assert "3 times its process ended" in last.error
    assert after_lease(held(losses=2, cancel_asked=True), POLICY, NOW_US, 0.0).state is JobState.CANCELLED
    assert after_lease(held(expires_us=NOW_US), POLICY, NOW_US, 0.0).state is JobState.EXPIRED


def test_an_attempt_that_ends_clears_it_of_the_losses_before() -> None:
    assert ended(Verdict.RETRY, losses=2).losses == 0
    assert ended(Verdict.REFUSED, losses=2).losses == ended(Verdict.RELEASED, losses=2).losses == 2


def test_cancelling() -> None:
    queued = after_cancel(held(state=JobState.QUEUED), POLICY, NOW_US)
    assert queued is not None
    assert queued.state is JobState.CANCELLED
    running = after_cancel(held(), POLICY, NOW_US)
    assert running is not None
    assert (running.state, running.cancel_asked, running.due_us) == (JobState.RUNNING, True, NOW_US + 5)
    assert all(after_cancel(held(state=state), POLICY, NOW_US) is None for state in JobState if state.final)


def test_waiting_too_long() -> None:
    assert after_waiting(held(state=JobState.QUEUED), POLICY, NOW_US) is None
    assert after_waiting(held(state=JobState.QUEUED, expires_us=NOW_US + 1), POLICY, NOW_US) is None
    late = after_waiting(held(state=JobState.QUEUED, expires_us=NOW_US, error="no room"), POLICY, NOW_US)
    assert late is not None
    assert (late.state, late.error) == (JobState.EXPIRED, "no room")
