"""The instance as a worker sees it, with a supervisor that answers as a test says."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from penstock.app import instance as instance_module
from penstock.app.declarations import App
from penstock.app.instance import SupervisedInstance
from penstock.core.clock import ManualClock
from penstock.core.errors import Forbidden, InvalidInput, NotFound, PenstockError, Refused
from penstock.observe.metrics import MetricSet
from penstock.serving.plane import DataPlane
from penstock.serving.statistics import DeploymentStatistics, Durations
from penstock.supervision.messages import Answer, Ask


class World:
    def __init__(self, reply: Callable[[Ask], Answer | None], *, model_control: bool = True) -> None:
        self.asked: list[Ask] = []
        self.reply = reply
        self.plane = DataPlane(MetricSet(), ManualClock())
        loader: Any = None
        self.instance = SupervisedInstance(
            App("test"), loader, self.plane, self.send, failure=lambda *_: None, model_control=model_control
        )

    def send(self, ask: Ask) -> None:
        self.asked.append(ask)
        answer = self.reply(ask)
        if answer is not None:
            # As over the wire.
            self.instance.answered(msgspec.msgpack.decode(msgspec.msgpack.encode(answer), type=Answer))


def run(test: Coroutine[Any, Any, None]) -> None:
    async def guarded() -> None:
        async with asyncio.timeout(10.0):
            await test

    asyncio.run(guarded())


def test_what_the_supervisor_knows() -> None:
    statistics = (DeploymentStatistics(model="a", version="1", rows=3, success=Durations(2, 0.5)),)
    results = {"metrics": "c_total 1\n", "statistics": statistics, "load": None}

    async def life() -> None:
        world = World(lambda ask: Answer(request=ask.request, result=results[ask.verb]))
        assert await world.instance.metrics() == "c_total 1\n"
        assert await world.instance.statistics() == statistics
        await world.instance.load("a", "3")
        assert [(ask.verb, ask.model, ask.version) for ask in world.asked[2:]] == [("load", "a", "3")]
        assert len({ask.request for ask in world.asked}) == 3

    run(life())


@pytest.mark.parametrize(
    ("name", "kind"),
    [("NotFound", NotFound), ("InvalidInput", InvalidInput), ("Refused", Refused), ("Unheard", PenstockError)],
)
def test_errors_keep_their_kind(name: str, kind: type[PenstockError]) -> None:
    async def life() -> None:
        world = World(lambda ask: Answer(request=ask.request, error=name, message="no", hint="do"))
        with pytest.raises(kind) as caught:
            await world.instance.load("a", None)
        assert (caught.value.message, caught.value.hint) == ("no", "do")

    run(life())


def test_a_supervisor_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance_module, "CONTROL_TIMEOUT_S", 0.01)

    async def life() -> None:
        world = World(lambda ask: None)
        with pytest.raises(Refused, match="did not answer"):
            await world.instance.load("a", None)
        world.instance.answered(Answer(request=1))  # too late, and nobody minds

    run(life())


def test_control_and_readiness() -> None:
    async def life() -> None:
        world = World(lambda ask: None, model_control=False)
        with pytest.raises(Forbidden):
            await world.instance.load("a", None)
        with pytest.raises(Forbidden):
            await world.instance.unload("a", None)
        assert world.asked == []
        world.plane.accept()
        assert not world.instance.ready
        world.instance.others_ready = True
        assert world.instance.ready
        world.plane.want(["a"])
        assert not world.instance.ready
        with pytest.raises(NotFound):
            await World(lambda ask: None).instance.unload("a", None)

    run(life())
