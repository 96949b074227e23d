import asyncio

from penstock.serving.protocols.grpc import gathering
from penstock.serving.protocols.grpc.gathering import Gathering


async def enter_many(gathering: Gathering, calls: int) -> list["asyncio.Task[None]"]:
    for _ in range(calls):
        gathering.enter()
    tasks = [asyncio.create_task(gathering.turn()) for _ in range(calls)]
    await asyncio.sleep(0)
    return tasks


def test_few_calls_never_wait() -> None:
    async def scenario() -> None:
        held = Gathering()
        tasks = await enter_many(held, gathering.CALLS_MIN - 1)
        assert all(task.done() for task in tasks)

    asyncio.run(scenario())


def test_many_go_on_together() -> None:
    async def scenario() -> None:
        held = Gathering()
        tasks = await enter_many(held, gathering.CALLS_MIN + 5)
        waiting = [task for task in tasks if not task.done()]
        assert waiting == tasks
        held._release()
        await asyncio.sleep(0)
        assert all(task.done() for task in tasks)

    asyncio.run(scenario())


def test_one_that_hangs_up_takes_no_other_along() -> None:
    async def scenario() -> None:
        held = Gathering()
        tasks = await enter_many(held, gathering.CALLS_MIN + 2)
        gone, *others = tasks[-3:]
        gone.cancel()
        await asyncio.wait(others, timeout=10.0)
        assert gone.cancelled()
        assert all(task.done() and not task.cancelled() for task in others)

    asyncio.run(scenario())


def test_the_peak_is_forgotten() -> None:
    async def scenario() -> None:
        held = Gathering()
        tasks = await enter_many(held, 8)
        await asyncio.wait(tasks, timeout=10.0)
        for _ in tasks:
            held.leave()
        for _ in range(1000):
            if held._peak < gathering.CALLS_MIN:
                break
            entered = await enter_many(held, 1)
            await asyncio.wait(entered, timeout=10.0)
            held.leave()
        (last,) = await enter_many(held, 1)
        assert last.done()

    asyncio.run(scenario())
