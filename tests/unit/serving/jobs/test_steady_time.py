"""The clock is set, and the machine starts anew: nothing is due too early, and nothing waits for hours."""

from datetime import timedelta
from pathlib import Path

import pytest

from penstock.core.clock import ManualClock
from penstock.serving.jobs import database as database_module
from penstock.serving.jobs.changing import QueueRoom, Session
from penstock.serving.jobs.claiming import Claim, Ended, claim, end_attempts
from penstock.serving.jobs.database import JobDatabase
from penstock.serving.jobs.enqueueing import enqueue
from penstock.serving.jobs.job import JobRequest, NewJob, to_us
from penstock.serving.jobs.keeping import Keeping, keep
from penstock.serving.jobs.life import JobPolicy, Outcome, Verdict
from penstock.serving.jobs.reading import read_jobs
from penstock.serving.jobs.sweeping import forget, sweep

POLICY = JobPolicy(attempts_max=3, first_s=2.0, longest_s=50.0, lease_s=10.0, kept_s=3600.0)


class SetClock(ManualClock):
    """Somebody sets it."""

    ahead = timedelta(0)

    def now(self):
        return super().now() + self.ahead


class Rig:
    def __init__(self, home: Path, clock: SetClock) -> None:
        self.clock = clock
        self.database = JobDatabase.open(home, clock)

    def write(self, work, *given):
        with self.database.writing("nothing") as connection:
            session = Session(
                connection,
                self.database.now_us(),
                POLICY,
                lambda: 0.0,
                QueueRoom(100),
                clock_us=to_us(self.clock.now()),
            )
            return work(session, given)

    def submit(self, *ids: str) -> None:
        self.write(enqueue, *(NewJob(each, "m", "d", JobRequest("/", {}, b"", "@")) for each in ids))

    def claim(self):
        (share,) = self.write(claim, Claim(9))
        return share.jobs


@pytest.mark.parametrize("hours", [-1, 25])
def test_the_clock_is_set(tmp_path: Path, hours: int) -> None:
    rig = Rig(tmp_path, SetClock())
    rig.submit("kept", "lost")
    kept, _ = rig.claim()
    rig.write(end_attempts, Ended(kept.number, kept.epoch, Outcome(Verdict.DONE)))
    rig.submit("waiting")
    rig.clock.ahead = timedelta(hours=hours)
    assert rig.write(forget, None) == [0]
    assert rig.write(sweep, None) == [0]
    assert [job.id for job in rig.claim()] == ["waiting"]
    rig.clock.advance(10)
    assert rig.write(sweep, None) == [2]
    # A process that is started meanwhile has the same time; people are told the clock's.
    other = Rig(tmp_path, rig.clock)
    assert other.database.now_us() == rig.database.now_us()
    other.submit("new")
    with other.database.reading() as connection:
        (job,) = read_jobs(connection, ["new"])
    assert job.created_us == to_us(rig.clock.now())
    assert job.expires_us == job.created_us + 604_800_000_000
    rig.clock.advance(3600)
    assert rig.write(forget, None) == [1]
    other.database.close()
    rig.database.close()


def test_the_machine_starts_anew_with_its_clock_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "this_start", lambda: "first")
    clock = SetClock()
    clock.advance(100_000)
    rig = Rig(tmp_path, clock)
    rig.submit("lost")
    rig.claim()
    rig.write(keep, Keeping("somebody"))
    before_us = rig.database.now_us()
    rig.database.close()
    monkeypatch.setattr(database_module, "this_start", lambda: "second")
    clock = SetClock()
    clock.ahead = timedelta(days=-3000)
    rig = Rig(tmp_path, clock)
    assert 0 <= rig.database.now_us() - before_us <= 10_000_000
    clock.advance(10)
    assert rig.write(sweep, None) == [1]
    rig.database.close()


def test_where_the_system_does_not_tell_its_starts_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "this_start", lambda: "")
    clock = SetClock()
    rig = Rig(tmp_path, clock)
    clock.ahead = timedelta(hours=1)
    assert rig.database.now_us() == to_us(clock.now())
    rig.database.close()
