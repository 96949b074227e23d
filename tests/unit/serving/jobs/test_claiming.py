from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.core.clock import ManualClock
from penstock.core.errors import ConfigurationError
from penstock.models.registry.database import Database
from penstock.serving.jobs.changing import QueueRoom, Session
from penstock.serving.jobs.claiming import Claim, Ended, claim, end_attempts
from penstock.serving.jobs.database import JobDatabase
from penstock.serving.jobs.enqueueing import enqueue
from penstock.serving.jobs.job import JobRequest, NewJob, to_us
from penstock.serving.jobs.life import JobPolicy, Outcome, Verdict
from penstock.serving.jobs.reading import count_jobs, read_due

POLICY = JobPolicy(attempts_max=3, first_s=10.0, longest_s=50.0, lease_s=10.0, kept_s=60.0)


class Rig:
    def __init__(self, home: Path) -> None:
        self.clock = ManualClock()
        self.database = JobDatabase.open(home, self.clock)

    def write(self, work, *given):
        with self.database.writing("nothing") as connection:
            session = Session(connection, to_us(self.clock.now()), POLICY, lambda: 0.0, QueueRoom(100))
            return work(session, given)

    def submit(self, *ids: str, **more) -> None:
        self.write(enqueue, *(NewJob(each, "m", "d", JobRequest("/", {}, b"", "@"), **more) for each in ids))

    def claim(self, room: int = 10):
        (share,) = self.write(claim, Claim(room))
        return share


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.database.close()


def test_first_come_first_served(rig: Rig) -> None:
    for name in ("b", "a", "c"):
        rig.submit(name)
        rig.clock.advance(0.001)
    assert [job.id for job in rig.claim(2)] == ["b", "a"]
    assert [job.id for job in rig.claim(2)] == ["c"]


def test_not_before_its_pause_is_over(rig: Rig) -> None:
    rig.submit("a")
    (job,) = rig.claim()
    rig.write(end_attempts, Ended(job.number, job.epoch, Outcome(Verdict.RETRY, error="no")))
    rig.clock.advance(4.9)
    assert rig.claim() == []
    rig.clock.advance(0.1)
    assert [job.epoch for job in rig.claim()] == [2]


def test_not_once_it_waited_too_long(rig: Rig) -> None:
    rig.submit("a", wait_us_max=1_000_000)
    rig.clock.advance(1)
    assert rig.claim() == []


def test_who_lost_a_job_writes_nothing_of_it(rig: Rig) -> None:
    rig.submit("a")
    (first,) = rig.claim()
    released = Outcome(Verdict.RELEASED)
    assert rig.write(end_attempts, Ended(first.number, first.epoch, released)) == [True]
    (second,) = rig.claim()
    done = Outcome(Verdict.DONE)
    assert rig.write(end_attempts, Ended(first.number, first.epoch, done)) == [False]
    assert rig.write(end_attempts, Ended(second.number, second.epoch, done)) == [True]
    assert rig.write(end_attempts, Ended(second.number, second.epoch, done)) == [False]


def test_what_there_is_to_do(rig: Rig) -> None:
    def due():
        with rig.database.reading() as connection:
            return read_due(connection, to_us(rig.clock.now()))

    assert due() == (False, False, False, False, False)
    rig.submit("a")
    assert due() == (False, False, True, False, True)
    (job,) = rig.claim()
    rig.clock.advance(10)
    assert due().sweep
    rig.write(end_attempts, Ended(job.number, job.epoch, Outcome(Verdict.DONE)))
    assert due() == (False, False, True, False, False)
    rig.clock.advance(60)
    assert due().forget


def test_counts(rig: Rig) -> None:
    rig.submit("a", "b")
    rig.claim(1)
    with rig.database.reading() as connection:
        counts = count_jobs(connection)
    assert counts.by_state == {"queued": 1, "running": 1}
    assert (counts.due_us, counts.untold) == (to_us(rig.clock.now()), 2)


def test_a_database_of_others_and_of_later_ones(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'jobs.db'}")
    with database.writing("") as connection:
        connection.exec_driver_sql("CREATE TABLE jobs (x)")
    with pytest.raises(ConfigurationError, match="not of jobs"):
        JobDatabase.open(tmp_path, ManualClock())
    with database.writing("") as connection:
        connection.exec_driver_sql("CREATE TABLE job_revisions (revision)")
        connection.exec_driver_sql("INSERT INTO job_revisions VALUES (9)")
    with pytest.raises(ConfigurationError, match="revision 9"):
        JobDatabase.open(tmp_path, ManualClock())
    database.close()
