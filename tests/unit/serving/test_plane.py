"""The data plane over runtimes that do as a test says."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import numpy as np
import pytest

from penstock.core.clock import SystemClock
from penstock.core.errors import (
    DeadlineExceeded,
    InvalidInput,
    ModelFailed,
    NotFound,
    Refused,
    WrongOutputs,
)
from penstock.core.signature import Signature
from penstock.core.tensors import Tensors
from penstock.models.runtimes.runtime import Runtime
from penstock.observe.metrics import MetricSet
from penstock.serving.batching.batcher import BatchingConfig
from penstock.serving.batching.outputs import BatchRows
from penstock.serving.cache.prediction_cache import CacheConfig, PredictionCache
from penstock.serving.deployment import Deployment, ServedModel
from penstock.serving.fallback.breaker import BreakerConfig
from penstock.serving.fallback.rungs import Cached, Constant
from penstock.serving.health import HealthConfig
from penstock.serving.inference import Inference
from penstock.serving.plane import DataPlane

GUARD_S = 10.0


class FakeRuntime:
    """Answers with its number, once its gate is open."""

    signature = Signature.of(inputs={"x": "INT64[-1]"}, outputs={"y": "INT64[-1]"})
    memory_bytes = 0

    def __init__(self, number: int = 1) -> None:
        self.number = number
        self.fault: str | None = None
        self.closed = 0
        self.gate = threading.Event()
        self.gate.set()

    def run(self, tensors: Tensors, timeout_s: float) -> Tensors:
        assert self.gate.wait(GUARD_S)
        return {"y": np.full(len(tensors["x"]), self.number)}

    def rest(self, inputs: Tensors) -> None: ...

    def revive(self) -> None:
        self.fault = None

    def close(self) -> None:
        self.closed += 1


def served(model: str, version: str, runtime: FakeRuntime, **further: Any) -> ServedModel:
    batching = BatchingConfig(objective_s=1.0, rows_max=8, queue_rows_max=106, queue_bytes_max=10_000)
    return ServedModel(
        model=model, version=version, platform="fake", runtime=runtime, batching=batching, **further
    )


def plane() -> DataPlane:
    return DataPlane(MetricSet(), SystemClock())


def ask(deployment: Deployment, rows: int = 1) -> "asyncio.Future[Any]":
    now_s = SystemClock().monotonic()
    return deployment.infer(Inference({"x": np.zeros(rows, np.int64)}, now_s, now_s + GUARD_S)).future


def run(test: Coroutine[Any, Any, None]) -> None:
    async def guarded() -> None:
        async with asyncio.timeout(GUARD_S):
            await test

    asyncio.run(guarded())


def test_routing_and_what_is_found() -> None:
    async def life() -> None:
        served_here = plane()
        with pytest.raises(NotFound, match="no model 'a'") as caught:
            served_here.find("a", None)
        assert caught.value.hint == "served are: nothing"
        with pytest.raises(NotFound) as caught:
            served_here.find("a" * 1_000_000, None)
        assert len(caught.value.message) < 200
        changes: list[int] = []
        served_here.on_changed(lambda: changes.append(1))
        one = served_here.add(served("a", "1", FakeRuntime()))
        two = served_here.add(served("a", "2", FakeRuntime()))
        with pytest.raises(AssertionError):
            served_here.add(served("a", "2", FakeRuntime()))
        assert served_here.find("a", None) is one
        served_here.route("a", "2")
        assert served_here.find("a", None) is served_here.find("a", "2") is two
        assert served_here.versions("a") == ["2", "1"]
        assert served_here.models() == ["a"]
        with pytest.raises(NotFound, match="no version '3' of model 'a'") as caught:
            served_here.find("a", "3")
        assert caught.value.hint == "served are: 1, 2"
        await served_here.remove("a", "2")
        with pytest.raises(NotFound, match="no version of model 'a'"):
            served_here.find("a", None)
        assert served_here.find("a", "1") is one
        await served_here.remove("a", "1")
        assert served_here.models() == served_here.versions("a") == list(served_here.deployments()) == []
        assert len(changes) == 5

    run(life())


def test_readiness() -> None:
    async def life() -> None:
        served_here = plane()
        served_here.want(["a", "b"])
        served_here.accept()
        assert served_here.faults() == dict.fromkeys(("a", "b"), "no version of it is loaded")
        broken = FakeRuntime()
        served_here.add(served("a", "1", broken))
        served_here.add(served("b", "1", FakeRuntime()))
        served_here.add(served("c", "1", other := FakeRuntime()))
        assert served_here.ready
        broken.fault = other.fault = "its process died"
        assert served_here.faults() == {"a": "its process died"}
        assert not served_here.ready
        served_here.check()
        while broken.fault is not None:  # noqa: ASYNC110 - a thread mends it
            await asyncio.sleep(0)
        assert served_here.ready
        served_here.refuse()
        assert not served_here.ready
        await served_here.close()

    run(life())


def test_what_was_taken_on_is_finished_while_the_same_version_is_served_anew() -> None:
    async def life() -> None:
        served_here = plane()
        old, new = FakeRuntime(1), FakeRuntime(2)
        old.gate.clear()
        first = served_here.add(served("a", "1", old))
        waiting = [ask(first, rows=2), ask(first)]
        await asyncio.sleep(0)
        removing = asyncio.ensure_future(served_here.remove("a", "1"))
        await asyncio.sleep(0)
        with pytest.raises(Refused):
            ask(first)
        second = served_here.add(served("a", "1", new))
        assert served_here.find("a", None) is second
        answer = await ask(second)
        assert answer.stop - answer.start == 1
        (counted,) = served_here.statistics()
        assert (counted.success.count, counted.failure.count) == (1, 1), "of the one that drains as well"
        old.gate.set()
        await asyncio.gather(*waiting, removing)
        assert (old.closed, new.closed) == (1, 0)
        (counted,) = served_here.statistics()
        assert (counted.success.count, counted.rows, counted.failure.count) == (3, 4, 1)
        await served_here.remove("a", "1")
        assert new.closed == 1
        assert served_here.statistics()[0].success.count == 3, "what was done stays done"
        third = served_here.add(served("a", "1", FakeRuntime()))
        await ask(third)
        assert served_here.statistics()[0].success.count == 4
        await served_here.close()

    run(life())


def test_what_is_kept_is_answered_while_nothing_more_is_taken_on() -> None:
    async def life() -> None:
        metrics = MetricSet()
        served_here = DataPlane(metrics, SystemClock(), cache=PredictionCache(1 << 20, metrics))
        runtime = FakeRuntime(7)
        cached = served_here.add(served("a", "1", runtime, cache=CacheConfig(ttl_s=GUARD_S)))
        plain = served_here.add(served("b", "1", FakeRuntime()))
        assert (cached.caches, plain.caches, plain.cache_statistics()) == (True, False, None)
        await ask(cached)
        runtime.gate.clear()
        waiting = [ask(cached, rows=rows) for rows in (2, 60, 38)]
        assert cached.cap(2) is not None
        assert (await ask(cached)).outputs.tensors["y"].tolist() == [7]
        joined = ask(cached, rows=38)
        with pytest.raises(Refused):
            ask(cached, rows=3)
        runtime.gate.set()
        assert [(await each).stop for each in (*waiting, joined)] == [2, 60, 38, 38]
        assert cached.cap(2) is None
        counted = cached.cache_statistics()
        assert counted is not None
        assert (counted.hits, counted.misses, counted.joined) == (1, 4, 1)
        assert cached.statistics().success.count == 6, "whoever is answered is counted once"
        assert cached.statistics().failure.count == 2, (
            "the one that was refused, and the cap that was asked for"
        )
        with pytest.raises(InvalidInput):
            cached.infer(Inference({"z": np.zeros(1, np.int64)}, 0.0, 1e12))
        await served_here.remove("a", "1")
        again = served_here.add(served("a", "1", FakeRuntime(8), cache=CacheConfig(ttl_s=GUARD_S)))
        assert (await ask(again)).outputs.tensors["y"].tolist() == [8]
        await served_here.close()

    run(life())


def test_what_is_old_is_given_where_the_model_does_not_answer() -> None:
    class Clock(SystemClock):
        later_s = 0.0

        def monotonic(self) -> float:  # type: ignore[override]
            return SystemClock.monotonic() + self.later_s

    async def life() -> None:
        metrics, clock = MetricSet(), Clock()
        served_here = DataPlane(metrics, clock, cache=PredictionCache(1 << 20, metrics))
        runtime = FakeRuntime(7)
        config = CacheConfig(ttl_s=100.0, stale_s=1000.0)
        deployment = served_here.add(
            served("a", "1", runtime, cache=config, fallback=(Cached(max_age_s=500.0),))
        )

        async def given(rows: int) -> BatchRows:
            now_s = clock.monotonic()
            inference = Inference({"x": np.zeros(rows, np.int64)}, now_s, now_s + GUARD_S, falls_back=True)
            return await deployment.infer(inference).future

        def broken(tensors: Tensors, timeout_s: float) -> Tensors:
            raise ModelFailed("broken")

        assert (await given(2)).outputs.rung == ""
        runtime.run = broken  # type: ignore[method-assign]
        assert (await given(2)).outputs.rung == "", "still fresh"
        with pytest.raises(ModelFailed):
            await given(3)
        clock.later_s = 200.0
        old = await given(2)
        assert (old.outputs.rung, old.outputs.tensors["y"].tolist()) == ("cached", [7, 7])
        clock.later_s = 700.0
        with pytest.raises(ModelFailed):
            await given(2)
        counted = deployment.cache_statistics()
        assert counted is not None
        assert (counted.hits, counted.stale) == (1, 1)
        await served_here.close()

    run(life())


class Checks:
    """What a version is checked by: fails as it is told."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def __call__(self, _: Runtime) -> None:
        if self.error is not None:
            raise self.error

    async def settle(self, deployment: Deployment, error: Exception | None) -> None:
        """From now on they fail so, or pass; returns when several were made."""
        self.error = error
        done = deployment.health_statistics()
        assert done is not None
        while True:
            deployment.check()
            await asyncio.sleep(0)
            now = deployment.health_statistics()
            assert now is not None
            if min(now.failed - done.failed, now.failures) > 2 or now.passed - done.passed > 2:
                return


def test_what_a_version_gave_that_is_taken_out_is_no_stale_answer_if_it_may_be_wrong() -> None:
    async def life() -> None:
        metrics = MetricSet()
        served_here = DataPlane(metrics, SystemClock(), cache=PredictionCache(1 << 20, metrics))
        checks = Checks()
        further: dict[str, Any] = {
            "cache": CacheConfig(ttl_s=1e-9, stale_s=GUARD_S),
            "fallback": (Cached(max_age_s=GUARD_S),),
        }
        config = HealthConfig(every_s=1e-6, failures_max=1, runtime_share=1.0)
        health: dict[str, Any] = {"examine": checks, "health": config}
        sick = served_here.add(served("a", "1", FakeRuntime(1), **health, **further))
        well = served_here.add(served("a", "2", FakeRuntime(2), **further))
        now_s = SystemClock().monotonic()
        inference = Inference({"x": np.zeros(1, np.int64)}, now_s, now_s + GUARD_S, falls_back=True)

        def stale() -> str | None:
            found = served_here.stale and served_here.stale.stale("a", inference, GUARD_S)
            return found.version if found else None

        await ask(well)
        await ask(sick)
        assert stale() == "1", "the newest"
        for error in (ModelFailed("its process ended"), DeadlineExceeded("slow"), OSError("down")):
            await checks.settle(sick, error)
            assert sick.sick is not None
            assert stale() == "1", "it was well when it gave that"
            rows = await sick.infer(inference).future
            assert (rows.outputs.rung, rows.outputs.tensors["y"].tolist()) == ("cached", [1])
        await checks.settle(sick, WrongOutputs("three is not two"))
        assert stale() == "2", "that of the other version, though this one was out before"
        rows = await sick.infer(inference).future
        assert (rows.outputs.rung, rows.outputs.tensors["y"].tolist()) == ("cached", [2])
        await served_here.close()

    run(life())


def test_each_time_that_it_is_found_wrong_what_it_gave_since_is_forgotten() -> None:
    async def life() -> None:
        metrics = MetricSet()
        served_here = DataPlane(metrics, SystemClock(), cache=PredictionCache(1 << 20, metrics))
        checks, runtime = Checks(), FakeRuntime(1)
        deployment = served_here.add(
            served(
                "a",
                "1",
                runtime,
                cache=CacheConfig(ttl_s=1e-9, stale_s=GUARD_S),
                examine=checks,
                health=HealthConfig(every_s=1e-6, failures_max=2, runtime_share=1.0),
            )
        )
        now_s = SystemClock().monotonic()
        inference = Inference({"x": np.zeros(1, np.int64)}, now_s, now_s + GUARD_S)

        def kept() -> bool:
            return served_here.stale is not None and bool(served_here.stale.stale("a", inference, GUARD_S))

        for error in (
            ModelFailed("its process ended"),
            WrongOutputs("wrong"),
            OSError("down"),
            WrongOutputs("x"),
        ):
            await checks.settle(deployment, None)
            await ask(deployment)
            assert kept()
            await checks.settle(deployment, error)
            assert deployment.sick is not None
            assert kept() is not isinstance(error, WrongOutputs)
        await checks.settle(deployment, None)
        await ask(deployment)
        runtime.fault = "its process ended"
        while deployment.sick is None:
            deployment.check()
            runtime.fault = "its process ended"  # it does not come back
            await asyncio.sleep(0)
        assert kept()
        await served_here.close()

    run(life())


@pytest.mark.parametrize("caches", [False, True])
def test_statistics_count_what_callers_got(caches: bool) -> None:
    """The oracle is the callers: each request is one success or one failure, as it was for them."""

    class Moody(FakeRuntime):
        def run(self, tensors: Tensors, timeout_s: float) -> Tensors:
            first = int(tensors["x"][0])
            assert first != 9 or self.gate.wait(GUARD_S)
            if first == 1:
                raise ModelFailed("broken")
            if first == 2:
                raise InvalidInput("two is none")
            return super().run(tensors, timeout_s)

    async def life() -> None:
        metrics = MetricSet()
        runtime = Moody()
        cache = CacheConfig(ttl_s=GUARD_S) if caches else None
        served_here = DataPlane(metrics, SystemClock(), cache=PredictionCache(1 << 20, metrics))
        never = BreakerConfig(failure_share=1.0, window_requests=1000, requests_min=1000)
        further: dict[str, Any] = {"fallback": (Constant(values={"y": 7}),), "breaker": never, "cache": cache}
        deployment = served_here.add(served("a", "1", runtime, **further))

        def request(first: int, rows: int, *, falls_back: bool, life_s: float = GUARD_S) -> Any:
            now_s = SystemClock().monotonic()
            inputs = {"x": np.full(rows, first)}
            return deployment.infer(Inference(inputs, now_s, now_s + life_s, falls_back=falls_back)).future

        got: list[Any] = []
        for number, (first, falls_back) in enumerate(
            [(0, True), (1, True), (1, False), (2, True), (0, False)] * 4
        ):
            got += await asyncio.gather(
                request(first, 1 + number % 3, falls_back=falls_back), return_exceptions=True
            )
        runtime.gate.clear()
        late_one = await request(9, 2, falls_back=True, life_s=0.05)
        assert late_one.outputs.rung == "constant"
        got.append(late_one)
        runtime.gate.set()
        got.append(await request(0, 5, falls_back=False))
        good = [each for each in got if isinstance(each, BatchRows)]
        (counted,) = served_here.statistics()
        assert counted.success.count == len(good)
        assert counted.failure.count == len(got) - len(good)
        assert counted.rows == sum(each.stop - each.start for each in good)
        assert counted.failure.seconds >= 0.0
        await served_here.close()

    run(life())


@pytest.mark.parametrize(
    ("output", "passes"),
    [
        ({"y": "INT64[-1]"}, False),
        ({"y": "INT64[-1]", "z": "FP32[-1]"}, True),
        ({"z": "INT64[-1]"}, True),
        ({"y": "FP64[-1]"}, True),
        ({"y": "INT64[-1, 1]"}, True),
    ],
)
def test_an_older_version_s_answer_stands_in_only_where_it_has_the_same_outputs(
    output: dict[str, str], passes: bool
) -> None:
    class Broken(FakeRuntime):
        signature = Signature.of(inputs={"x": "INT64[-1]"}, outputs=output)

        def run(self, tensors: Tensors, timeout_s: float) -> Tensors:
            raise ModelFailed("broken")

    async def life() -> None:
        metrics = MetricSet()
        served_here = DataPlane(metrics, SystemClock(), cache=PredictionCache(1 << 20, metrics))
        further: dict[str, Any] = {
            "cache": CacheConfig(ttl_s=GUARD_S),
            "fallback": (Cached(max_age_s=GUARD_S),),
        }
        await ask(served_here.add(served("a", "1", FakeRuntime(5), **further)))
        now_s = SystemClock().monotonic()
        inference = Inference({"x": np.zeros(1, np.int64)}, now_s, now_s + GUARD_S, falls_back=True)
        answer = served_here.add(served("a", "2", Broken(), **further)).infer(inference).future
        if passes:
            with pytest.raises(ModelFailed):
                await answer
        else:
            given = (await answer).outputs
            assert (given.version, given.tensors["y"].tolist()) == ("1", [5])
        await served_here.close()

    run(life())


def test_counts_of_cache_breaker_and_ladder_go_on_when_a_version_is_served_anew() -> None:
    async def life() -> None:
        metrics = MetricSet()
        served_here = DataPlane(metrics, SystemClock(), cache=PredictionCache(1 << 20, metrics))
        further: dict[str, Any] = {
            "cache": CacheConfig(ttl_s=GUARD_S),
            "breaker": BreakerConfig(),
            "fallback": (Cached(max_age_s=GUARD_S),),
        }
        for lives in (1, 2):
            deployment = served_here.add(served("a", "1", FakeRuntime(), **further))
            for _ in range(3):
                now_s = SystemClock().monotonic()
                inference = Inference({"x": np.zeros(1, np.int64)}, now_s, now_s + GUARD_S, falls_back=True)
                await deployment.infer(inference).future
            (counted,) = served_here.statistics()
            assert counted.cache is not None
            assert (counted.cache.hits.count, counted.cache.misses) == (2 * lives, lives)
            assert counted.ladder is not None
            answered = {name: each.answered for name, each in counted.ladder.rungs.items()}
            assert answered == {"model": lives, "cached": 0}
            assert counted.breaker is not None
            assert counted.breaker.states == {"closed": 1}
            await served_here.remove("a", "1")
        (counted,) = served_here.statistics()
        assert counted.breaker is not None
        assert counted.breaker.states == {}

    run(life())


def test_hits_say_nothing_of_the_model_and_a_version_that_fails_its_checks_gives_none() -> None:
    async def life() -> None:
        metrics = MetricSet()
        served_here = DataPlane(metrics, SystemClock(), cache=PredictionCache(1 << 20, metrics))
        runtime = FakeRuntime(7)
        wrong = False

        def examine(_: Runtime) -> None:
            if wrong:
                raise WrongOutputs("wrong")

        deployment = served_here.add(
            served(
                "a",
                "1",
                runtime,
                cache=CacheConfig(ttl_s=GUARD_S),
                breaker=BreakerConfig(),
                examine=examine,
                health=HealthConfig(every_s=1e-6, failures_max=1),
            )
        )
        for _ in range(5):
            await ask(deployment)
        breaker = deployment.breaker_statistics()
        assert breaker is not None
        assert breaker.requests == 1
        wrong = True
        while deployment.sick is None:
            deployment.check()
            await asyncio.sleep(0)
        with pytest.raises(Refused):
            await ask(deployment)
        wrong, runtime.number = False, 8
        while deployment.sick is not None:
            deployment.check()
            await asyncio.sleep(0)
        again = (await ask(deployment)).outputs.tensors["y"]
        assert again.tolist() == [8], "what it gave before it was taken out is not given once it is well"
        await served_here.close()

    run(life())
