"""What one process at a time does for all of them: which one, and the events that the log has not got yet."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, delete, insert, select, update

from penstock.core.errors import PenstockError
from penstock.serving.jobs.changing import SECOND_US, Session
from penstock.serving.jobs.tables import EVENTS, KEEPERS

__all__ = ["JobEvent", "Keeping", "forget_events", "keep", "read_events"]

KEEPER = "keeper"
LEASE_S = 5.0
FORGOTTEN_AT_ONCE = 500


class Keeping(NamedTuple):
    """Who would keep; or gives it up."""

    holder: str
    gives_up: bool = False


class JobEvent(NamedTuple):
    """Something that happened to a job: the first thing has sequence 1."""

    number: int
    job_id: str
    sequence: int
    event: str
    at_us: int
    tenant: str
    model: str
    attempts: int
    error: str


def keep(session: Session, given: Sequence[Keeping]) -> list[bool | PenstockError]:
    """Whether each is the keeper now, for the next seconds: who was it before, where it still is."""
    outcomes: list[bool | PenstockError] = []
    for holder, gives_up in given:
        row = session.connection.execute(
            select(KEEPERS.c.holder, KEEPERS.c.until_us).where(KEEPERS.c.name == KEEPER).with_for_update()
        ).one_or_none()
        until_us = session.now_us if gives_up else session.now_us + int(LEASE_S * SECOND_US)
        if row is None:
            session.connection.execute(insert(KEEPERS).values(name=KEEPER, holder=holder, until_us=until_us))
        elif row.holder == holder or row.until_us <= session.now_us:
            session.connection.execute(
                update(KEEPERS).where(KEEPERS.c.name == KEEPER).values(holder=holder, until_us=until_us)
            )
        else:
            outcomes.append(False)
            continue
        outcomes.append(not gives_up)
    return outcomes


def read_events(connection: Connection, count: int) -> list[JobEvent]:
    """The first that the log has not got, in the order in which they happened."""
    return [JobEvent(*row) for row in connection.execute(select(EVENTS).order_by(EVENTS.c.number).limit(count))]


def forget_events(session: Session, given: Sequence[list[int]]) -> list[PenstockError | None]:
    """The log has these."""
    for numbers in given:
        for start in range(0, len(numbers), FORGOTTEN_AT_ONCE):
            session.connection.execute(
                delete(EVENTS).where(EVENTS.c.number.in_(numbers[start : start + FORGOTTEN_AT_ONCE]))
            )
    return [None for _ in given]
