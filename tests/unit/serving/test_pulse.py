import asyncio

import pytest

from penstock.core.clock import SystemClock
from penstock.observe.metrics import MetricSet
from penstock.serving.plane import DataPlane
from penstock.serving.pulse import Pulse

PATIENCE_S = 20.0


def test_it_goes_on_when_a_tick_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were it to stop, the loop would be taken to be behind for ever, and everybody be refused."""

    async def life() -> None:
        ticks = asyncio.Semaphore(0)

        def tick(now_s: float) -> None:
            ticks.release()
            raise ZeroDivisionError("a controller's mistake")

        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: told.append(context["exception"])
        )
        told: list[BaseException] = []
        clock = SystemClock()
        plane = DataPlane(MetricSet(), clock)
        monkeypatch.setattr(plane, "tick", tick)
        pulse = Pulse(plane, clock)
        pulse.start()
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(3):
                await ticks.acquire()
        pulse.stop()
        assert {type(error) for error in told} == {ZeroDivisionError}

    asyncio.run(life())
