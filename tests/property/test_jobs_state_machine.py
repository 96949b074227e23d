"""Jobs against a model of them that knows no tables: what is acknowledged ends once, by whoever has it."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from penstock.core.clock import ManualClock
from penstock.core.errors import Conflict, NotFound, Refused
from penstock.serving.jobs.changing import QueueRoom, Session
from penstock.serving.jobs.claiming import Claim, Ended, claim, end_attempts, renew
from penstock.serving.jobs.database import JobDatabase
from penstock.serving.jobs.enqueueing import KeyTaken, enqueue
from penstock.serving.jobs.job import JobAnswer, JobRequest, NewJob, to_us
from penstock.serving.jobs.keeping import forget_events, read_events
from penstock.serving.jobs.life import JobPolicy, Outcome, Verdict
from penstock.serving.jobs.reading import read_results
from penstock.serving.jobs.sweeping import Cancelling, cancel, forget, sweep

LEASE_S, KEPT_S, FIRST_S, LONGEST_S, ATTEMPTS_MAX, QUEUED_MAX = 10.0, 100.0, 2.0, 5.0, 3, 4
POLICY = JobPolicy(
    attempts_max=ATTEMPTS_MAX, first_s=FIRST_S, longest_s=LONGEST_S, lease_s=LEASE_S, kept_s=KEPT_S
)
TENANTS, KEYS, CONTENTS = ("acme", "zeta"), (None, None, "k1", "k2"), ("a", "b")
FINAL = ("done", "failed", "cancelled", "expired")


@dataclass
class Known:
    """A job as the model has it; times are seconds from the beginning."""

    tenant: str
    key: str | None
    content: str
    expires_s: float
    state: str = "queued"
    from_s: float = 0.0
    until_s: float = 0.0
    holder: int = 0
    attempts: int = 0
    refused: int = 0
    losses: int = 0
    cancel_asked: bool = False
    answer: bytes | None = None
    events: list[str] = field(default_factory=lambda: ["accepted"])

    def end(self, state: str, now_s: float) -> None:
        assert self.state not in FINAL
        self.state, self.until_s, self.cancel_asked = state, now_s + KEPT_S, False
        self.events.append(state)

    def back(self, from_s: float, now_s: float) -> None:
        if self.cancel_asked:
            self.end("cancelled", now_s)
        elif now_s >= self.expires_s:
            self.end("expired", now_s)
        else:
            self.state, self.from_s = "queued", from_s


class JobsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = ManualClock()
        self.began_us = to_us(self.clock.now())
        self.database = JobDatabase.open(Path(self.folder.name), self.clock)
        self.known: dict[str, Known] = {}
        self.claims: list[tuple[int, str, int]] = []
        self.log: list[tuple[str, int, str]] = []
        self.made = 0

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()

    @property
    def now_s(self) -> float:
        return self.clock.monotonic()

    def write(self, work, given):
        with self.database.writing("nothing") as connection:
            session = Session(connection, to_us(self.clock.now()), POLICY, lambda: 0.0, QueueRoom(QUEUED_MAX))
            return work(session, given)

    def new(self, tenant, key, content, wait_s) -> NewJob:
        self.made += 1
        request = JobRequest("/v2/models/m/infer", {"content-type": "x"}, content.encode(), tenant)
        wait_us = None if wait_s is None else int(wait_s * 1e6)
        return NewJob(f"job{self.made}", "m", content, request, key, wait_us)

    @initialize()
    def begin(self) -> None:
        """Nothing is there."""

    @rule(
        asked=st.lists(
            st.tuples(
                st.sampled_from(TENANTS),
                st.sampled_from(KEYS),
                st.sampled_from(CONTENTS),
                st.sampled_from((None, None, 3.0, 30.0)),
            ),
            min_size=1,
            max_size=4,
        )
    )
    def submit(self, asked) -> None:
        jobs = [self.new(*each) for each in asked]
        waiting = sum(each.state == "queued" for each in self.known.values())
        for job, (tenant, key, content, wait_s), outcome in zip(
            jobs, asked, self.write(enqueue, jobs), strict=True
        ):
            standing = next(
                (
                    (name, each)
                    for name, each in self.known.items()
                    if key is not None and (each.tenant, each.key) == (tenant, key)
                ),
                None,
            )
            if standing is not None and standing[1].content == content:
                assert (outcome.job.id, outcome.created) == (standing[0], False)
            elif standing is not None:
                assert isinstance(outcome, KeyTaken)
            elif waiting >= QUEUED_MAX:
                assert isinstance(outcome, Refused)
            else:
                assert (outcome.job.id, outcome.created) == (job.id, True)
                expires_s = float("inf") if wait_s is None else self.now_s + wait_s
                self.known[job.id] = Known(tenant, key, content, expires_s, from_s=self.now_s)
                waiting += 1

    @rule(rooms=st.lists(st.integers(1, 3), min_size=1, max_size=2))
    def take(self, rooms) -> None:
        ready = {
            name
            for name, each in self.known.items()
            if each.state == "queued" and each.from_s <= self.now_s < each.expires_s and not each.losses
        }
        shares = self.write(claim, [Claim(room) for room in rooms])
        taken = [job for share in shares for job in share.jobs]
        assert len(taken) == len({job.id for job in taken}) == min(sum(rooms), len(ready))
        assert {job.id for job in taken} <= ready
        for job in taken:
            known = self.known[job.id]
            assert job.request.body == known.content.encode()
            assert job.request.tenant == known.tenant
            assert job.epoch > known.holder
            known.state, known.holder, known.until_s = "running", job.epoch, self.now_s + LEASE_S
            known.attempts += 1
            self.claims.append((job.number, job.id, job.epoch))

    @rule()
    def take_alone(self) -> None:
        """One that lost its process, which nobody else is given."""
        ready = {
            name
            for name, each in self.known.items()
            if each.state == "queued" and each.from_s <= self.now_s < each.expires_s and each.losses
        }
        (share,) = self.write(claim, [Claim(1, of_others=0, alone=True)])
        assert share.suspect == bool(ready)
        assert len(share.jobs) == min(1, len(ready))
        for job in share.jobs:
            assert job.id in ready
            known = self.known[job.id]
            assert job.epoch > known.holder
            known.state, known.holder, known.until_s = "running", job.epoch, self.now_s + LEASE_S
            known.attempts += 1
            self.claims.append((job.number, job.id, job.epoch))

    def holds(self, name: str, epoch: int) -> bool:
        known = self.known.get(name)
        return known is not None and known.state == "running" and known.holder == epoch

    def held(self) -> list[tuple[int, str, int]]:
        return [each for each in self.claims if self.holds(each[1], each[2])]

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), verdict=st.sampled_from(Verdict))
    def end(self, data, verdict) -> None:
        number, name, epoch = data.draw(
            st.sampled_from(self.held() or self.claims) | st.sampled_from(self.claims)
        )
        body = f"{name} {epoch}".encode()
        answer = JobAnswer(200, b"head", body) if verdict not in (Verdict.REFUSED, Verdict.RELEASED) else None
        (written,) = self.write(end_attempts, [Ended(number, epoch, Outcome(verdict, answer, "why"))])
        assert written == self.holds(name, epoch)
        if not written:
            return
        known = self.known[name]
        if verdict is Verdict.DONE:
            known.answer = body
            known.end("done", self.now_s)
        elif verdict is Verdict.FAILED or (verdict is Verdict.RETRY and known.attempts == ATTEMPTS_MAX):
            known.answer = body
            known.end("failed", self.now_s)
        elif verdict is Verdict.RETRY:
            known.refused = known.losses = 0
            known.back(self.now_s + min(LONGEST_S, FIRST_S * 2 ** (known.attempts - 1)) / 2, self.now_s)
        else:
            known.attempts -= 1
            known.refused += verdict is Verdict.REFUSED
            refused = min(LONGEST_S, FIRST_S * 2 ** (known.refused - 1)) / 2
            known.back(self.now_s + (refused if verdict is Verdict.REFUSED else 0.0), self.now_s)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def keep_alive(self, data) -> None:
        number, name, epoch = data.draw(st.sampled_from(self.claims))
        (renewed,) = self.write(renew, [(number, epoch)])
        assert renewed.held == self.holds(name, epoch)
        if renewed.held:
            assert renewed.cancel_asked == self.known[name].cancel_asked
            self.known[name].until_s = self.now_s + LEASE_S

    @precondition(lambda self: self.known)
    @rule(data=st.data(), tenant=st.sampled_from((*TENANTS, None)))
    def unwanted(self, data, tenant) -> None:
        name = data.draw(st.sampled_from(sorted(self.known)))
        known = self.known[name]
        (outcome,) = self.write(cancel, [Cancelling(name, tenant)])
        if tenant not in (None, known.tenant):
            assert isinstance(outcome, NotFound)
        elif known.state == "cancelled":
            assert outcome.state.value == "cancelled"
        elif known.state in FINAL:
            assert isinstance(outcome, Conflict)
        elif known.state == "queued":
            known.end("cancelled", self.now_s)
            assert outcome.state.value == "cancelled"
        else:
            known.cancel_asked = True
            assert (outcome.state.value, outcome.cancel_asked) == ("running", True)

    @rule()
    def see_to(self) -> None:
        (swept,) = self.write(sweep, [None])
        count = 0
        for known in self.known.values():
            if known.state == "running" and known.until_s <= self.now_s:
                count += 1
                known.attempts -= 1
                known.losses += 1
                if known.losses >= ATTEMPTS_MAX and not known.cancel_asked:
                    known.end("failed", self.now_s)
                else:
                    pause_s = min(LONGEST_S, FIRST_S * 2 ** (known.losses - 1)) / 2
                    known.back(self.now_s + pause_s, self.now_s)
            elif known.state == "queued" and known.expires_s <= self.now_s:
                count += 1
                known.end("expired", self.now_s)
        assert swept == count

    @rule()
    def let_go(self) -> None:
        (forgotten,) = self.write(forget, [None])
        old = [name for name, each in self.known.items() if each.state in FINAL and each.until_s <= self.now_s]
        assert forgotten == len(old)
        for name in old:
            self.check_events(name)
            del self.known[name]

    @rule(count=st.integers(1, 5))
    def tell(self, count) -> None:
        with self.database.reading() as connection:
            events = read_events(connection, count)
        self.log += [(each.job_id, each.sequence, each.event) for each in events]
        self.write(forget_events, [[each.number for each in events]])

    @rule(seconds=st.sampled_from((0.5, 1.0, 2.0, 5.0, 11.0, 60.0)))
    def wait(self, seconds) -> None:
        self.clock.advance(seconds)

    def check_events(self, name: str) -> None:
        with self.database.reading() as connection:
            untold = [(each.job_id, each.sequence, each.event) for each in read_events(connection, 10_000)]
        told = [each for each in (*self.log, *untold) if each[0] == name]
        assert told == [(name, place + 1, event) for place, event in enumerate(self.known[name].events)]

    @invariant()
    def nothing_is_lost(self) -> None:
        names = sorted(self.known)
        with self.database.reading() as connection:
            found = read_results(connection, names)
        for name, result in zip(names, found, strict=True):
            known = self.known[name]
            assert result is not None, f"{name} is lost"
            job, answer = result
            assert (job.state.value, job.attempts, job.cancel_asked) == (
                known.state,
                known.attempts,
                known.cancel_asked,
            )
            assert (None if answer is None else answer.body) == known.answer
            self.check_events(name)


JobsMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40)
TestJobs = JobsMachine.TestCase
