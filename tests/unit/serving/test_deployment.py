"""A deployment's breaker and health over runtimes that do as a test says."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

import numpy as np
import pytest

from penstock.core.calling import Criticality
from penstock.core.clock import SystemClock
from penstock.core.errors import InvalidInput, ModelFailed, Refused
from penstock.core.signature import Signature
from penstock.core.tensors import Tensors
from penstock.models.runtimes.runtime import Runtime
from penstock.observe.metrics import MetricSet
from penstock.serving import deployment as deployment_module
from penstock.serving.admission.admission import ShedReason
from penstock.serving.batching.batcher import BatchingConfig
from penstock.serving.deployment import Deployment, ServedModel
from penstock.serving.fallback.breaker import BreakerConfig
from penstock.serving.fallback.rungs import Constant
from penstock.serving.health import HealthConfig
from penstock.serving.inference import Inference
from penstock.serving.plane import DataPlane

GUARD_S = 10.0
BREAKER = BreakerConfig(window_requests=4, requests_min=2, open_first_s=0.001, open_longest_s=0.001, probes=1)
SLOW_BREAKER = BreakerConfig(window_requests=4, requests_min=2, open_first_s=1000.0, open_longest_s=1000.0)


class MoodyRuntime:
    signature = Signature.of(inputs={"x": "INT64[-1]"}, outputs={"y": "INT64[-1]"})
    memory_bytes = 0
    fault: str | None = None

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.runs = 0
        self.rested: list[list[int]] = []

    def run(self, tensors: Tensors, timeout_s: float) -> Tensors:
        self.runs += 1
        if self.error is not None:
            raise self.error
        return {"y": 2 * tensors["x"]}

    def rest(self, inputs: Tensors) -> None:
        self.rested.append(inputs["x"].tolist())

    def revive(self) -> None: ...

    def close(self) -> None: ...


def served(runtime: MoodyRuntime, **further: Any) -> ServedModel:
    batching = BatchingConfig(objective_s=1.0, rows_max=8, queue_rows_max=100, queue_bytes_max=10_000)
    return ServedModel(model="m", version="1", platform="fake", runtime=runtime, batching=batching, **further)


def deploy(**further: Any) -> tuple[MoodyRuntime, Deployment]:
    runtime = MoodyRuntime()
    return runtime, DataPlane(MetricSet(), SystemClock()).add(served(runtime, **further))


async def ask(deployment: Deployment, **further: Any) -> list[int]:
    now_s = SystemClock().monotonic()
    inference = Inference({"x": np.array([1])}, now_s, now_s + GUARD_S, **further)
    outputs, start, stop = await deployment.infer(inference).future
    values: list[int] = outputs.tensors["y"][start:stop].tolist()
    return values


def run(test: Coroutine[Any, Any, None]) -> None:
    async def guarded() -> None:
        async with asyncio.timeout(GUARD_S):
            await test

    asyncio.run(guarded())


def test_a_version_that_keeps_failing_is_left_alone_and_tried_again() -> None:
    async def life() -> None:
        runtime, deployment = deploy(breaker=BREAKER)
        runtime.error = ModelFailed("it broke")
        for _ in range(2):
            with pytest.raises(ModelFailed):
                await ask(deployment)
        runtime.error = None
        answers = []
        while not answers:
            with contextlib.suppress(Refused):
                answers.append(await ask(deployment))
        assert answers == [[2]]
        statistics = deployment.breaker_statistics()
        assert statistics is not None
        assert (statistics.state, statistics.opened) == ("closed", 1)
        await deployment.close()

    run(life())


def test_what_does_not_count_against_it() -> None:
    async def life() -> None:
        runtime, deployment = deploy(breaker=SLOW_BREAKER)
        runtime.error = InvalidInput("not this")
        for _ in range(8):
            with pytest.raises(InvalidInput):
                await ask(deployment)
        runtime.error = None
        now_s = SystemClock().monotonic()
        for _ in range(8):
            deployment.infer(Inference({"x": np.array([1])}, now_s, now_s + GUARD_S)).abandon()
        with pytest.raises(InvalidInput):
            deployment.infer(Inference({"z": np.array([1])}, now_s, now_s + GUARD_S))
        statistics = deployment.breaker_statistics()
        assert statistics is not None
        assert (statistics.state, statistics.failures) == ("closed", 0)
        await deployment.close()

    run(life())


def test_without_a_breaker_it_is_asked_every_time() -> None:
    async def life() -> None:
        runtime, deployment = deploy()
        runtime.error = ModelFailed("it broke")
        for _ in range(150):
            with pytest.raises(ModelFailed):
                await ask(deployment)
        assert runtime.runs == 150
        assert deployment.breaker_statistics() is None
        await deployment.close()

    run(life())


def test_only_requests_that_may_fall_back_do() -> None:
    async def life() -> None:
        runtime, deployment = deploy(breaker=SLOW_BREAKER, fallback=(Constant(values={"y": 7}),))
        runtime.error = ModelFailed("it broke")
        assert [await ask(deployment, falls_back=True) for _ in range(4)] == [[7]] * 4
        assert runtime.runs == 2, "then the breaker is open"
        with pytest.raises(Refused, match="keeps failing") as caught:
            await ask(deployment)
        assert caught.value.reason == "breaker_open"
        assert 500.0 <= caught.value.retry_after_s <= 1000.0
        await deployment.close()

    run(life())


@pytest.mark.parametrize("sheds", [True, False])
def test_a_loop_that_is_behind_is_no_reason_to_refuse_where_nothing_is_shed(sheds: bool) -> None:
    async def life() -> None:
        clock = SystemClock()
        plane = DataPlane(MetricSet(), clock, sheds=sheds)
        deployment = plane.add(served(MoodyRuntime(), fallback=(Constant(values={"y": 7}),)))
        plane.lag.beat(clock.monotonic() - 60.0)
        reason = deployment.refusal_of_all(Criticality.CRITICAL)
        assert reason is (ShedReason.LOOP_LAG if sheds else None)
        assert deployment.cap(Criticality.CRITICAL) is reason
        await deployment.close()

    run(life())


def test_a_version_that_fails_its_checks_is_taken_out_until_it_passes() -> None:
    async def life() -> None:
        wrong: list[str] = []

        def examine(runtime: Runtime) -> None:
            if wrong:
                raise ModelFailed(wrong[0])

        health = HealthConfig(every_s=1e-6, failures_max=2, runtime_share=1.0)
        _, deployment = deploy(examine=examine, health=health)

        async def check_until(sick: bool) -> None:
            while (deployment.sick is not None) is not sick:
                deployment.check()
                await asyncio.sleep(0)

        assert await ask(deployment) == [2]
        wrong.append("three is not two")
        await check_until(sick=True)
        assert deployment.fault is not None
        with pytest.raises(Refused, match="three is not two") as caught:
            await ask(deployment)
        assert caught.value.reason == "unhealthy"
        wrong.clear()
        await check_until(sick=False)
        assert await ask(deployment) == [2]
        assert deployment.fault is None
        await deployment.close()

    run(life())


def test_at_rest_its_runtime_is_told_so_with_a_row_that_it_can_run() -> None:
    async def life() -> None:
        runtime, deployment = deploy(example={"x": np.array([5, 6, 7])})
        assert deployment.rest() is None, "it has not run yet"
        await ask(deployment)
        resting = deployment.rest()
        assert resting is not None
        await asyncio.wrap_future(resting)
        assert runtime.rested == [[5]]
        assert deployment.rest() is None
        await deployment.close()
        _, without = deploy()
        assert without.rest() is None
        await without.close()

    run(life())


def test_a_check_of_a_runtime_at_rest_leaves_it_at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    given_back: list[int] = []
    monkeypatch.setattr(deployment_module, "give_back_memory", lambda: given_back.append(len(given_back)))

    async def life() -> None:
        checks = 0

        def examine(runtime: Runtime) -> None:
            nonlocal checks
            checks += 1

        async def check_again() -> None:
            before = checks
            while checks == before:
                deployment.check()
                await asyncio.sleep(0)

        health = HealthConfig(every_s=0.001, runtime_share=1.0)
        runtime, deployment = deploy(examine=examine, health=health, example={"x": np.array([5, 6, 7])})
        await ask(deployment)
        await check_again()
        assert runtime.rested == given_back == [], "it is at work"
        resting = deployment.rest()
        assert resting is not None
        await asyncio.wrap_future(resting)
        await check_again()
        await check_again()  # which comes after all of the one before
        assert runtime.rested[:2] == [[5], [5]]
        assert given_back, "the rows that it was checked on, too"
        await deployment.close()

    run(life())
