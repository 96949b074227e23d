import logging
from threading import Event, Semaphore
from typing import cast

import pytest

from penstock.core.clock import ManualClock
from penstock.log.port import Consumer
from penstock.streams.lease import LeaseKeeper, lease_for

PATIENCE_S = 10.0


class Renewed:
    def __init__(self) -> None:
        self.times = Semaphore(0)
        self.fails = False

    def renew(self) -> None:
        self.times.release()
        if self.fails:
            raise ValueError("the log is closed")


def test_the_lease_of_whichever_consumer_there_is_goes_on() -> None:
    there: list[Renewed] = []
    asked = Event()

    def consumer() -> Consumer | None:
        asked.set()
        return cast("Consumer", there[-1]) if there else None

    keeper = LeaseKeeper(consumer, ManualClock(), silent_s=30.0, every_s=0.001)
    keeper.start()
    assert asked.wait(PATIENCE_S)
    for _ in range(2):
        there.append(Renewed())
        for _ in range(2):
            assert there[-1].times.acquire(timeout=PATIENCE_S)
    keeper.stop()


def test_who_gives_no_sign_of_life_for_too_long_loses_it() -> None:
    clock, renewed, asked = ManualClock(), Renewed(), Semaphore(0)

    def consumer() -> Consumer:
        asked.release()
        return cast("Consumer", renewed)

    keeper = LeaseKeeper(consumer, clock, silent_s=30.0, every_s=0.001)
    clock.advance(31.0)
    keeper.start()
    for _ in range(5):
        assert asked.acquire(timeout=PATIENCE_S)
    assert not renewed.times.acquire(blocking=False)
    keeper.alive()
    assert renewed.times.acquire(timeout=PATIENCE_S)
    keeper.stop()


def test_what_fails_is_told_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    renewed = Renewed()
    renewed.fails = True
    keeper = LeaseKeeper(lambda: cast("Consumer", renewed), ManualClock(), silent_s=30.0, every_s=0.001)
    with caplog.at_level(logging.ERROR):
        keeper.start()
        for _ in range(3):
            assert renewed.times.acquire(timeout=PATIENCE_S)
        keeper.stop()
    assert "the log is closed" in caplog.text


@pytest.mark.parametrize(("lease_s", "timeout_s"), [(10, 30), (0.6, 20), (10, 0.1), (600, 30)])
def test_a_lease_outlasts_a_function_that_lets_nobody_renew_it(lease_s: float, timeout_s: float) -> None:
    """It may have been renewed a quarter of it before."""
    found = lease_for(lease_s, timeout_s)
    assert found >= lease_s
    assert 0.75 * found > timeout_s + 1
