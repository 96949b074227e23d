import asyncio
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from penstock.core.clock import ManualClock
from penstock.models.runtimes.runtime import Examine, Runtime
from penstock.serving.guards import HealthWatch
from penstock.serving.health import HealthConfig

TIMEOUT_S = 5.0


class Thread:
    """A runtime's thread, whose pieces of an examination are run by hand."""

    def __init__(self) -> None:
        self.steps: Iterator[None] | None = None

    def ask(self, examine: Examine) -> "Future[float]":
        assert self.steps is None, "one check at a time"
        self.steps = iter(examine(None) or ())  # type: ignore[arg-type]
        return Future()

    def step(self) -> None:
        assert self.steps is not None, "it is asked before"
        next(self.steps)


def three_pieces(_runtime: Runtime) -> Iterator[None]:
    yield from (None, None, None)


def test_a_check_whose_pieces_end_does_not_hang_however_long_it_takes() -> None:
    async def life() -> None:
        clock, thread = ManualClock(), Thread()
        config = HealthConfig(every_s=1.0, failures_max=1, timeout_s=TIMEOUT_S)
        watch = HealthWatch(config, three_pieces, thread.ask, clock, "version 1 of 'm'")
        clock.advance(100.0)
        watch.check(None, idle=True)
        for _ in range(3):
            clock.advance(0.9 * TIMEOUT_S)
            thread.step()
            watch.check(None, idle=True)
            assert watch.sick is None
        clock.advance(0.9 * TIMEOUT_S)
        watch.check(None, idle=True)
        assert watch.sick is None
        clock.advance(0.2 * TIMEOUT_S)
        watch.check(None, idle=True)
        assert watch.sick is not None
        assert "stood still for 5 s" in watch.sick

    asyncio.run(life())


@pytest.mark.parametrize("stepped_s", [float("-inf"), 0.0, 99.0])
def test_pieces_of_the_check_before_say_nothing_of_this_one(stepped_s: float) -> None:
    async def life() -> None:
        clock, thread = ManualClock(), Thread()
        config = HealthConfig(every_s=1.0, failures_max=1, timeout_s=TIMEOUT_S)
        watch = HealthWatch(config, three_pieces, thread.ask, clock, "version 1 of 'm'")
        watch._stepped_s = stepped_s
        clock.advance(100.0)
        watch.check(None, idle=True)
        clock.advance(1.1 * TIMEOUT_S)
        watch.check(None, idle=True)
        assert watch.sick is not None

    asyncio.run(life())
