"""Handing jobs out, and writing what became of them: by whoever has them, and nobody else."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import bindparam, func, insert, select, update

from penstock.core.errors import PenstockError
from penstock.serving.jobs.changing import SECOND_US, Session, read_held, write_changes
from penstock.serving.jobs.job import JobRequest, JobState
from penstock.serving.jobs.life import Change, Held, Outcome, after_attempt
from penstock.serving.jobs.statements import Statement, among, listed
from penstock.serving.jobs.tables import ANSWERS, JOBS, REQUESTS

__all__ = ["Claim", "Claimed", "Ended", "Renewed", "claim", "end_attempts", "renew"]


class Claim(NamedTuple):
    """Somebody has room for so many jobs."""

    room: int


class Claimed(NamedTuple):
    """A job to run, under a lease. It is written under `epoch`, and no more once another has it."""

    number: int
    id: str
    epoch: int
    has_webhook: bool
    request: JobRequest


class Ended(NamedTuple):
    """An attempt that ended."""

    number: int
    epoch: int
    outcome: Outcome


class Renewed(NamedTuple):
    """Whether the job is still one's own, and still wanted."""

    held: bool
    cancel_asked: bool = False


def claim(session: Session, given: Sequence[Claim]) -> list[list[Claimed] | PenstockError]:
    """Hands out the jobs that have waited longest, each to one."""
    wanted = sum(each.room for each in given)
    lease_us = session.now_us + int(session.policy.lease_s * SECOND_US)
    named = {"now_us": session.now_us, "lease_us": lease_us, "wanted": wanted}
    rows = sorted(_CLAIM.run(session.connection, named))
    requests = _requests(session, [number for number, *_ in rows])
    taken = [
        Claimed(number, name, epoch, bool(has_webhook), requests[number]._replace(tenant=tenant))
        for number, name, epoch, has_webhook, tenant in rows
    ]
    session.counted[JobState.RUNNING.value] += len(taken)
    shares: list[list[Claimed] | PenstockError] = []
    for each in given:
        shares.append(taken[: each.room])
        taken = taken[each.room :]
    return shares


def renew(session: Session, given: Sequence[tuple[int, int]]) -> list[Renewed | PenstockError]:
    """Leases go on, of (number, epoch)."""
    held = read_held(session, [number for number, _ in given])
    lease_us = session.now_us + int(session.policy.lease_s * SECOND_US)
    outcomes: list[Renewed | PenstockError] = []
    renewed = []
    for number, epoch in given:
        job = held.get(number)
        if job is None or job.state is not JobState.RUNNING or job.epoch != epoch:
            outcomes.append(Renewed(False))
            continue
        renewed.append(number)
        outcomes.append(Renewed(True, job.cancel_asked))
    if renewed:
        _RENEW.run(session.connection, {"renewed": listed(renewed), "lease_us": lease_us})
    return outcomes


def end_attempts(session: Session, given: Sequence[Ended]) -> list[bool | PenstockError]:
    """Writes how attempts ended. False: the job is another's by now, and nothing was written."""
    held = read_held(session, [each.number for each in given])
    changes: dict[int, tuple[Held, Change]] = {}
    answers = []
    outcomes: list[bool | PenstockError] = []
    for number, epoch, outcome in given:
        job = held.get(number)
        own = job is not None and job.state is JobState.RUNNING and job.epoch == epoch
        outcomes.append(own)
        if job is None or not own:
            continue
        change = after_attempt(job, outcome, session.policy, session.now_us, session.draw())
        changes[number] = (job, change)
        answer = outcome.answer
        if answer is not None and change.state in (JobState.DONE, JobState.FAILED):
            answers.append({"job": number, "status": answer.status, "head": answer.head, "body": answer.body})
    if answers:
        _ANSWER.run_many(session.connection, answers)
    write_changes(session, changes)
    return outcomes


def _requests(session: Session, numbers: Sequence[int]) -> dict[int, JobRequest]:
    if not numbers:
        return {}
    rows = _REQUESTS.run(session.connection, {"numbers": listed(numbers)})
    return {job: JobRequest(target, _headers(headers), body) for job, target, headers, body in rows}


_CLAIM = Statement(
    update(JOBS)
    .where(
        JOBS.c.number.in_(
            select(JOBS.c.number)
            .where(
                JOBS.c.state == JobState.QUEUED.value,
                JOBS.c.due_us <= bindparam("now_us"),
                JOBS.c.expires_us.is_(None) | (JOBS.c.expires_us > bindparam("now_us")),
            )
            .order_by(JOBS.c.due_us)
            .limit(bindparam("wanted"))
            .with_for_update(skip_locked=True)
        )
    )
    .values(
        state=JobState.RUNNING.value,
        epoch=JOBS.c.epoch + 1,
        attempts=JOBS.c.attempts + 1,
        due_us=bindparam("lease_us"),
        started_us=func.coalesce(JOBS.c.started_us, bindparam("now_us")),
    )
    .returning(JOBS.c.number, JOBS.c.id, JOBS.c.epoch, JOBS.c.has_webhook, JOBS.c.tenant)
)
_RENEW = Statement(update(JOBS).where(among(JOBS.c.number, "renewed")).values(due_us=bindparam("lease_us")))
_ANSWER = Statement(insert(ANSWERS), ("job", "status", "head", "body"))
_REQUESTS = Statement(
    select(REQUESTS.c.job, REQUESTS.c.target, REQUESTS.c.headers, REQUESTS.c.body).where(
        among(REQUESTS.c.job, "numbers")
    )
)
_headers = msgspec.json.Decoder(dict[str, str]).decode
