"""Jobs in a home folder, looked at and cancelled from outside the server: what `penstock jobs` does."""

from pathlib import Path
from types import TracebackType
from typing import Self

from penstock.core.clock import Clock
from penstock.core.errors import NotFound, PenstockError
from penstock.core.rng import unit_random
from penstock.core.settings import Settings
from penstock.serving.jobs.changing import QueueRoom, Session
from penstock.serving.jobs.database import JobDatabase, jobs_exist
from penstock.serving.jobs.job import JobRecord, JobState, to_us
from penstock.serving.jobs.life import JobPolicy
from penstock.serving.jobs.reading import JobCounts, count_jobs, read_jobs, read_latest
from penstock.serving.jobs.sweeping import Cancelling, cancel, no_such_job

__all__ = ["StoredJobs"]


class StoredJobs:
    """Those of a home folder; a context that closes it. All of it blocks."""

    def __init__(self, database: JobDatabase, settings: Settings, clock: Clock) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock

    @classmethod
    def open(cls, settings: Settings, clock: Clock) -> "StoredJobs":
        """Raises `NotFound` where there never was a job, and what `JobDatabase.open` raises."""
        home = Path(settings.home)
        if not jobs_exist(home):
            raise NotFound(
                f"no job was ever taken on in {home}", hint="send an inference with Prefer: respond-async"
            )
        return cls(JobDatabase.open(home, clock), settings, clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def latest(self, *, state: JobState | None, count: int) -> list[JobRecord]:
        """The newest, newest first; `state` None: in whichever state."""
        with self._database.reading() as connection:
            return read_latest(connection, state=state, count=count)

    def find(self, name: str) -> JobRecord:
        """Raises `NotFound`."""
        with self._database.reading() as connection:
            found = read_jobs(connection, [name])
        if not found:
            raise no_such_job(name)
        return found[0]

    def cancel(self, name: str) -> JobRecord:
        """The job as it is then: one that runs goes on until that is noticed. Raises `NotFound`, `Conflict`."""
        jobs = self._settings.jobs
        policy = JobPolicy(
            attempts_max=jobs.attempts_max,
            first_s=jobs.retry_first_s,
            longest_s=jobs.retry_longest_s,
            lease_s=jobs.lease_s,
            kept_s=jobs.result_ttl_s,
        )
        with self._database.writing("it was not cancelled") as connection:
            session = Session(
                connection, to_us(self._clock.now()), policy, unit_random, QueueRoom(jobs.queued_max)
            )
            (outcome,) = cancel(session, [Cancelling(name, None)])
        if isinstance(outcome, PenstockError):
            raise outcome
        return outcome

    def counts(self) -> JobCounts:
        with self._database.reading() as connection:
            return count_jobs(connection)
