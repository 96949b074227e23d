"""Handing out webhooks to tell, and writing what became of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import bindparam, select, update

from penstock.core.errors import PenstockError
from penstock.serving.jobs.changing import SECOND_US, Session
from penstock.serving.jobs.job import DeliveryState, JobRecord
from penstock.serving.jobs.reading import read_jobs
from penstock.serving.jobs.tables import JOBS, WEBHOOKS

__all__ = ["DeliveriesWanted", "Delivery", "DeliveryEnded", "Shares", "claim_deliveries", "end_deliveries"]

PASSES_MAX = 8


class Shares(NamedTuple):
    """How many at once there may be of each; how many there are, of those that have some."""

    most: int
    under_way: Mapping[str, int]


class DeliveriesWanted(NamedTuple):
    """How many more webhooks may be told at once, of each host and of each tenant. Who has not said within
    `lease_s` what became of one has lost it.
    """

    room: int
    lease_s: float
    hosts: Shares
    tenants: Shares


class Delivery(NamedTuple):
    """A webhook to tell now; `attempts` counts this one."""

    number: int
    epoch: int
    attempts: int
    url: str
    host: str
    job: JobRecord


class DeliveryEnded(NamedTuple):
    """What became of it: told, given up, or to be tried again at `due_us` (state pending)."""

    number: int
    epoch: int
    state: DeliveryState
    due_us: int
    error: str


def claim_deliveries(
    session: Session, given: Sequence[DeliveriesWanted]
) -> list[list[Delivery] | PenstockError]:
    """Those that are due longest, but of each host and tenant only so many: one that is slow holds up nobody
    else.
    """
    return [_claim(session, each) for each in given]


def end_deliveries(session: Session, given: Sequence[DeliveryEnded]) -> list[bool | PenstockError]:
    """Writes it, where nobody else has the webhook by now: False where somebody has."""
    query = select(WEBHOOKS.c.job, WEBHOOKS.c.epoch, WEBHOOKS.c.state).where(
        WEBHOOKS.c.job.in_([each.number for each in given])
    )
    standing = {row.job: row for row in session.connection.execute(query.with_for_update())}
    outcomes: list[bool | PenstockError] = []
    for each in given:
        row = standing.get(each.number)
        own = row is not None and row.epoch == each.epoch and row.state == DeliveryState.PENDING.value
        outcomes.append(own)
        if own:
            session.connection.execute(
                update(WEBHOOKS)
                .where(WEBHOOKS.c.job == bindparam("ended"))
                .values(state=each.state.value, due_us=each.due_us, error=each.error),
                {"ended": each.number},
            )
            if each.state is not DeliveryState.PENDING:
                session.counted[f"webhook {each.state.value}"] += 1
    return outcomes


def _claim(session: Session, wanted: DeliveriesWanted) -> list[Delivery]:
    hosts, tenants = Counter(wanted.hosts.under_way), Counter(wanted.tenants.under_way)
    chosen: list[int] = []
    for _ in range(PASSES_MAX):
        room = wanted.room - len(chosen)
        if room <= 0:
            break
        query = (
            select(WEBHOOKS.c.job, WEBHOOKS.c.host, WEBHOOKS.c.tenant)
            .where(
                WEBHOOKS.c.state == DeliveryState.PENDING.value,
                WEBHOOKS.c.due_us <= session.now_us,
                WEBHOOKS.c.host.not_in([host for host in hosts if hosts[host] >= wanted.hosts.most]),
                WEBHOOKS.c.tenant.not_in([each for each in tenants if tenants[each] >= wanted.tenants.most]),
                WEBHOOKS.c.job.not_in(chosen),
            )
            .order_by(WEBHOOKS.c.due_us)
            .limit(room)
        )
        rows = session.connection.execute(query).all()
        if not rows:
            break
        for row in rows:
            if hosts[row.host] < wanted.hosts.most and tenants[row.tenant] < wanted.tenants.most:
                hosts[row.host] += 1
                tenants[row.tenant] += 1
                chosen.append(row.job)
    return _taken(session, chosen, wanted.lease_s) if chosen else []


def _taken(session: Session, numbers: Sequence[int], lease_s: float) -> list[Delivery]:
    taking = (
        update(WEBHOOKS)
        .where(WEBHOOKS.c.job.in_(numbers))
        .values(
            epoch=WEBHOOKS.c.epoch + 1,
            attempts=WEBHOOKS.c.attempts + 1,
            due_us=session.now_us + int(lease_s * SECOND_US),
        )
        .returning(WEBHOOKS.c.job, WEBHOOKS.c.epoch, WEBHOOKS.c.attempts, WEBHOOKS.c.url, WEBHOOKS.c.host)
    )
    rows = session.connection.execute(taking).all()
    named = session.connection.execute(select(JOBS.c.number, JOBS.c.id).where(JOBS.c.number.in_(numbers))).all()
    ids = {row.number: row.id for row in named}
    jobs = {job.id: job for job in read_jobs(session.connection, list(ids.values()))}
    return [Delivery(row.job, row.epoch, row.attempts, row.url, row.host, jobs[ids[row.job]]) for row in rows]
