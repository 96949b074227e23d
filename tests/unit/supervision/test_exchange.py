"""The exchange with workers that answer as a test says."""

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from penstock.observe.metrics import MetricSet
from penstock.serving.statistics import DeploymentStatistics, Durations
from penstock.supervision import exchange as exchange_module
from penstock.supervision.exchange import Exchange
from penstock.supervision.messages import Answer, Applied, Ask, Pinned, Report, Sample, ToWorker, Wanted


class FakeWorker:
    """A worker and its channel in one. `counted` is what it has counted."""

    def __init__(self, world: "World", life: int) -> None:
        self.world = world
        self.life = life
        self.counted = 0
        self.answers = True
        self.refuses: Callable[[Wanted], bool] = lambda wanted: False
        self.wanted: list[Wanted] = []
        self.report: Report | None = None
        self.channel = self
        world.workers[life] = self

    def count(self, counted: int) -> None:
        self.counted += counted

    def tell(self, request: int | None = None) -> None:
        metrics = MetricSet()
        metrics.counter("c_total", "Counter.").value = self.counted
        self.report = Report(
            request=request,
            ready=True,
            connections=0,
            resident_bytes=0,
            models=(),
            problems={},
            metrics=metrics.snapshot(),
            statistics=(DeploymentStatistics(model="m", version="1", success=Durations(self.counted, 0.0)),),
        )
        self.world.exchange.reported(self.life, self.report)

    def send(self, message: ToWorker) -> None:
        match message:
            case Sample(request) if self.answers:
                self.tell(request)
            case Wanted(revision=revision):
                self.wanted.append(message)
                failed = self.refuses(message)
                if self.answers:
                    error = "ModelFailed" if failed else None
                    self.world.exchange.applied(
                        self.life, Applied(revision=revision, error=error, message="broken", hint="mend it")
                    )

    def end(self) -> None:
        """As the supervisor does it."""
        if self.report is not None:
            self.world.exchange.retire(self.report)
        del self.world.workers[self.life]
        self.world.serving.discard(self.life)
        self.world.exchange.left(self.life)


class World:
    def __init__(self, count: int = 2) -> None:
        self.workers: dict[int, FakeWorker] = {}
        self.serving = set(range(1, count + 1))
        self.exchange = Exchange(self.workers, self.answering, tuple)  # type: ignore[arg-type]
        for life in range(1, count + 1):
            FakeWorker(self, life)

    def answering(self) -> dict[int, FakeWorker]:
        return {life: self.workers[life] for life in self.serving}

    async def ask(self, verb: str, model: str = "", version: str | None = None) -> Answer:
        answers: list[Answer] = []
        channel: Any = SimpleNamespace(send=answers.append)
        await self.exchange.answer(Ask(request=7, verb=verb, model=model, version=version), channel)
        (answer,) = answers
        assert answer.request == 7
        return answer

    async def counted(self) -> int:
        text = (await self.ask("metrics")).result
        (line,) = [line for line in text.splitlines() if line.startswith("c_total ")]
        (statistics,) = (await self.ask("statistics")).result
        assert statistics.success.count == int(line.split()[1])
        return statistics.success.count


def run(test: Coroutine[Any, Any, None]) -> None:
    async def guarded() -> None:
        async with asyncio.timeout(10.0):
            await test

    asyncio.run(guarded())


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_module, "SAMPLE_TIMEOUT_S", 0.01)
    monkeypatch.setattr(exchange_module, "APPLY_TIMEOUT_S", 0.01)


def test_fresh_counts_of_all_are_added_up_also_of_those_who_ended() -> None:
    async def life() -> None:
        world = World()
        world.workers[1].count(3)
        world.workers[2].count(4)
        assert await world.counted() == 7
        world.workers[1].end()
        assert await world.counted() == 7
        world.workers[2].count(1)
        assert await world.counted() == 8
        world.workers[2].end()
        assert await world.counted() == 8

    run(life())


def test_of_one_that_does_not_answer_the_last_report_counts() -> None:
    async def life() -> None:
        world = World()
        world.workers[1].count(3)
        world.workers[1].tell()
        world.workers[1].answers = False
        world.workers[2].count(4)
        assert await world.counted() == 7

    run(life())


def test_one_that_ends_while_it_is_asked_is_counted_once() -> None:
    async def life() -> None:
        world = World()
        one = world.workers[1]
        one.count(3)
        one.tell()
        one.answers = False
        asked = asyncio.ensure_future(world.counted())
        await asyncio.sleep(0)
        one.end()
        assert await asked == 3

    run(life())


def test_one_that_drains_stays_counted() -> None:
    async def life() -> None:
        world = World()
        world.workers[1].count(3)
        assert await world.counted() == 3
        world.serving.discard(1)
        assert await world.counted() == 3
        world.workers[1].end()
        assert await world.counted() == 3

    run(life())


def test_nobody_serves() -> None:
    async def life() -> None:
        world = World(0)
        assert (await world.ask("metrics")).result == "\n"
        assert (await world.ask("statistics")).result == ()
        assert (await world.ask("dance")).error == "NotFound"

    run(life())


def test_an_order_is_carried_out_by_all() -> None:
    async def life() -> None:
        world = World()
        for verb, version, loaded, unloaded in (
            ("load", "2", (Pinned("m", "2"),), ()),
            ("load", None, (Pinned("m", ""), Pinned("m", "2")), ()),
            ("unload", "2", (Pinned("m", ""),), ()),
            ("unload", None, (), ("m",)),
            ("load", None, (Pinned("m", ""),), ()),
        ):
            assert (await world.ask(verb, "m", version)).error is None
            for worker in world.workers.values():
                wanted = worker.wanted[-1]
                assert (wanted.loaded, wanted.unloaded) == (loaded, unloaded)
                assert wanted == world.exchange.wanted
        revisions = [wanted.revision for wanted in world.workers[1].wanted]
        assert revisions == sorted(set(revisions))

    run(life())


def test_an_order_that_one_cannot_carry_out_is_undone_in_all() -> None:
    async def life() -> None:
        world = World()
        assert (await world.ask("load", "m", "1")).error is None
        world.workers[2].refuses = lambda wanted: Pinned("m", "2") in wanted.loaded
        answer = await world.ask("load", "m", "2")
        assert (answer.error, answer.message, answer.hint) == ("ModelFailed", "broken", "mend it")
        for worker in world.workers.values():
            assert [wanted.loaded for wanted in worker.wanted] == [
                (Pinned("m", "1"),),
                (Pinned("m", "1"), Pinned("m", "2")),
                (Pinned("m", "1"),),
            ]
            assert worker.wanted[-1] == world.exchange.wanted

    run(life())


def test_an_order_that_takes_one_too_long_is_undone_in_all() -> None:
    async def life() -> None:
        world = World()
        world.workers[2].answers = False
        answer = await world.ask("load", "m", "2")
        assert answer.error == "Refused"
        assert world.exchange.wanted.loaded == ()
        for worker in world.workers.values():
            assert worker.wanted[-1] == world.exchange.wanted

    run(life())


def test_one_that_ends_holds_up_no_order() -> None:
    async def life() -> None:
        world = World()
        world.workers[2].answers = False
        asked = asyncio.ensure_future(world.ask("load", "m", "2"))
        await asyncio.sleep(0)
        world.workers[2].end()
        assert (await asked).error is None

    run(life())
