"""Jobs, durably: what processes ask of them, from their event loops."""

import asyncio
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from penstock.core.clock import Clock
from penstock.core.errors import PenstockError
from penstock.core.failpoints import Failpoints
from penstock.serving.jobs.changing import QueueRoom, Session
from penstock.serving.jobs.claiming import claim, end_attempts, renew
from penstock.serving.jobs.database import JobDatabase
from penstock.serving.jobs.delivering import claim_deliveries, end_deliveries
from penstock.serving.jobs.enqueueing import Standing, enqueue, standing_by_key
from penstock.serving.jobs.gathering import Call, Gathering, Kind
from penstock.serving.jobs.job import JobAnswer, JobRecord, to_us
from penstock.serving.jobs.keeping import JobEvent, forget_events, keep, read_events
from penstock.serving.jobs.life import JobPolicy
from penstock.serving.jobs.reading import Due, JobCounts, count_jobs, read_due, read_jobs, read_results
from penstock.serving.jobs.sweeping import cancel, forget, sweep

__all__ = [
    "CANCEL",
    "CLAIM",
    "CLAIM_DELIVERIES",
    "END",
    "END_DELIVERIES",
    "ENQUEUE",
    "FORGET",
    "FORGET_EVENTS",
    "KEEP",
    "RENEW",
    "SWEEP",
    "JobStore",
    "StoreConfig",
]

log = logging.getLogger(__name__)

COUNTED_US = 100_000

T = TypeVar("T")

TURNS_A_LEASE = 4
"""A turn that does not come must leave time to renew a lease at the next."""

ENQUEUE = Kind("enqueue", enqueue)
CLAIM = Kind("claim", claim)
RENEW = Kind("renew", renew)
END = Kind("end", end_attempts)
CANCEL = Kind("cancel", cancel)
SWEEP = Kind("sweep", sweep)
FORGET = Kind("forget", forget)
CLAIM_DELIVERIES = Kind("claim-webhook", claim_deliveries)
END_DELIVERIES = Kind("end-webhook", end_deliveries)
KEEP = Kind("keep", keep)
FORGET_EVENTS = Kind("told", forget_events)


class StoreConfig(NamedTuple):
    """`draw` draws evenly from 0 to below 1, for jitter."""

    policy: JobPolicy
    queued_max: int
    draw: Callable[[], float]
    tenant_queued_max: int | None = None


class JobStore:
    """One for each process and event loop. What is written is durable once its future is done."""

    def __init__(
        self, database: JobDatabase, config: StoreConfig, clock: Clock, failpoints: Failpoints
    ) -> None:
        self._database = database
        self._config = config
        self._clock = clock
        self._failpoints = failpoints
        self._room = QueueRoom(config.queued_max, COUNTED_US, config.tenant_queued_max)
        self._writes = Gathering("penstock-jobs-write", self._write)
        self._reads = Gathering("penstock-jobs-read", self._read)
        self.counted: Counter[str] = Counter()
        """How many jobs came into which state by this process, and how many webhooks."""
        self.call = self._writes.call
        self.now_us = database.now_us
        """The time by which all that is due is due."""

    @classmethod
    async def open(cls, folder: Path, config: StoreConfig, clock: Clock, failpoints: Failpoints) -> "JobStore":
        """Makes what is not there. Raises as `JobDatabase.open` does."""
        database = await asyncio.to_thread(JobDatabase.open, folder, clock)
        return cls(database, config, clock, failpoints)

    async def find(self, name: str) -> JobRecord | None:
        """The job with this id."""
        return await self._reads.call(_FIND, name)

    async def result(self, name: str) -> tuple[JobRecord, JobAnswer | None] | None:
        """The job with this id, and what it was answered, where that was kept."""
        return await self._reads.call(_RESULT, name)

    async def standing(self, tenant: str, key: str) -> Standing | None:
        """The job that a caller's key stands for."""
        return await self._reads.call(_STANDING, (tenant, key))

    async def counts(self) -> JobCounts:
        """Of jobs that are not finished."""
        return await self._reads.call(_COUNTS, None)

    async def events(self, count: int) -> list[JobEvent]:
        return await self._reads.call(_EVENTS, count)

    async def due(self) -> Due:
        """What there is to do by itself. It holds up nobody who writes."""
        return await self._reads.call(_DUE, self.now_us())

    async def close(self) -> None:
        """What was called is done first."""
        await self._writes.close()
        await self._reads.close()
        await asyncio.to_thread(self._database.close)

    def _write(self, group: Sequence[Call]) -> list[Any]:
        outcomes: dict[int, Any] = {}
        config = self._config
        by_kind: dict[str, list[int]] = {}
        for place, call in enumerate(group):
            by_kind.setdefault(call.kind.name, []).append(place)
        turn_s = config.policy.lease_s / TURNS_A_LEASE
        with self._database.writing("nothing was written", turn_s) as connection:
            session = Session(
                connection,
                self.now_us(),
                config.policy,
                config.draw,
                self._room,
                clock_us=to_us(self._clock.now()),
            )
            for name, places in by_kind.items():
                given = [group[place].given for place in places]
                outcomes |= zip(places, _apart(session, group[places[0]].kind.run, given), strict=True)
                self._failpoints.pass_by(f"jobs-{name}")
        for name in by_kind:
            self._failpoints.pass_by(f"jobs-{name}-done")
        self.counted += session.counted
        return [outcomes[place] for place in range(len(group))]

    def _read(self, group: Sequence[Call]) -> list[Any]:
        outcomes: dict[int, Any] = {}
        by_kind: dict[str, list[int]] = {}
        for place, call in enumerate(group):
            by_kind.setdefault(call.kind.name, []).append(place)
        with self._database.reading() as connection:
            for places in by_kind.values():
                run = group[places[0]].kind.run
                outcomes |= zip(places, run(connection, [group[place].given for place in places]), strict=True)
        return [outcomes[place] for place in range(len(group))]


def _apart(
    session: Session, run: Callable[[Session, Sequence[Any]], Sequence[Any]], given: list[Any]
) -> list[Any]:
    """All of a kind; where that raises what is not the database's, each by itself: one that cannot be done
    keeps nothing else from being done.
    """
    counted = session.counted.copy()
    nested = session.connection.begin_nested()
    try:
        outcomes = list(run(session, given))
        nested.commit()
    except PenstockError:
        raise
    except Exception as error:
        if isinstance(error, OperationalError) and isinstance(error.orig, sqlite3.OperationalError):
            raise
        nested.rollback()
        session.counted = counted
        if len(given) > 1:
            return [outcome for each in given for outcome in _apart(session, run, [each])]
        log.exception("work on a job failed")
        return [error]
    return outcomes


def _find(connection: Connection, names: Sequence[str]) -> list[JobRecord | PenstockError | None]:
    found = {job.id: job for job in read_jobs(connection, names)}
    return [found.get(name) for name in names]


def _each(read: Callable[[Connection, Any], T]) -> Callable[[Connection, Sequence[Any]], list[T]]:
    def run(connection: Connection, given: Sequence[Any]) -> list[T]:
        return [read(connection, each) for each in given]

    return run


_FIND = Kind("find", _find)
_STANDING: Kind[Connection, tuple[str, str], Standing | None] = Kind(
    "standing", _each(lambda connection, named: standing_by_key(connection, *named))
)
_RESULT = Kind("result", read_results)
_COUNTS: Kind[Connection, None, JobCounts] = Kind(
    "counts", _each(lambda connection, _: count_jobs(connection, finished=False))
)
_EVENTS: Kind[Connection, int, list[JobEvent]] = Kind("events", _each(read_events))
_DUE: Kind[Connection, int, Due] = Kind("due", _each(read_due))
