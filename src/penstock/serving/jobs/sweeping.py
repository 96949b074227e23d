"""What happens to jobs besides their runs: they are cancelled, expire, lose who had them, are forgotten."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import delete, select

from penstock.core.errors import Conflict, NotFound, PenstockError
from penstock.serving.jobs.changing import Session, read_held, write_changes
from penstock.serving.jobs.job import DeliveryState, JobRecord, JobState
from penstock.serving.jobs.life import Change, Held, after_cancel, after_lease, after_waiting
from penstock.serving.jobs.reading import read_jobs
from penstock.serving.jobs.tables import ANSWERS, JOBS, REQUESTS, WEBHOOKS

__all__ = ["Cancelling", "cancel", "forget", "no_such_job", "sweep"]

SWEPT_MAX = 500


class Cancelling(NamedTuple):
    """A job that is not wanted any more, by its id. `tenant` is who says so; None: somebody who may."""

    name: str
    tenant: str | None


def cancel(session: Session, given: Sequence[Cancelling]) -> list[JobRecord | PenstockError]:
    """The jobs as they are then: one that runs goes on until that is noticed.

    Who asks again is told the same. Outcomes are errors: `NotFound`, `Conflict` where it is finished otherwise.
    """
    changes: dict[int, tuple[Held, Change]] = {}
    errors: dict[int, PenstockError] = {}
    for place, (name, tenant) in enumerate(given):
        row = session.connection.execute(
            select(JOBS.c.number, JOBS.c.tenant).where(JOBS.c.id == name)
        ).one_or_none()
        if row is None or tenant not in (None, row.tenant):
            errors[place] = no_such_job(name)
            continue
        held = read_held(session, [row.number])[row.number]
        change = after_cancel(held, session.policy, session.now_us)
        if change is None and held.state is not JobState.CANCELLED:
            errors[place] = Conflict(
                f"job {name} is {held.state.value} already", hint="what is finished cannot be cancelled"
            )
        elif change is not None and row.number not in changes:
            changes[row.number] = (held, change)
    write_changes(session, changes)
    found = {job.id: job for job in read_jobs(session.connection, [name for name, _ in given])}
    return [errors.get(place) or found[name] for place, (name, _) in enumerate(given)]


def sweep(session: Session, given: Sequence[None]) -> list[int | PenstockError]:
    """Sees to jobs whose lease is over, and to those that have waited too long; some hundreds at a time. How
    many there were.
    """
    over = _numbers(
        session,
        select(JOBS.c.number)
        .where(JOBS.c.state == JobState.RUNNING.value, JOBS.c.due_us <= session.now_us)
        .order_by(JOBS.c.due_us),
    )
    late = _numbers(
        session,
        select(JOBS.c.number)
        .where(JOBS.c.state == JobState.QUEUED.value, JOBS.c.expires_us <= session.now_us)
        .order_by(JOBS.c.expires_us),
    )
    changes: dict[int, tuple[Held, Change]] = {}
    for number, held in read_held(session, over).items():
        changes[number] = (held, after_lease(held, session.policy, session.now_us, session.draw()))
    for number, held in read_held(session, late).items():
        change = after_waiting(held, session.policy, session.now_us)
        if change is not None:
            changes[number] = (held, change)
    write_changes(session, changes)
    return [len(changes)] * len(given)


def forget(session: Session, given: Sequence[None]) -> list[int | PenstockError]:
    """Lets go of finished jobs that were kept long enough and of which all is told. How many there were."""
    forgotten: list[int] = []
    for state in (JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED):
        pending = select(WEBHOOKS.c.job).where(
            WEBHOOKS.c.job == JOBS.c.number, WEBHOOKS.c.state == DeliveryState.PENDING.value
        )
        forgotten += _numbers(
            session,
            select(JOBS.c.number)
            .where(JOBS.c.state == state.value, JOBS.c.due_us <= session.now_us, ~pending.exists())
            .order_by(JOBS.c.due_us),
        )
    if forgotten:
        for table, column in (
            (REQUESTS, REQUESTS.c.job),
            (ANSWERS, ANSWERS.c.job),
            (WEBHOOKS, WEBHOOKS.c.job),
            (JOBS, JOBS.c.number),
        ):
            session.connection.execute(delete(table).where(column.in_(forgotten)))
    return [len(forgotten)] * len(given)


def no_such_job(name: str) -> NotFound:
    return NotFound(
        f"there is no job {name[:80]!r} here",
        hint="it may be another caller's, or was finished so long ago that it is forgotten",
    )


def _numbers(session: Session, query: Any) -> list[int]:
    return list(session.connection.scalars(query.limit(SWEPT_MAX)))
