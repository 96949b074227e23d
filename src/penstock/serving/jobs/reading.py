"""What is read of jobs. All of it blocks; a connection sees one state of the database."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, func, select

from penstock.serving.jobs.job import DeliveryState, JobAnswer, JobRecord, JobState, WebhookView
from penstock.serving.jobs.statements import Statement, among, listed
from penstock.serving.jobs.tables import ANSWERS, EVENTS, JOBS, WEBHOOKS

__all__ = ["Due", "JobCounts", "count_jobs", "read_due", "read_jobs", "read_latest", "read_results"]


class JobCounts(NamedTuple):
    """How many jobs are in which state, since when the first in line is due (None: none waits), and how many
    events of jobs the log has not got yet.
    """

    by_state: dict[str, int]
    due_us: int | None
    untold: int


class Due(NamedTuple):
    """What there is to do by itself: `sweep` and `forget` as these are called, `events` for the log, `webhooks`
    to tell. `alive`: there are jobs that are not finished.
    """

    sweep: bool
    forget: bool
    events: bool
    webhooks: bool
    alive: bool


def read_jobs(connection: Connection, ids: Sequence[str]) -> list[JobRecord]:
    """Those of these ids that there are."""
    return [_record(row) for row in _OF_IDS.run(connection, {"ids": listed(ids)})]


def read_latest(connection: Connection, *, state: JobState | None, count: int) -> list[JobRecord]:
    """The newest, newest first; `state` None: in whichever state."""
    query = _JOBS.order_by(JOBS.c.number.desc()).limit(count)
    if state is not None:
        query = query.where(JOBS.c.state == state.value)
    return [_record(tuple(row)) for row in connection.execute(query)]


def read_results(connection: Connection, ids: Sequence[str]) -> list[tuple[JobRecord, JobAnswer | None] | None]:
    """Of each id the job, and what it was answered where that was kept; None: there is no such job."""
    jobs = {job.id: job for job in read_jobs(connection, ids)}
    rows = _ANSWERS.run(connection, {"ids": listed(ids)})
    answers = {name: JobAnswer(status, head, body) for name, status, head, body in rows}
    return [(jobs[name], answers.get(name)) if name in jobs else None for name in ids]


def count_jobs(connection: Connection, *, finished: bool = True) -> JobCounts:
    """Of all jobs that are kept, or those that are not finished: of the others there may be millions."""
    states = [state.value for state in (JobState if finished else _ALIVE)]
    query = select(JOBS.c.state, func.count().label("jobs")).where(JOBS.c.state.in_(states))
    rows = connection.execute(query.group_by(JOBS.c.state)).all()
    due = connection.scalar(select(func.min(JOBS.c.due_us)).where(JOBS.c.state == JobState.QUEUED.value))
    untold = connection.scalar(select(func.count()).select_from(EVENTS)) or 0
    return JobCounts({row.state: row.jobs for row in rows}, due, untold)


_JOBS = select(
    JOBS.c.id,
    JOBS.c.tenant,
    JOBS.c.model,
    JOBS.c.state,
    JOBS.c.attempts,
    JOBS.c.cancel_asked,
    JOBS.c.error,
    JOBS.c.created_us,
    JOBS.c.started_us,
    JOBS.c.finished_us,
    (JOBS.c.created_us + JOBS.c.waits_us).label("expires_us"),
    WEBHOOKS.c.url,
    WEBHOOKS.c.state.label("webhook_state"),
    WEBHOOKS.c.attempts.label("webhook_attempts"),
    WEBHOOKS.c.error.label("webhook_error"),
).select_from(JOBS.outerjoin(WEBHOOKS, WEBHOOKS.c.job == JOBS.c.number))


_OF_IDS = Statement(_JOBS.where(among(JOBS.c.id, "ids")))
_ANSWERS = Statement(
    select(JOBS.c.id, ANSWERS.c.status, ANSWERS.c.head, ANSWERS.c.body)
    .join(ANSWERS, JOBS.c.number == ANSWERS.c.job)
    .where(among(JOBS.c.id, "ids"))
)


def _record(row: tuple[Any, ...]) -> JobRecord:
    name, tenant, model, state, attempts, asked, error, created, started, finished, expires, *told = row
    url, webhook_state, webhook_attempts, webhook_error = told
    webhook = None
    if url is not None:
        webhook = WebhookView(url=url, status=webhook_state, attempts=webhook_attempts, error=webhook_error)
    return JobRecord(
        id=name,
        tenant=tenant,
        model=model,
        state=JobState(state),
        attempts=attempts,
        cancel_asked=bool(asked),
        error=error,
        created_us=created,
        started_us=started,
        finished_us=finished,
        expires_us=expires,
        webhook=webhook,
    )


def read_due(connection: Connection, now_us: int) -> Due:
    """What there is to do now."""
    ending = [JOBS.c.state == JobState.RUNNING.value, JOBS.c.due_us <= now_us]
    late = [JOBS.c.state == JobState.QUEUED.value, JOBS.c.expires_us <= now_us]
    pending = [WEBHOOKS.c.state == DeliveryState.PENDING.value, WEBHOOKS.c.due_us <= now_us]

    def any_job(*where: ColumnElement[bool]) -> bool:
        return connection.scalar(select(JOBS.c.number).where(*where).limit(1)) is not None

    return Due(
        sweep=any_job(*ending) or any_job(*late),
        forget=any(any_job(JOBS.c.state == state.value, JOBS.c.due_us <= now_us) for state in _FINAL),
        events=connection.scalar(select(EVENTS.c.number).limit(1)) is not None,
        webhooks=connection.scalar(select(WEBHOOKS.c.job).where(*pending).limit(1)) is not None,
        alive=any(any_job(JOBS.c.state == state.value) for state in _ALIVE),
    )


_FINAL = tuple(state for state in JobState if state.final)
_ALIVE = tuple(state for state in JobState if not state.final)
