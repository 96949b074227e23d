"""A job's life: what follows from an attempt, a lease that ran out, a cancellation, and time. No I/O.

    queued ──claim──▶ running ──answer──▶ done
      │ ▲                │ └──the last attempt, or one that cannot end otherwise──▶ failed
      │ └──attempt failed, refused, lease lost──┘
      ├──cancel──▶ cancelled ◀──cancel, once the attempt ends without an answer──running
      └──waited too long──▶ expired

Source of the back-off: M. Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
"""

import enum
from typing import NamedTuple

import msgspec

from penstock.serving.jobs.job import JobAnswer, JobState

__all__ = [
    "Change",
    "Held",
    "JobPolicy",
    "Outcome",
    "Told",
    "Verdict",
    "after_attempt",
    "after_cancel",
    "after_lease",
    "after_waiting",
    "pause_s",
]

DOUBLINGS_MAX = 32
SECOND_US = 1_000_000


class JobPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often a job is tried, when again, and how long what became of it is kept.

    An attempt that failed is followed by a pause of half to all of first_s · 2^(n-1), `longest_s` at most. A
    job that loses its process `attempts_max` times has failed, too. It waits `waits_s`, or as it says.
    """

    attempts_max: int
    first_s: float
    longest_s: float
    lease_s: float
    kept_s: float
    waits_s: float = 604_800.0


class Verdict(enum.Enum):
    """What an attempt says of its job."""

    DONE = "done"
    FAILED = "failed"
    """The same would happen again."""
    RETRY = "retry"
    """It may go better another time."""
    REFUSED = "refused"
    """The model has no room now. That is no attempt of the job's."""
    RELEASED = "released"
    """Whoever had it gives it back unanswered. Nor is that."""


class Outcome(NamedTuple):
    """How an attempt ended. `wait_s` is the least time before another one, `error` says why there has to be."""

    verdict: Verdict
    answer: JobAnswer | None = None
    error: str = ""
    wait_s: float = 0.0


class Told(NamedTuple):
    """What is said of a job's end, and whether to a webhook."""

    id: str
    tenant: str
    model: str
    has_webhook: bool


class Held(NamedTuple):
    """What decisions about a job go by. `epoch` counts who had it, `refusals` those since its last attempt,
    `losses` the processes that had it and were not heard of again, since an attempt last ended.
    """

    state: JobState
    epoch: int
    due_us: int
    attempts: int
    refusals: int
    cancel_asked: bool
    expires_us: int | None
    error: str
    told: Told
    losses: int = 0


class Change(NamedTuple):
    """What a job is from now on. `due_us` is when the next thing happens to it by itself: it may be claimed
    (queued), its lease ends (running), it is forgotten (final).
    """

    state: JobState
    due_us: int
    attempts: int
    refusals: int = 0
    cancel_asked: bool = False
    error: str = ""
    losses: int = 0


def after_attempt(held: Held, outcome: Outcome, policy: JobPolicy, now_us: int, drawn: float) -> Change:
    """`drawn` is drawn evenly from 0 to 1. The job is running, and whoever asks has it."""
    assert held.state is JobState.RUNNING, "only a job that runs has attempts"
    attempts, verdict = held.attempts, outcome.verdict
    if verdict is Verdict.DONE:
        return _final(JobState.DONE, attempts, "", policy, now_us)
    if verdict is Verdict.FAILED or (verdict is Verdict.RETRY and attempts >= policy.attempts_max):
        return _final(JobState.FAILED, attempts, outcome.error, policy, now_us)
    if verdict is Verdict.RETRY:
        pause = max(outcome.wait_s, pause_s(policy, attempts, drawn))
        return _back(held, Change(JobState.QUEUED, _later(now_us, pause), attempts), outcome, policy, now_us)
    attempts -= 1
    refusals, pause = held.refusals, 0.0
    if verdict is Verdict.REFUSED:
        refusals += 1
        pause = outcome.wait_s + pause_s(policy, refusals, drawn)
    change = Change(JobState.QUEUED, _later(now_us, pause), attempts, refusals, losses=held.losses)
    return _back(held, change, outcome, policy, now_us)


def after_lease(held: Held, policy: JobPolicy, now_us: int, drawn: float) -> Change:
    """Whoever had it has not been heard of: its process was killed, stopped, or cut off from the database. That
    is no attempt: it may have been another job's doing.
    """
    assert held.state is JobState.RUNNING, "only a job that runs has a lease"
    attempts, losses = held.attempts - 1, held.losses + 1
    said = "its process ended, or stood still, while it ran"
    if losses >= policy.attempts_max and not held.cancel_asked:
        failed = _final(JobState.FAILED, attempts, f"{losses} times {said}", policy, now_us)
        return failed._replace(losses=losses)
    pause = pause_s(policy, losses, drawn)
    back = Change(JobState.QUEUED, _later(now_us, pause), attempts, held.refusals, losses=losses)
    return _back(held, back, Outcome(Verdict.RETRY, error=said), policy, now_us)


def after_cancel(held: Held, policy: JobPolicy, now_us: int) -> Change | None:
    """Nobody wants it any more. None: it is finished. One that runs goes on until that is noticed."""
    if held.state is JobState.QUEUED:
        return _final(JobState.CANCELLED, held.attempts, held.error, policy, now_us)
    if held.state is JobState.RUNNING:
        return Change(
            JobState.RUNNING, held.due_us, held.attempts, held.refusals, True, held.error, held.losses
        )
    return None


def after_waiting(held: Held, policy: JobPolicy, now_us: int) -> Change | None:
    """A job that waits, as time makes it. None: it goes on waiting."""
    assert held.state is JobState.QUEUED, "only a job that waits has waited too long"
    if held.expires_us is None or now_us < held.expires_us:
        return None
    return _final(JobState.EXPIRED, held.attempts, held.error, policy, now_us)


def pause_s(policy: JobPolicy, failures: int, drawn: float) -> float:
    """Before the next attempt, after so many that failed."""
    assert failures >= 1, "the first attempt does not wait"
    bound_s = min(policy.longest_s, policy.first_s * 2.0 ** min(failures - 1, DOUBLINGS_MAX))
    return bound_s * (0.5 + 0.5 * drawn)


def _back(held: Held, change: Change, outcome: Outcome, policy: JobPolicy, now_us: int) -> Change:
    """The job waits anew, unless it was cancelled meanwhile or that takes longer than it may wait."""
    error = outcome.error or held.error
    if held.cancel_asked:
        return _final(JobState.CANCELLED, change.attempts, error, policy, now_us)
    if held.expires_us is not None and now_us >= held.expires_us:
        return _final(JobState.EXPIRED, change.attempts, error, policy, now_us)
    return change._replace(error=error)


def _final(state: JobState, attempts: int, error: str, policy: JobPolicy, now_us: int) -> Change:
    return Change(state, _later(now_us, policy.kept_s), attempts, error=error)


def _later(now_us: int, seconds: float) -> int:
    return now_us + int(seconds * SECOND_US)
