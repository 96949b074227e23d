from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.core.clock import ManualClock
from penstock.serving.jobs.changing import QueueRoom, Session
from penstock.serving.jobs.claiming import Claim, Ended, claim, end_attempts
from penstock.serving.jobs.database import JobDatabase
from penstock.serving.jobs.delivering import (
    DeliveriesWanted,
    DeliveryEnded,
    Shares,
    claim_deliveries,
    end_deliveries,
)
from penstock.serving.jobs.enqueueing import enqueue
from penstock.serving.jobs.job import DeliveryState, JobAnswer, JobRequest, NewJob, to_us
from penstock.serving.jobs.keeping import LEASE_S, Keeping, keep
from penstock.serving.jobs.life import JobPolicy, Outcome, Verdict
from penstock.serving.jobs.reading import read_jobs
from penstock.serving.jobs.sweeping import forget

POLICY = JobPolicy(attempts_max=3, first_s=1.0, longest_s=5.0, lease_s=10.0, kept_s=60.0)
DONE = Outcome(Verdict.DONE, JobAnswer(200, b"", b"{}"))


class Rig:
    def __init__(self, home: Path) -> None:
        self.clock = ManualClock()
        self.database = JobDatabase.open(home, self.clock)

    def write(self, work, *given):
        with self.database.writing("nothing") as connection:
            session = Session(connection, to_us(self.clock.now()), POLICY, lambda: 0.0, QueueRoom(100))
            return work(session, given)

    def finished(self, *urls: str, tenant: str = "@") -> None:
        """A job for each URL, answered."""
        new = [
            NewJob(f"{tenant.strip('@')}job{place}", "m", "d", JobRequest("/", {}, b"", tenant), webhook=url)
            for place, url in enumerate(urls)
        ]
        self.write(enqueue, *new)
        (share,) = self.write(claim, Claim(len(urls)))
        self.write(end_attempts, *(Ended(job.number, job.epoch, DONE) for job in share.jobs))

    def due(self, room: int = 10, **under_way: int):
        return self.due_of(room, Shares(2, under_way), Shares(100, {}))

    def due_of(self, room: int, hosts: Shares, tenants: Shares):
        (share,) = self.write(claim_deliveries, DeliveriesWanted(room, 30.0, hosts, tenants))
        return share


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.database.close()


def test_a_slow_host_takes_no_room_from_others(rig: Rig) -> None:
    rig.finished(*["http://slow.example/"] * 20, "http://quick.example/", "http://third.example/")
    taken = rig.due(6)
    hosts = [each.host for each in taken]
    assert sorted(hosts) == ["quick.example:80", "slow.example:80", "slow.example:80", "third.example:80"]
    assert rig.due(6, **{"slow.example:80": 2}) == []
    assert len(rig.due(6, **{"slow.example:80": 1})) == 1


def test_a_tenant_whose_hosts_are_all_slow_takes_no_room_from_others(rig: Rig) -> None:
    rig.finished(*(f"http://slow{number}.example/" for number in range(20)), tenant="acme")
    rig.finished("http://quick.example/", tenant="zeta")
    taken = rig.due_of(6, Shares(2, {}), Shares(3, {}))
    assert sorted(each.job.tenant for each in taken) == ["acme", "acme", "acme", "zeta"]
    assert rig.due_of(6, Shares(2, {}), Shares(3, {"acme": 3})) == []
    assert len(rig.due_of(6, Shares(2, {}), Shares(3, {"acme": 2}))) == 1


def test_what_nobody_finished_telling_is_told_again_and_by_its_holder_alone(rig: Rig) -> None:
    rig.finished("http://a.example/")
    (first,) = rig.due()
    assert (first.attempts, first.job.id, first.job.state.value) == (1, "job0", "done")
    assert rig.due() == []
    rig.clock.advance(31)
    (second,) = rig.due()
    assert second.attempts == 2
    late = DeliveryEnded(first.number, first.epoch, DeliveryState.GIVEN_UP, 0, "late")
    told = DeliveryEnded(second.number, second.epoch, DeliveryState.DELIVERED, 0, "")
    assert rig.write(end_deliveries, late) == [False]
    assert rig.write(end_deliveries, told) == [True]
    assert rig.write(end_deliveries, told) == [False]
    with rig.database.reading() as connection:
        (job,) = read_jobs(connection, ["job0"])
    assert job.webhook is not None
    assert (job.webhook.status, job.webhook.attempts) == ("delivered", 2)


def test_a_job_is_kept_until_its_webhook_is_through(rig: Rig) -> None:
    rig.finished("http://a.example/")
    (delivery,) = rig.due()
    rig.clock.advance(1000)
    assert rig.write(forget, None) == [0]
    given_up = DeliveryEnded(delivery.number, delivery.epoch, DeliveryState.GIVEN_UP, 0, "down")
    assert rig.write(end_deliveries, given_up) == [True]
    assert rig.write(forget, None) == [1]


def test_one_process_keeps(rig: Rig) -> None:
    assert rig.write(keep, Keeping("a"), Keeping("b")) == [True, False]
    rig.clock.advance(LEASE_S - 1)
    assert rig.write(keep, Keeping("b"), Keeping("a")) == [False, True]
    rig.clock.advance(LEASE_S)
    assert rig.write(keep, Keeping("b")) == [True]
    assert rig.write(keep, Keeping("b", gives_up=True), Keeping("a")) == [False, True]
