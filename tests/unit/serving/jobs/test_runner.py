"""The runner with a real store, and models that are futures."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from penstock.core.clock import ManualClock
from penstock.core.failpoints import Failpoints
from penstock.serving.jobs.job import JobAnswer, JobRecord, JobRequest, NewJob
from penstock.serving.jobs.life import JobPolicy, Outcome, Verdict
from penstock.serving.jobs.runner import JobRunner, RunnerConfig
from penstock.serving.jobs.store import ENQUEUE, SWEEP, JobStore, StoreConfig

POLICY = JobPolicy(attempts_max=3, first_s=1.0, longest_s=2.0, lease_s=10.0, kept_s=60.0)
DONE = Outcome(Verdict.DONE, JobAnswer(200, b"head", b"body"))
REFUSED = Outcome(Verdict.REFUSED, error="no room")
PATIENCE_S = 20


class Rig:
    """`asked` has the targets in the order in which they were; `answers` what each is answered at once,
    where it is.
    """

    def __init__(self, store: JobStore, clock: ManualClock) -> None:
        self.store, self.clock = store, clock
        self.asked: list[str] = []
        self.open: dict[str, asyncio.Future[Outcome]] = {}
        self.answers: dict[str, Outcome] = {}
        self.runner = self.make(8)

    def make(self, running_max: int) -> JobRunner:
        config = RunnerConfig(running_max, 10.0, 0.01, result_bytes_max=100)
        return JobRunner(self.store, self.execute, config, self.clock, Failpoints(), lambda: None)

    def execute(self, request: JobRequest) -> "asyncio.Future[Outcome]":
        self.asked.append(request.target)
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if request.target in self.answers:
            answer.set_result(self.answers[request.target])
        else:
            self.open[request.target] = answer
        return answer

    async def submit(self, *names: str, model: str = "m", tenant: str = "@") -> None:
        await asyncio.gather(
            *(
                self.store.call(ENQUEUE, NewJob(name, model, "d", JobRequest(name, {}, b"", tenant)))
                for name in names
            )
        )

    async def job(self, name: str) -> JobRecord:
        found = await self.store.find(name)
        assert found is not None
        return found

    async def until(self, name: str, state: str) -> JobRecord:
        while (await self.job(name)).state.value != state:  # noqa: ASYNC110 - a thread writes it
            await asyncio.sleep(0.001)
        return await self.job(name)


def with_rig(home: Path, work: Callable[[Rig], Awaitable[None]]) -> None:
    async def run() -> None:
        clock = ManualClock()
        config = StoreConfig(POLICY, 1000, lambda: 0.0)
        store = await JobStore.open(home, config, clock, Failpoints())
        rig = Rig(store, clock)
        async with asyncio.timeout(PATIENCE_S):
            await work(rig)
        await store.close()

    asyncio.run(run())


async def stopped(running: "asyncio.Future[None]", runner: JobRunner) -> None:
    running.cancel()
    await asyncio.wait([running])
    await runner.finish(0.0)


def test_a_model_that_refuses_holds_up_no_other(tmp_path: Path) -> None:
    async def work(rig: Rig) -> None:
        full = [f"full{number}" for number in range(50)]
        rig.answers = dict.fromkeys(full, REFUSED) | {"free": DONE}
        await rig.submit(*full, model="full")
        await rig.submit("free", model="free")
        running = asyncio.ensure_future(rig.runner.run())
        # Time stands still: the model that refused is asked for nothing more.
        await rig.until("free", "done")
        assert len(rig.asked) <= 9
        await stopped(running, rig.runner)

    with_rig(tmp_path, work)


def test_a_model_that_is_slow_leaves_room_for_others(tmp_path: Path) -> None:
    async def work(rig: Rig) -> None:
        slow = [f"slow{number}" for number in range(50)]
        rig.answers = {"quick": DONE}
        await rig.submit(*slow, model="slow")
        running = asyncio.ensure_future(rig.runner.run())
        await rig.until("slow5", "running")
        await rig.submit("quick", model="quick", tenant="other")
        rig.runner.wake()
        await rig.until("quick", "done")
        assert len(rig.asked) == 7
        await stopped(running, rig.runner)

    with_rig(tmp_path, work)


def test_what_is_claimed_while_it_ends_is_given_back(tmp_path: Path) -> None:
    async def work(rig: Rig) -> None:
        await rig.submit("a", "b")
        for _ in range(5):
            runner = rig.make(8)
            running = asyncio.ensure_future(runner.run())
            for _ in range(3):
                await asyncio.sleep(0)  # the claim is in its thread
            running.cancel()
            await asyncio.wait([running])
            await runner.finish(PATIENCE_S)
            for name in "ab":
                job = await rig.job(name)
                assert (job.state.value, job.attempts) == ("queued", 0)
        assert rig.asked == []

    with_rig(tmp_path, work)


def test_suspects_run_alone_and_others_between_them(tmp_path: Path) -> None:
    async def work(rig: Rig) -> None:
        await rig.submit("a", "b")
        running = asyncio.ensure_future(rig.runner.run())
        await rig.until("b", "running")
        running.cancel()
        await asyncio.wait([running])
        # That process is not heard of again.
        rig.clock.advance(11)
        await rig.store.call(SWEEP, None)
        rig.clock.advance(11)
        rig.asked.clear()
        rig.open.clear()
        runner = rig.make(8)
        running = asyncio.ensure_future(runner.run())
        await rig.until("a", "running")
        await rig.submit("c", "d")
        runner.wake()
        await asyncio.sleep(0.05)
        assert rig.asked == ["a"]
        rig.open["a"].set_result(DONE)
        await rig.until("d", "running")
        assert rig.asked == ["a", "c", "d"]
        for name in "cd":
            rig.open[name].set_result(DONE)
        await rig.until("b", "running")
        rig.open["b"].set_result(DONE)
        await rig.until("b", "done")
        await stopped(running, runner)

    with_rig(tmp_path, work)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (JobAnswer(200, b"head", bytes(101)), "jobs.result_bytes_max"),
        (JobAnswer(2**70, b"head", b"body"), "cannot be kept: OverflowError"),
    ],
)
def test_what_cannot_be_kept_is_the_end_of_its_job_alone(tmp_path: Path, answer: JobAnswer, said: str) -> None:
    async def work(rig: Rig) -> None:
        rig.answers = {"bad": Outcome(Verdict.DONE, answer), "good": DONE}
        await rig.submit("bad", "good")
        running = asyncio.ensure_future(rig.runner.run())
        job = await rig.until("bad", "failed")
        assert said in job.error
        await rig.until("good", "done")
        assert sorted(rig.asked) == ["bad", "good"]
        await stopped(running, rig.runner)

    with_rig(tmp_path, work)


def test_one_bad_job_fails_nobody_else_of_its_group(tmp_path: Path) -> None:
    async def work(rig: Rig) -> None:
        jobs = [NewJob(name, "m", "d", JobRequest("/", {}, b"", "@")) for name in ("same", "same", "other")]
        outcomes = await asyncio.gather(*(rig.store.call(ENQUEUE, job) for job in jobs), return_exceptions=True)
        assert [isinstance(each, Exception) for each in outcomes] == [False, True, False]
        assert rig.store.counted["queued"] == 2

    with_rig(tmp_path, work)
