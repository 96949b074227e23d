"""What tasks of an event loop append: outcomes reach who waits, the loop is woken seldom, and room is kept."""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from penstock.core.clock import SystemClock
from penstock.core.errors import NotFound
from penstock.log.async_producer import AsyncProducer
from penstock.log.opening import open_log
from penstock.log.port import TopicSpec
from penstock.log.records import Records, TopicPartition

EVENTS = TopicPartition("events", 0)


class HeldProducer:
    """Appends whose futures the test settles."""

    def __init__(self) -> None:
        self.futures: list[Future[int]] = []
        self.threads: list[threading.Thread] = []
        self.appended: Callable[[], object] = lambda: None

    def append(self, target: TopicPartition, records: Records) -> "Future[int]":
        self.threads.append(threading.current_thread())
        self.futures.append(Future())
        self.appended()
        return self.futures[-1]

    def close(self) -> None: ...


def one(value: bytes = b"{}") -> Records:
    return Records(values=[value], times_ms=np.zeros(1, dtype=np.int64))


async def begun() -> None:
    """Every task has gone as far as it can by itself."""
    for _ in range(5):
        await asyncio.sleep(0)


def in_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_each_task_has_the_offset_of_its_own(tmp_path: Path) -> None:
    values = [b"%d" % number for number in range(300)]

    async def produce() -> list[int]:
        producer = AsyncProducer(log.producer())
        offsets = await asyncio.gather(*(producer.append(EVENTS, one(value)) for value in values))
        await producer.close()
        return offsets

    with open_log("", tmp_path, SystemClock()) as log:
        log.admin.ensure_topics([TopicSpec(name="events")])
        offsets = asyncio.run(produce())
        there = log.admin.read(EVENTS, 0, records_max=1000).records.values
    assert [there[offset] for offset in offsets] == values
    assert sorted(offsets) == list(range(300))


def test_what_the_future_raises_is_raised(tmp_path: Path) -> None:
    async def produce() -> None:
        await AsyncProducer(log.producer()).append(TopicPartition("nowhere", 0), one())

    with open_log("", tmp_path, SystemClock()) as log, pytest.raises(NotFound, match="nowhere"):
        asyncio.run(produce())


def test_what_is_done_together_wakes_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    held = HeldProducer()

    async def produce() -> tuple[list[int], int]:
        producer = AsyncProducer(held)
        waits = [asyncio.create_task(producer.append(EVENTS, one())) for _ in range(50)]
        await begun()
        loop, wakes = asyncio.get_running_loop(), 0
        wake = loop.call_soon_threadsafe

        def counted(*arguments: object) -> object:
            nonlocal wakes
            wakes += 1
            return wake(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        in_thread(lambda: [future.set_result(number) for number, future in enumerate(held.futures)])
        return await asyncio.gather(*waits), wakes

    assert asyncio.run(produce()) == (list(range(50)), 1)


def test_one_that_is_cancelled_takes_no_other_with_it() -> None:
    held = HeldProducer()

    async def produce() -> list[int | BaseException]:
        producer = AsyncProducer(held)
        waits = [asyncio.create_task(producer.append(EVENTS, one())) for _ in range(3)]
        await begun()
        waits[1].cancel()
        await begun()
        in_thread(lambda: [future.set_result(number) for number, future in enumerate(held.futures)])
        async with asyncio.timeout(10):
            return await asyncio.gather(*waits, return_exceptions=True)

    first, second, third = asyncio.run(produce())
    assert (first, third) == (0, 2)
    assert isinstance(second, asyncio.CancelledError)


def test_what_ends_after_the_loop_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    held = HeldProducer()
    tasks: set[asyncio.Task[int]] = set()

    async def leave() -> None:
        producer = AsyncProducer(held)
        tasks.update(asyncio.create_task(producer.append(EVENTS, one())) for _ in range(2))
        await begun()

    asyncio.run(leave())
    with caplog.at_level(logging.DEBUG):
        in_thread(lambda: [future.set_result(0) for future in held.futures])
    assert not caplog.records


def test_no_more_are_under_way_than_have_room() -> None:
    held = HeldProducer()

    async def produce() -> list[int]:
        producer = AsyncProducer(held, in_flight_max=2)
        waits = [asyncio.create_task(producer.append(EVENTS, one())) for _ in range(5)]
        under_way = []
        while not all(wait.done() for wait in waits):
            await begun()
            under_way.append(sum(not future.done() for future in held.futures))
            in_thread(lambda: [future.set_result(0) for future in held.futures if not future.done()])
            await begun()
        return under_way

    assert asyncio.run(produce()) == [2, 2, 1]


@pytest.mark.parametrize(
    "records", [one(bytes(100_000)), Records(values=[b""] * 65, times_ms=np.zeros(65, np.int64))]
)
def test_what_is_large_is_handed_over_beside_the_loop(records: Records) -> None:
    held = HeldProducer()

    async def produce() -> None:
        producer = AsyncProducer(held)
        small = asyncio.create_task(producer.append(EVENTS, one()))
        await begun()
        loop, appended = asyncio.get_running_loop(), asyncio.Event()
        held.appended = lambda: loop.call_soon_threadsafe(appended.set)
        large = asyncio.create_task(producer.append(EVENTS, records))
        await appended.wait()
        for future in held.futures:
            future.set_result(0)
        await asyncio.gather(small, large)

    asyncio.run(produce())
    here = threading.current_thread()
    assert held.threads[0] is here
    assert held.threads[1] is not here
