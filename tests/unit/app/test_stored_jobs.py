"""What `penstock jobs` sees where two apps share a home folder."""

from pathlib import Path

import pytest

from penstock.app.stored_jobs import StoredJobs
from penstock.core.clock import ManualClock
from penstock.core.errors import NotFound
from penstock.core.settings import Settings
from penstock.serving.jobs.changing import QueueRoom, Session
from penstock.serving.jobs.database import JobDatabase, jobs_folder
from penstock.serving.jobs.enqueueing import enqueue
from penstock.serving.jobs.job import JobRequest, NewJob, to_us
from penstock.serving.jobs.life import JobPolicy

POLICY = JobPolicy(attempts_max=3, first_s=10.0, longest_s=50.0, lease_s=10.0, kept_s=60.0)


def submit(home: Path, clock: ManualClock, app: str, name: str) -> None:
    database = JobDatabase.open(jobs_folder(home, app), clock)
    with database.writing("nothing") as connection:
        session = Session(connection, to_us(clock.now()), POLICY, lambda: 0.0, QueueRoom(100))
        enqueue(session, [NewJob(name, "m", "d", JobRequest("/", {}, b"", "@"), key="the same")])
    database.close()


def test_jobs_of_all_apps_of_a_home(tmp_path: Path) -> None:
    clock = ManualClock()
    for app, name in (("alpha", "a1"), ("beta", "b1")):
        clock.advance(1)
        submit(tmp_path, clock, app, name)
    with StoredJobs.open(Settings(home=str(tmp_path)), clock) as stored:
        assert [(app, job.id) for app, job in stored.latest(state=None, count=9)] == [
            ("beta", "b1"),
            ("alpha", "a1"),
        ]
        assert [job.id for _, job in stored.latest(state=None, count=1)] == ["b1"]
        assert stored.find("a1").app == "alpha"
        assert stored.cancel("a1").state.value == "cancelled"
        assert stored.counts() == {"queued": 1, "cancelled": 1}
        with pytest.raises(NotFound):
            stored.find("c1")
        with pytest.raises(NotFound):
            stored.cancel("c1")


def test_where_there_never_was_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no job was ever"):
        StoredJobs.open(Settings(home=str(tmp_path)), ManualClock())
