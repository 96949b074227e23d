"""Taking jobs on: all that wait for it, in one transaction."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, bindparam, func, insert, select

from penstock.core.errors import Conflict, PenstockError, Refused
from penstock.serving.jobs.changing import ACCEPTED, SECOND_US, Session
from penstock.serving.jobs.job import DeliveryState, JobRecord, JobRequest, JobState, NewJob, WebhookView
from penstock.serving.jobs.reading import read_jobs
from penstock.serving.jobs.statements import Statement, among, listed
from penstock.serving.jobs.tables import EVENTS, JOBS, REQUESTS, WEBHOOKS
from penstock.serving.jobs.webhook_urls import host_of

__all__ = ["QUEUE_FULL", "Enqueued", "KeyTaken", "Standing", "enqueue", "key_taken", "standing_by_key"]

EVENTS_MAX = 1_000_000
QUEUE_FULL = "jobs_full"
"""What `x-shed-reason` says of a job for which there is no room."""


class KeyTaken(Conflict):
    """The caller's key stands for a job that asks something else."""


class Enqueued(NamedTuple):
    """`created`: it is a new one, not the one that the caller's key stands for already."""

    job: JobRecord
    created: bool


class Standing(NamedTuple):
    """The job that a key stands for, and what stands for all that it asks."""

    job: JobRecord
    digest: str


def enqueue(session: Session, given: Sequence[NewJob]) -> list[Enqueued | PenstockError]:
    """Takes jobs on, or finds those that their keys stand for.

    Outcomes are errors: `KeyTaken` for a key that stands for something else, `Refused` where too many wait.
    """
    standing = _by_key(session, given)
    session.room.look(session.connection, session.now_us)
    untold = _untold(session)
    outcomes: list[Enqueued | PenstockError | None] = []
    new: list[NewJob] = []
    first: dict[tuple[str, str], NewJob] = {}
    for job in given:
        named = (job.request.tenant, job.key) if job.key is not None else None
        if named is not None and named in standing:
            found, digest = standing[named]
            outcomes.append(Enqueued(found, False) if digest == job.digest else key_taken(job.key, found.id))
        elif named is not None and named in first:
            same = first[named].digest == job.digest
            outcomes.append(
                Enqueued(_record(session, first[named]), False) if same else key_taken(job.key, first[named].id)
            )
        elif (refused := untold or _no_room(session, job.request.tenant)) is not None:
            outcomes.append(refused)
        else:
            new.append(job)
            session.room.take(job.request.tenant)
            if named is not None:
                first[named] = job
            outcomes.append(Enqueued(_record(session, job), True))
    if new:
        _insert(session, new)
    return [outcome for outcome in outcomes if outcome is not None]


def _insert(session: Session, jobs: list[NewJob]) -> None:
    now_us = session.now_us
    rows = [
        {
            "id": job.id,
            "tenant": job.request.tenant,
            "idempotency_key": job.key,
            "digest": job.digest,
            "model": job.model,
            "state": JobState.QUEUED.value,
            "epoch": 0,
            "attempts": 0,
            "refusals": 0,
            "losses": 0,
            "cancel_asked": False,
            "due_us": now_us,
            "created_us": session.clock_us,
            "waits_us": _waits_us(session, job),
            "expires_us": now_us + _waits_us(session, job),
            "has_webhook": job.webhook is not None,
            "error": "",
        }
        for job in jobs
    ]
    _JOBS.run_many(session.connection, rows)
    found = _NUMBERS.run(session.connection, {"ids": listed(job.id for job in jobs)})
    numbers: dict[str, int] = dict(found)
    _REQUESTS.run_many(session.connection, [_request_row(numbers[job.id], job.request) for job in jobs])
    _EVENTS.run_many(session.connection, [_accepted(job, now_us) for job in jobs])
    hooked = [_webhook_row(numbers[job.id], job.request.tenant, job.webhook) for job in jobs if job.webhook]
    if hooked:
        _WEBHOOKS.run_many(session.connection, hooked)
    session.counted[JobState.QUEUED.value] += len(jobs)


def _waits_us(session: Session, job: NewJob) -> int:
    waits_us = int(session.policy.waits_s * SECOND_US)
    return waits_us if job.wait_us_max is None else job.wait_us_max


def _request_row(number: int, request: JobRequest) -> dict[str, Any]:
    headers = msgspec.json.encode(request.headers).decode()
    return {"job": number, "target": request.target, "headers": headers, "body": request.body}


def _webhook_row(number: int, tenant: str, url: str) -> dict[str, Any]:
    return {
        "job": number,
        "url": url,
        "host": host_of(url),
        "tenant": tenant,
        "state": DeliveryState.WAITING.value,
        "epoch": 0,
        "attempts": 0,
        "due_us": 0,
        "error": "",
    }


def _accepted(job: NewJob, clock_us: int) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "sequence": 1,
        "event": ACCEPTED,
        "at_us": clock_us,
        "tenant": job.request.tenant,
        "model": job.model,
        "attempts": 0,
        "error": "",
    }


def _record(session: Session, job: NewJob) -> JobRecord:
    """A job as it is right after it was taken on."""
    webhook = None
    if job.webhook is not None:
        webhook = WebhookView(url=job.webhook, status=DeliveryState.WAITING.value, attempts=0)
    return JobRecord(
        id=job.id,
        tenant=job.request.tenant,
        model=job.model,
        state=JobState.QUEUED,
        attempts=0,
        cancel_asked=False,
        error="",
        created_us=session.clock_us,
        started_us=None,
        finished_us=None,
        expires_us=session.clock_us + _waits_us(session, job),
        webhook=webhook,
    )


def standing_by_key(connection: Connection, tenant: str, key: str) -> Standing | None:
    """The job that a caller's key stands for already."""
    for name, digest in _KEYED.run(connection, {"whose": tenant, "key": key}):
        (record,) = read_jobs(connection, [name])
        return Standing(record, digest)
    return None


def key_taken(key: str | None, standing: str) -> KeyTaken:
    return KeyTaken(
        f"idempotency key {key!r} stands for job {standing}, which asks something else",
        hint="take another key for another request; a key is free again once its job is forgotten",
    )


def _by_key(session: Session, given: Sequence[NewJob]) -> dict[tuple[str, str], Standing]:
    found = {}
    for tenant, key in {(job.request.tenant, job.key) for job in given if job.key is not None}:
        standing = standing_by_key(session.connection, tenant, key)
        if standing is not None:
            found[tenant, key] = standing
    return found


def _no_room(session: Session, tenant: str) -> Refused | None:
    room = session.room
    said = hint = None
    if room.left <= 0:
        said, hint = f"{room.queued_max} jobs wait already, as many as may", "jobs.queued_max"
    elif room.left_to(session.connection, tenant) <= 0:
        said, hint = (
            f"{room.tenant_max} jobs of one tenant wait already, as many as may",
            "jobs.tenant_queued_max",
        )
    if said is None:
        return None
    hint = f"try again later, or raise the setting {hint}"
    return Refused(said, reason=QUEUE_FULL, retry_after_s=1.0, hint=hint)


def _untold(session: Session) -> Refused | None:
    """Where the log takes nothing, its events must not fill the disk."""
    ((first, last),) = _UNTOLD.run(session.connection, {})
    events = 0 if first is None else last - first
    if events < EVENTS_MAX:
        return None
    return Refused(
        f"{events} events of jobs wait for the log, which does not take them",
        reason=QUEUE_FULL,
        retry_after_s=5.0,
        hint="see to the log: the server's own log says what is wrong with it",
    )


_JOBS = Statement(
    insert(JOBS),
    (
        *("id", "tenant", "idempotency_key", "digest", "model", "state", "epoch", "attempts", "refusals"),
        "losses",
        *("cancel_asked", "due_us", "created_us", "expires_us", "waits_us", "has_webhook", "error"),
    ),
)
_NUMBERS = Statement(select(JOBS.c.id, JOBS.c.number).where(among(JOBS.c.id, "ids")))
_REQUESTS = Statement(insert(REQUESTS), ("job", "target", "headers", "body"))
_EVENTS = Statement(
    insert(EVENTS),
    ("job_id", "sequence", "event", "at_us", "tenant", "model", "attempts", "error"),
)
_WEBHOOKS = Statement(
    insert(WEBHOOKS), ("job", "tenant", "url", "host", "state", "epoch", "attempts", "due_us", "error")
)
_UNTOLD = Statement(
    select(
        select(func.min(EVENTS.c.number)).scalar_subquery(), select(func.max(EVENTS.c.number)).scalar_subquery()
    )
)
_KEYED = Statement(
    select(JOBS.c.id, JOBS.c.digest).where(
        JOBS.c.tenant == bindparam("whose"), JOBS.c.idempotency_key == bindparam("key")
    )
)
