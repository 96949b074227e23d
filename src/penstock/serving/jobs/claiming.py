"""Handing jobs out, and writing what became of them: by whoever has them, and nobody else."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import bindparam, func, insert, select, tuple_, update

from penstock.core.errors import PenstockError
from penstock.serving.jobs.changing import SECOND_US, Session, read_held, write_changes
from penstock.serving.jobs.job import JobRequest, JobState
from penstock.serving.jobs.life import Change, Held, Outcome, after_attempt
from penstock.serving.jobs.sharing import Waiting, choose
from penstock.serving.jobs.statements import Statement, among, listed
from penstock.serving.jobs.tables import ANSWERS, JOBS, REQUESTS, SUSPECT

__all__ = ["Claim", "Claimed", "Ended", "Line", "Renewed", "Share", "claim", "end_attempts", "renew"]

LINES_MAX = 256
"""How many lines a claim looks at."""


class Claim(NamedTuple):
    """Somebody has room for so many jobs: of each model and tenant that is named so many, of others
    `of_others`.

    `after` is the line that the last share ended with. `alone`: nothing runs there, and nothing else shall
    while a job does that may end its process.
    """

    room: int
    of_models: Mapping[str, int] = {}
    of_tenants: Mapping[str, int] = {}
    of_others: int = 1_000_000
    after: "Line" = ("", "")
    alone: bool = False


class Claimed(NamedTuple):
    """A job to run, under a lease. It is written under `epoch`, and no more once another has it."""

    number: int
    id: str
    epoch: int
    has_webhook: bool
    request: JobRequest
    model: str


class Share(NamedTuple):
    """What a claim got. `more`: there may be more at once. `suspect`: a job is due that has to run alone."""

    jobs: list[Claimed]
    after: "Line"
    more: bool
    suspect: bool


Line = tuple[str, str]
"""A tenant and a model: what waits in the same line is run in the order in which it came."""


class Ended(NamedTuple):
    """An attempt that ended."""

    number: int
    epoch: int
    outcome: Outcome


class Renewed(NamedTuple):
    """Whether the job is still one's own, and still wanted."""

    held: bool
    cancel_asked: bool = False


def claim(session: Session, given: Sequence[Claim]) -> list[Share | PenstockError]:
    """Hands out jobs that are due, each to one: tenants by turns, of each the one that has waited longest."""
    return [_share(session, each) for each in given]


def _share(session: Session, wanted: Claim) -> Share:
    suspects = _SUSPECT.run(session.connection, {"now_us": session.now_us})
    if suspects and wanted.alone:
        return Share(_taken(session, [number for (number,) in suspects]), wanted.after, True, True)
    waiting, after, through = _due(session, wanted)
    chosen = choose(waiting, wanted.room, wanted.of_tenants, wanted.of_models, wanted.of_others)
    jobs = _taken(session, chosen) if chosen else []
    return Share(jobs, after, not through or len(chosen) >= wanted.room, bool(suspects))


def _due(session: Session, wanted: Claim) -> tuple[dict[str, list[Waiting]], Line, bool]:
    """What is due by tenant, of at most as many tenants as there is room for jobs; the last line that was
    looked at, and whether those are all.
    """
    waiting: dict[str, list[Waiting]] = {}
    last, wrapped = wanted.after, False
    for _ in range(LINES_MAX):
        rows = _NEXT_LINE.run(session.connection, {"tenant_after": last[0], "model_after": last[1]})
        if not rows and not wrapped:
            last, wrapped = ("", ""), True
            continue
        if not rows or (wrapped and rows[0][:2] > wanted.after):
            return waiting, last, True
        ((tenant, model, due_us),) = rows
        if tenant not in waiting and len(waiting) >= wanted.room:
            return waiting, last, False
        last = (tenant, model)
        room = min(wanted.room, wanted.of_models.get(model, wanted.of_others))
        if due_us <= session.now_us and room > 0:
            named = {"whose": tenant, "of": model, "now_us": session.now_us, "room": room}
            if found := _IN_LINE.run(session.connection, named):
                waiting.setdefault(tenant, []).extend(Waiting(due, number, model) for due, number in found)
    return waiting, last, False


def _taken(session: Session, numbers: Sequence[int]) -> list[Claimed]:
    lease_us = session.now_us + int(session.policy.lease_s * SECOND_US)
    named = {"clock_us": session.clock_us, "lease_us": lease_us, "numbers": listed(numbers)}
    rows = sorted(_CLAIM.run(session.connection, named))
    requests = _requests(session, [number for number, *_ in rows])
    session.counted[JobState.RUNNING.value] += len(rows)
    return [
        Claimed(number, name, epoch, bool(has_webhook), requests[number]._replace(tenant=tenant), model)
        for number, name, epoch, has_webhook, tenant, model in rows
    ]


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
    .where(among(JOBS.c.number, "numbers"))
    .values(
        state=JobState.RUNNING.value,
        epoch=JOBS.c.epoch + 1,
        attempts=JOBS.c.attempts + 1,
        due_us=bindparam("lease_us"),
        started_us=func.coalesce(JOBS.c.started_us, bindparam("clock_us")),
    )
    .returning(JOBS.c.number, JOBS.c.id, JOBS.c.epoch, JOBS.c.has_webhook, JOBS.c.tenant, JOBS.c.model)
)
_is_due = (
    (JOBS.c.state == JobState.QUEUED.value)
    & (JOBS.c.due_us <= bindparam("now_us"))
    & (JOBS.c.expires_us.is_(None) | (JOBS.c.expires_us > bindparam("now_us")))
)
_NEXT_LINE = Statement(
    select(JOBS.c.tenant, JOBS.c.model, JOBS.c.due_us)
    .where(
        JOBS.c.state == JobState.QUEUED.value,
        tuple_(JOBS.c.tenant, JOBS.c.model) > tuple_(bindparam("tenant_after"), bindparam("model_after")),
    )
    .order_by(JOBS.c.tenant, JOBS.c.model, JOBS.c.due_us)
    .limit(1)
)
_IN_LINE = Statement(
    select(JOBS.c.due_us, JOBS.c.number)
    .where(JOBS.c.tenant == bindparam("whose"), JOBS.c.model == bindparam("of"), _is_due, JOBS.c.losses == 0)
    .order_by(JOBS.c.due_us)
    .limit(bindparam("room"))
    .with_for_update(skip_locked=True)
)
_SUSPECT = Statement(
    select(JOBS.c.number)
    .where(_is_due, SUSPECT)
    .order_by(JOBS.c.due_us)
    .limit(1)
    .with_for_update(skip_locked=True)
)
_RENEW = Statement(update(JOBS).where(among(JOBS.c.number, "renewed")).values(due_us=bindparam("lease_us")))
_ANSWER = Statement(insert(ANSWERS), ("job", "status", "head", "body"))
_REQUESTS = Statement(
    select(REQUESTS.c.job, REQUESTS.c.target, REQUESTS.c.headers, REQUESTS.c.body).where(
        among(REQUESTS.c.job, "numbers")
    )
)
_headers = msgspec.json.Decoder(dict[str, str]).decode
