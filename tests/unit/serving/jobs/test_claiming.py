from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.core.clock import ManualClock
from penstock.core.errors import ConfigurationError
from penstock.models.registry.database import Database
from penstock.serving.jobs import claiming, enqueueing
from penstock.serving.jobs.changing import QueueRoom, Session
from penstock.serving.jobs.claiming import Claim, Ended, claim, end_attempts
from penstock.serving.jobs.database import JobDatabase
from penstock.serving.jobs.enqueueing import enqueue
from penstock.serving.jobs.job import JobRequest, NewJob, to_us
from penstock.serving.jobs.keeping import forget_events, read_events
from penstock.serving.jobs.life import JobPolicy, Outcome, Verdict
from penstock.serving.jobs.reading import count_jobs, read_due, read_jobs
from penstock.serving.jobs.sweeping import sweep

POLICY = JobPolicy(attempts_max=3, first_s=10.0, longest_s=50.0, lease_s=10.0, kept_s=60.0)


class Rig:
    def __init__(self, home: Path) -> None:
        self.room = QueueRoom(100)
        self.clock = ManualClock()
        self.database = JobDatabase.open(home, self.clock)

    def write(self, work, *given):
        with self.database.writing("nothing") as connection:
            session = Session(connection, to_us(self.clock.now()), POLICY, lambda: 0.0, self.room)
            return work(session, given)

    def submit(self, *ids: str, model: str = "m", tenant: str = "@", **more) -> list:
        requests = [NewJob(each, model, "d", JobRequest("/", {}, b"", tenant), **more) for each in ids]
        return self.write(enqueue, *requests)

    def claim(self, room: int = 10):
        (share,) = self.write(claim, Claim(room))
        return share.jobs


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


def test_tenants_take_turns_however_much_one_of_them_wants(rig: Rig) -> None:
    rig.submit(*(f"many{number}" for number in range(20)), tenant="a")
    rig.clock.advance(1)
    rig.submit("one", tenant="b")
    rig.submit("two", tenant="c")
    (share,) = rig.write(claim, Claim(4))
    assert {job.id for job in share.jobs} == {"many0", "many1", "one", "two"}
    assert share.more


def test_one_at_a_time_still_goes_round_the_tenants(rig: Rig) -> None:
    for tenant in "abc":
        rig.submit(f"{tenant}1", f"{tenant}2", tenant=tenant)
    found, after = [], ("", "")
    for _ in range(6):
        (share,) = rig.write(claim, Claim(1, after=after))
        after = share.after
        found += [job.id for job in share.jobs]
    assert found == ["a1", "b1", "c1", "a2", "b2", "c2"]


def test_a_model_without_room_leaves_it_to_others(rig: Rig) -> None:
    rig.submit(*(f"full{number}" for number in range(20)), model="full")
    rig.clock.advance(1)
    rig.submit("free", model="free")
    (share,) = rig.write(claim, Claim(10, of_models={"full": 2}))
    assert sorted(job.id for job in share.jobs) == ["free", "full0", "full1"]
    (share,) = rig.write(claim, Claim(10, of_models={"full": 0}))
    assert (share.jobs, share.more) == ([], False)
    (share,) = rig.write(claim, Claim(10, of_tenants={"@": 1}, of_others=5))
    assert [job.id for job in share.jobs] == ["full2"]


def test_more_lines_than_a_claim_looks_at(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claiming, "LINES_MAX", 3)
    for number in range(8):
        rig.submit(f"job{number}", model=f"model{number}")
    found, after = set(), ("", "")
    for _ in range(8):
        (share,) = rig.write(claim, Claim(10, after=after))
        after = share.after
        found |= {job.id for job in share.jobs}
    assert len(found) == 8


def test_what_lost_its_process_runs_alone(rig: Rig) -> None:
    rig.submit("a", "b")
    assert len(rig.claim()) == 2
    rig.clock.advance(10)
    assert rig.write(sweep, None) == [2]
    rig.submit("c")
    rig.clock.advance(60)
    (share,) = rig.write(claim, Claim(10))
    assert ([job.id for job in share.jobs], share.suspect) == (["c"], True)
    (share,) = rig.write(claim, Claim(10, alone=True))
    assert ([job.id for job in share.jobs], share.suspect) == (["a"], True)
    rig.write(end_attempts, Ended(share.jobs[0].number, share.jobs[0].epoch, Outcome(Verdict.RETRY)))
    rig.clock.advance(60)
    # That one ended, and is like others again.
    (share,) = rig.write(claim, Claim(10))
    assert [job.id for job in share.jobs] == ["a"]


def test_the_share_of_a_tenant(rig: Rig) -> None:
    rig.room = QueueRoom(6, 0, 4)
    assert [type(each).__name__ for each in rig.submit(*"abcde", tenant="x")] == ["Enqueued"] * 4 + ["Refused"]
    (refused,) = rig.submit("f", tenant="x")
    assert "of one tenant" in str(refused)
    assert "jobs.tenant_queued_max" in refused.hint
    (_, _, full) = rig.submit(*"ghi", tenant="y")
    assert "jobs.queued_max" in full.hint
    rig.claim(1)
    assert [type(each).__name__ for each in rig.submit("j", tenant="x")] == ["Enqueued"]


def test_room_that_was_counted_a_moment_ago(rig: Rig) -> None:
    rig.room = QueueRoom(2, 100_000)
    rig.submit("a", "b")
    rig.claim(1)
    # There is room again, though what was counted says there is none.
    assert [type(each).__name__ for each in rig.submit("c", "d")] == ["Enqueued", "Refused"]


def test_events_that_the_log_does_not_take(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enqueueing, "EVENTS_MAX", 3)
    rig.submit(*"abcd")
    (refused,) = rig.submit("e")
    assert "events of jobs wait for the log" in str(refused)
    with rig.database.reading() as connection:
        events = read_events(connection, 9)
    rig.write(forget_events, [each.number for each in events])
    assert [type(each).__name__ for each in rig.submit("e")] == ["Enqueued"]


def test_a_job_that_says_nothing_waits_no_longer_than_may_be(rig: Rig) -> None:
    rig.submit("a")
    rig.clock.advance(604_799)
    assert rig.write(sweep, None) == [0]
    rig.clock.advance(1)
    assert rig.write(sweep, None) == [1]
    with rig.database.reading() as connection:
        assert [job.state.value for job in read_jobs(connection, ["a"])] == ["expired"]


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


def test_counts_of_what_is_not_finished_leave_out_the_rest(rig: Rig) -> None:
    rig.submit("a", "b", "c")
    first, _ = rig.claim(2)
    rig.write(end_attempts, Ended(first.number, first.epoch, Outcome(Verdict.DONE)))
    with rig.database.reading() as connection:
        assert count_jobs(connection).by_state == {"queued": 1, "running": 1, "done": 1}
        assert count_jobs(connection, finished=False).by_state == {"queued": 1, "running": 1}


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
