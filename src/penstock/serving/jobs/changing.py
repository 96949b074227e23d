"""How changes of jobs are written, within a transaction that holds the database's one write lock.

What is read under it stands until it commits (`with_for_update`, for another database than SQLite).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, bindparam, insert, select, update

from penstock.serving.jobs.job import DeliveryState, JobState
from penstock.serving.jobs.life import Change, Held, JobPolicy
from penstock.serving.jobs.tables import EVENTS, JOBS, WEBHOOKS

__all__ = ["ACCEPTED", "SECOND_US", "Session", "read_held", "write_changes"]

ACCEPTED = "accepted"
"""The event of a job that was taken on; that of its end is called like its state."""
SECOND_US = 1_000_000


@dataclass(slots=True)
class Session:
    """What a piece of work has within a transaction. `counted`: how many jobs came into which state."""

    connection: Connection
    now_us: int
    policy: JobPolicy
    draw: Callable[[], float]
    queued_max: int
    counted: Counter[str] = field(default_factory=Counter)


def read_held(session: Session, numbers: Sequence[int]) -> dict[int, Held]:
    """Those of these numbers that there are, as they are now."""
    if not numbers:
        return {}
    query = select(
        JOBS.c.number,
        JOBS.c.state,
        JOBS.c.epoch,
        JOBS.c.due_us,
        JOBS.c.attempts,
        JOBS.c.refusals,
        JOBS.c.cancel_asked,
        JOBS.c.expires_us,
        JOBS.c.error,
    ).where(JOBS.c.number.in_(numbers))
    rows = session.connection.execute(query.with_for_update()).all()
    return {number: Held(JobState(state), *rest) for number, state, *rest in rows}


def write_changes(session: Session, changes: Mapping[int, tuple[Held, Change]]) -> None:
    """From what to what, by number."""
    if not changes:
        return
    now_us = session.now_us
    rows = []
    final = []
    for number, (held, change) in changes.items():
        rows.append(
            {
                "changed": number,
                "state": change.state.value,
                "due_us": change.due_us,
                "attempts": change.attempts,
                "refusals": change.refusals,
                "cancel_asked": change.cancel_asked,
                "error": change.error,
                "finished_us": now_us if change.state.final else None,
            }
        )
        if change.state.final:
            final.append(number)
        if change.state is not held.state:
            session.counted[change.state.value] += 1
    session.connection.execute(_CHANGE, rows)
    if final:
        _tell_end(session, final, {number: changes[number][1] for number in final})


_CHANGE = (
    update(JOBS)
    .where(JOBS.c.number == bindparam("changed"))
    .values(
        {
            column: bindparam(column)
            for column in ("state", "due_us", "attempts", "refusals", "cancel_asked", "error", "finished_us")
        }
    )
)


def _tell_end(session: Session, numbers: Sequence[int], changes: Mapping[int, Change]) -> None:
    """To the log, later, and to webhooks."""
    query = select(JOBS.c.number, JOBS.c.id, JOBS.c.tenant, JOBS.c.model, JOBS.c.has_webhook).where(
        JOBS.c.number.in_(numbers)
    )
    rows = session.connection.execute(query).all()
    session.connection.execute(
        insert(EVENTS),
        [
            {
                "job_id": row.id,
                "sequence": 2,
                "event": changes[row.number].state.value,
                "at_us": session.now_us,
                "tenant": row.tenant,
                "model": row.model,
                "attempts": changes[row.number].attempts,
                "error": changes[row.number].error,
            }
            for row in rows
        ],
    )
    told = [row.number for row in rows if row.has_webhook]
    if told:
        session.connection.execute(
            update(WEBHOOKS)
            .where(WEBHOOKS.c.job.in_(told))
            .values(state=DeliveryState.PENDING.value, due_us=session.now_us)
        )
