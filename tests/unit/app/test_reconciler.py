"""The reconciler over a registry that is a table, and runtimes that do nothing."""

import asyncio
import threading
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from penstock.app.declarations import App
from penstock.app.model_declarations import ModelDeclaration
from penstock.app.reconciler import Reconciler
from penstock.core.clock import ManualClock
from penstock.core.errors import ModelFailed, NotFound, PenstockError, Refused, StorageFailed
from penstock.core.settings import RuntimeSettings, Settings
from penstock.core.signature import Signature
from penstock.observe.metrics import MetricSet
from penstock.serving.batching.batcher import BatchingConfig
from penstock.serving.deployment import ServedModel
from penstock.serving.plane import DataPlane
from penstock.supervision.messages import Pinned, Wanted

GUARD_S = 10.0
SIZE_BYTES = 10
"""What a version holds; `ONNX_MEMORY_FACTOR` times its file's size."""


class FakeRuntime:
    signature = Signature.of(inputs={"x": "INT64[-1]"}, outputs={"y": "INT64[-1]"})
    memory_bytes = SIZE_BYTES
    fault = None

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class FakeLoader:
    """`aliases` and `versions` are the registry; versions in `bad` do not load."""

    def __init__(self) -> None:
        self.aliases = {"a": 1}
        self.versions = {"a": {1, 2, 3, 4, 5}, "b": {1, 2}}
        self.bad: dict[tuple[str, int], Exception] = {}
        self.unreachable = False
        self.loads: list[tuple[str, int]] = []
        self.runtimes: dict[tuple[str, int], FakeRuntime] = {}
        self.cancelled = 0
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Event()
        self.registry = self

    def get(self, model: str, number: int) -> Any:
        if self.unreachable:
            raise StorageFailed("the registry does not answer")
        if number not in self.versions.get(model, ()):
            raise NotFound(f"no version {number} of {model!r}")
        return SimpleNamespace(number=number, executable=SimpleNamespace(size_bytes=SIZE_BYTES // 2))

    def resolve(self, declared: ModelDeclaration) -> Any:
        return self.get(declared.name, self.aliases.get(declared.name, 0))

    def load(self, declared: ModelDeclaration, version: Any) -> ServedModel:
        key = (declared.name, version.number)
        self.loads.append(key)
        self.began.set()
        assert self.gate.wait(GUARD_S)
        if key in self.bad:
            raise self.bad[key]
        runtime = self.runtimes[key] = FakeRuntime()
        return ServedModel(
            model=declared.name,
            version=str(version.number),
            platform="fake",
            runtime=runtime,  # type: ignore[arg-type]
            batching=BatchingConfig(objective_s=1.0, rows_max=1, queue_rows_max=1, queue_bytes_max=1),
        )

    def cancel(self) -> None:
        self.cancelled += 1


class World:
    def __init__(self, *models: str, budget_bytes: int = 1000) -> None:
        app = App("test")
        for model in models:
            app.model(model)
        self.clock = ManualClock()
        self.loader = FakeLoader()
        self.plane = DataPlane(MetricSet(), self.clock)
        settings = Settings(runtime=RuntimeSettings(memory_bytes_max=budget_bytes))
        self.reconciler = Reconciler(app, self.loader, self.plane, settings, self.clock)  # type: ignore[arg-type]
        self.revision = 0

    async def look(self) -> None:
        """One round of following the registry."""
        async with self.reconciler._turn:
            await self.reconciler._reconcile(await self.reconciler._look_up())

    async def order(self, *loaded: tuple[str, str], unloaded: tuple[str, ...] = ()) -> None:
        self.revision += 1
        pinned = tuple(Pinned(*each) for each in loaded)
        await self.reconciler.order(Wanted(revision=self.revision, loaded=pinned, unloaded=unloaded))

    def served(self) -> dict[str, str]:
        """By model: what answers, then what else is loaded."""
        return {
            model: " ".join(self.plane.versions(model))
            for model in {each.model for each in self.plane.deployments()}
        }


def run(test: Coroutine[Any, Any, None]) -> None:
    async def guarded() -> None:
        async with asyncio.timeout(GUARD_S):
            await test

    asyncio.run(guarded())


async def started(*models: str, budget_bytes: int = 1000) -> World:
    world = World(*models, budget_bytes=budget_bytes)
    await world.reconciler.start(Wanted(), {})
    return world


def test_a_moved_alias_switches_and_back_again_without_loading() -> None:
    async def life() -> None:
        world = await started("a")
        world.loader.aliases["a"] = 2
        await world.look()
        assert world.served() == {"a": "2 1"}
        world.loader.aliases["a"] = 1
        await world.look()
        assert world.served() == {"a": "1 2"}
        assert world.loader.loads == [("a", 1), ("a", 2)]
        await world.plane.close()

    run(life())


def test_a_bad_version_leaves_the_old_one_and_is_retried_with_back_off() -> None:
    async def life() -> None:
        world = await started("a")
        world.loader.bad["a", 2] = ModelFailed("its golden rows differ")
        world.loader.aliases["a"] = 2
        loads = []
        for _ in range(8):
            await world.look()
            loads.append(world.loader.loads.count(("a", 2)))
            assert world.served() == {"a": "1"}
            world.clock.advance(0.5)
        assert loads == [1, 2, 2, 3, 3, 3, 3, 4], "at once, after 1 s, after 2 s"
        problem = "version 2 is not served: its golden rows differ; version 1 answers"
        assert world.reconciler.problems == {"a": problem}
        world.loader.bad.clear()
        world.clock.advance(60.0)
        await world.look()
        assert world.served() == {"a": "2 1"}
        assert world.reconciler.problems == {}
        await world.plane.close()

    run(life())


def test_what_no_error_of_ours_breaks_counts_as_a_bad_version() -> None:
    async def life() -> None:
        world = await started("a")
        world.loader.bad["a", 2] = OSError("no space")
        world.loader.aliases["a"] = 2
        await world.look()
        assert "OSError: no space" in world.reconciler.problems["a"]
        assert world.served() == {"a": "1"}
        await world.plane.close()

    run(life())


@pytest.mark.parametrize(("budget_bytes", "kept"), [(1000, "4 2 3"), (30, "4 2 3"), (20, "4 3")])
def test_what_answered_before_stays_within_the_budget(budget_bytes: int, kept: str) -> None:
    async def life() -> None:
        world = await started("a", budget_bytes=budget_bytes)
        for version in (2, 3, 4):
            world.clock.advance(1.0)
            world.loader.aliases["a"] = version
            await world.look()
        assert world.served() == {"a": kept}
        await world.reconciler.close()
        closed = {key[1] for key, runtime in world.loader.runtimes.items() if runtime.closed}
        assert closed == {1, 2, 3, 4} - {int(version) for version in kept.split()}
        await world.plane.close()

    run(life())


def test_a_version_that_does_not_fit_is_a_problem() -> None:
    async def life() -> None:
        world = await started("a", budget_bytes=15)
        world.loader.aliases["a"] = 2
        await world.look()
        assert world.served() == {"a": "1"}
        assert "needs about 10 bytes" in world.reconciler.problems["a"]
        with pytest.raises(Refused, match="needs about"):
            await world.order(("b", "1"))
        await world.plane.close()

    run(life())


def test_a_registry_that_cannot_be_read_leaves_all_as_it_is() -> None:
    async def life() -> None:
        world = await started("a", budget_bytes=40)
        await world.order(("b", "1"), ("b", "2"), ("a", "3"))
        before = world.served()
        assert before == {"a": "1 3", "b": "1 2"}
        world.loader.unreachable = True
        await world.look()
        assert world.served() == before
        assert world.reconciler.problems == dict.fromkeys(("a", "b"), "the registry does not answer")
        world.loader.unreachable = False
        await world.look()
        assert world.served() == before
        assert world.reconciler.problems == {}
        await world.plane.close()

    run(life())


def test_orders() -> None:
    async def life() -> None:
        world = await started("a")
        with pytest.raises(NotFound, match="no version 9"):
            await world.order(("b", "9"))
        with pytest.raises(PenstockError, match="not a number"):
            await world.order(("b", "one"))
        world.loader.bad["b", 2] = ModelFailed("it is broken")
        with pytest.raises(ModelFailed, match="it is broken"):
            await world.order(("b", "2"))
        del world.loader.bad["b", 2]
        await world.order(("b", "2"))
        assert world.served() == {"a": "1", "b": "2"}, "asked for anew, it is tried anew"
        await world.order(("b", "1"), ("b", "2"))
        await world.order(("b", "1"))
        assert world.served() == {"a": "1", "b": "1"}, "what is left answers for the model"
        await world.order(unloaded=("a",))
        assert world.served() == {}
        world.plane.accept()
        assert world.plane.ready, "what clients unloaded is not missed"
        await world.order()
        assert world.served() == {"a": "1"}
        await world.plane.close()

    run(life())


def test_an_order_that_comes_too_late_changes_nothing() -> None:
    async def life() -> None:
        world = await started("a")
        await world.reconciler.order(Wanted(revision=5, loaded=(Pinned("b", "1"),)))
        await world.reconciler.order(Wanted(revision=4))
        assert world.served() == {"a": "1", "b": "1"}
        await world.plane.close()

    run(life())


def test_an_order_while_a_version_is_being_loaded() -> None:
    async def life() -> None:
        world = await started("a")
        world.loader.gate.clear()
        world.loader.began.clear()
        first = asyncio.ensure_future(world.order(("b", "1")))
        assert await asyncio.to_thread(world.loader.began.wait, GUARD_S)
        second = asyncio.ensure_future(world.order(("b", "2")))
        await asyncio.sleep(0)
        assert world.loader.loads.count(("b", 2)) == 0
        world.loader.gate.set()
        await asyncio.gather(first, second)
        assert world.served() == {"a": "1", "b": "2"}
        await world.reconciler.close()
        await world.plane.close()

    run(life())


def test_a_load_that_is_cancelled_is_freed_and_costs_the_others_nothing() -> None:
    async def life() -> None:
        world = await started("a")
        world.loader.gate.clear()
        world.loader.began.clear()
        order = asyncio.ensure_future(world.order(("b", "1")))
        assert await asyncio.to_thread(world.loader.began.wait, GUARD_S)
        order.cancel()
        with pytest.raises(asyncio.CancelledError):
            await order
        assert world.loader.cancelled == 0, "it would end the processes of what is being served"
        world.loader.gate.set()
        while not ((runtime := world.loader.runtimes.get(("b", 1))) and runtime.closed):  # noqa: ASYNC110 - a thread sets it
            await asyncio.sleep(0)
        assert world.served() == {"a": "1"}
        await world.plane.close()

    run(life())


@pytest.mark.parametrize("cancel", [False, True])
def test_a_start_that_fails_frees_what_was_loaded(cancel: bool) -> None:
    async def life() -> None:
        world = World("a", "b")
        world.loader.aliases["b"] = 1
        world.loader.gate.clear()
        start = asyncio.ensure_future(world.reconciler.start(Wanted(), {}))
        while len(world.loader.loads) < 2:  # noqa: ASYNC110 - threads add them
            await asyncio.sleep(0)
        if cancel:
            start.cancel()
        else:
            world.loader.bad["b", 1] = ModelFailed("it is broken")
        await asyncio.sleep(0)
        world.loader.gate.set()
        with pytest.raises(asyncio.CancelledError if cancel else ModelFailed):
            await start
        assert world.loader.cancelled == 1
        assert [runtime.closed for runtime in world.loader.runtimes.values()] == [1] * (2 if cancel else 1)
        assert world.served() == {}

    run(life())


def test_what_clients_had_ordered_keeps_nobody_from_starting() -> None:
    async def life() -> None:
        world = World("a", budget_bytes=15)
        ordered = (Pinned("a", "99"), Pinned("b", "1"), Pinned("c", "1"))
        await world.reconciler.start(Wanted(revision=3, loaded=ordered), {})
        assert world.served() == {"a": "1"}
        assert set(world.reconciler.problems) == {"a", "b", "c"}
        await world.plane.close()

    run(life())


@pytest.mark.parametrize("what", ["missing", "too large"])
def test_what_the_app_declares_has_to_be_there(what: str) -> None:
    async def life() -> None:
        world = World("a", budget_bytes=1000 if what == "missing" else 9)
        world.loader.versions["a"].discard(1 if what == "missing" else 9)
        with pytest.raises(NotFound if what == "missing" else Refused):
            await world.reconciler.start(Wanted(), {})

    run(life())


def make_sick(world: World, version: str, sick: bool = True) -> None:
    deployment = world.plane.find("a", version)
    deployment._health = SimpleNamespace(sick="it answers wrongly" if sick else None)  # type: ignore[assignment]


def test_a_sick_version_is_left_for_the_one_before_until_it_is_well() -> None:
    async def life() -> None:
        world = await started("a")
        world.plane.accept()
        for version in (2, 3):
            world.clock.advance(1.0)
            world.loader.aliases["a"] = version
            await world.look()
        make_sick(world, "3")
        for _ in range(3):
            await world.look()
            assert world.served() == {"a": "2 1 3"}
        assert world.reconciler.problems == {"a": "version 3: it answers wrongly; version 2 answers"}
        assert world.plane.ready
        make_sick(world, "2")
        await world.look()
        assert world.served()["a"].startswith("1 "), "the one before that"
        make_sick(world, "3", sick=False)
        await world.look()
        assert world.served()["a"].startswith("3 ")
        assert world.reconciler.problems == {}
        await world.plane.close()

    run(life())


def test_a_sick_version_is_left_though_the_registry_cannot_be_read() -> None:
    async def life() -> None:
        world = await started("a")
        world.loader.aliases["a"] = 2
        await world.look()
        world.loader.unreachable = True
        make_sick(world, "2")
        await world.look()
        assert world.served() == {"a": "1 2"}
        await world.plane.close()

    run(life())


def test_with_nothing_else_that_answered_before_a_sick_version_stays_and_it_is_not_ready() -> None:
    async def life() -> None:
        world = await started("a")
        world.plane.accept()
        make_sick(world, "1")
        await world.look()
        assert world.served() == {"a": "1"}
        assert world.plane.faults() == {"a": "it answers wrongly"}
        assert not world.plane.ready
        world.loader.aliases["a"] = 2
        await world.look()
        assert world.served() == {"a": "2 1"}, "the alias moved"
        assert world.plane.ready
        assert world.reconciler.problems == {}
        await world.plane.close()

    run(life())
