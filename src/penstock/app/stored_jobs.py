"""Jobs in a home folder, looked at and cancelled from outside the server: what `penstock jobs` does."""

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from penstock.core.clock import Clock
from penstock.core.errors import NotFound, PenstockError
from penstock.core.rng import unit_random
from penstock.core.settings import Settings
from penstock.serving.jobs.changing import QueueRoom, Session
from penstock.serving.jobs.database import JobDatabase, apps_with_jobs, jobs_folder
from penstock.serving.jobs.job import JobRecord, JobState, to_us
from penstock.serving.jobs.life import JobPolicy
from penstock.serving.jobs.reading import count_jobs, read_jobs, read_latest
from penstock.serving.jobs.sweeping import Cancelling, cancel, no_such_job

__all__ = ["StoredJob", "StoredJobs"]


class StoredJob(NamedTuple):
    """A job, and whose it is."""

    app: str
    job: JobRecord


class StoredJobs:
    """Those of a home folder, of all apps that have some in it; a context that closes it. All of it blocks."""

    def __init__(self, databases: dict[str, JobDatabase], settings: Settings, clock: Clock) -> None:
        self._databases = databases
        self._settings = settings
        self._clock = clock

    @classmethod
    def open(cls, settings: Settings, clock: Clock) -> "StoredJobs":
        """Raises `NotFound` where there never was a job, and what `JobDatabase.open` raises."""
        home = Path(settings.home)
        apps = apps_with_jobs(home)
        if not apps:
            raise NotFound(
                f"no job was ever taken on in {home}", hint="send an inference with Prefer: respond-async"
            )
        databases = {}
        with ExitStack() as opened:
            for app in apps:
                databases[app] = JobDatabase.open(jobs_folder(home, app), clock)
                opened.callback(databases[app].close)
            opened.pop_all()
        return cls(databases, settings, clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for database in self._databases.values():
            database.close()

    def latest(self, *, state: JobState | None, count: int) -> list[StoredJob]:
        """The newest, newest first; `state` None: in whichever state."""
        found: list[StoredJob] = []
        for app, database in self._databases.items():
            with database.reading() as connection:
                found += (StoredJob(app, job) for job in read_latest(connection, state=state, count=count))
        return sorted(found, key=lambda each: each.job.created_us, reverse=True)[:count]

    def find(self, name: str) -> StoredJob:
        """Raises `NotFound`."""
        for app, database in self._databases.items():
            with database.reading() as connection:
                for job in read_jobs(connection, [name]):
                    return StoredJob(app, job)
        raise no_such_job(name)

    def cancel(self, name: str) -> JobRecord:
        """The job as it is then: one that runs goes on until that is noticed. Raises `NotFound`, `Conflict`."""
        jobs = self._settings.jobs
        database = self._databases[self.find(name).app]
        policy = JobPolicy(
            attempts_max=jobs.attempts_max,
            first_s=jobs.retry_first_s,
            longest_s=jobs.retry_longest_s,
            lease_s=jobs.lease_s,
            kept_s=jobs.result_ttl_s,
        )
        with database.writing("it was not cancelled") as connection:
            room = QueueRoom(jobs.queued_max)
            session = Session(
                connection,
                database.now_us(),
                policy,
                unit_random,
                room,
                clock_us=to_us(self._clock.now()),
            )
            (outcome,) = cancel(session, [Cancelling(name, None)])
        if isinstance(outcome, PenstockError):
            raise outcome
        return outcome

    def counts(self) -> Counter[str]:
        """How many jobs are in which state."""
        counted: Counter[str] = Counter()
        for database in self._databases.values():
            with database.reading() as connection:
                counted.update(count_jobs(connection).by_state)
        return counted
