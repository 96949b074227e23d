import asyncio
import threading

import pytest

from penstock.core.errors import NotFound, Refused, StorageFailed
from penstock.serving.jobs import gathering
from penstock.serving.jobs.gathering import Gathering, Kind

DOUBLE = Kind("double", lambda _, given: [2 * each for each in given])


def test_what_waits_together_is_done_together() -> None:
    groups = []
    gate = threading.Event()

    def execute(group):
        gate.wait(10)
        groups.append([call.given for call in group])
        return call_all(group)

    async def calling():
        gathered = Gathering("test", execute)
        first = gathered.call(DOUBLE, 1)
        await asyncio.sleep(0)  # it is under way now
        rest = [gathered.call(DOUBLE, number) for number in range(2, 6)]
        unwanted = gathered.call(DOUBLE, 7)
        unwanted.cancel()
        gate.set()
        found = [await first, *await asyncio.gather(*rest)]
        await gathered.close()
        return found

    assert asyncio.run(calling()) == [2, 4, 6, 8, 10]
    assert groups == [[1], [2, 3, 4, 5]]


def call_all(group):
    return list(DOUBLE.run(None, [call.given for call in group]))


def test_one_error_is_ones_own_and_a_failed_group_is_everybodys() -> None:
    def execute(group):
        if any(call.given == "full" for call in group):
            raise StorageFailed("the disk is full")
        return [NotFound("no") if call.given == "missing" else call.given for call in group]

    async def calling():
        gathered = Gathering("test", execute)
        first = await asyncio.gather(
            *(gathered.call(DOUBLE, given) for given in ("a", "missing", "b")), return_exceptions=True
        )
        second = await asyncio.gather(
            *(gathered.call(DOUBLE, given) for given in ("a", "full")), return_exceptions=True
        )
        third = await gathered.call(DOUBLE, "c")
        await gathered.close()
        with pytest.raises(StorageFailed):
            gathered.call(DOUBLE, "d")
        return first, second, third

    first, second, third = asyncio.run(calling())
    assert [type(each) for each in first] == [str, NotFound, str]
    assert [type(each) for each in second] == [StorageFailed, StorageFailed]
    assert third == "c"


def test_who_waits_for_a_group_that_could_not_be_written_does_not_wait_for_another() -> None:
    gate = threading.Event()
    groups = []

    def execute(group):
        gate.wait(10)
        groups.append([call.given for call in group])
        if groups == [[1]]:
            raise StorageFailed("its turn did not come")
        return call_all(group)

    async def calling():
        gathered = Gathering("test", execute)
        first = gathered.call(DOUBLE, 1)
        await asyncio.sleep(0)  # it is under way now
        rest = [gathered.call(DOUBLE, number) for number in range(2, 6)]
        gate.set()
        failed = await asyncio.gather(first, *rest, return_exceptions=True)
        after = await gathered.call(DOUBLE, 7)
        await gathered.close()
        return failed, after

    failed, after = asyncio.run(calling())
    assert [type(each) for each in failed] == [StorageFailed] * 5
    assert (after, groups) == (14, [[1], [7]])


def test_a_fault_of_ours_leaves_nobody_waiting() -> None:
    def execute(group):
        raise ZeroDivisionError

    async def calling():
        gathered = Gathering("test", execute)
        with pytest.raises(ZeroDivisionError):
            await gathered.call(DOUBLE, 1)
        await gathered.close()

    asyncio.run(calling())


def test_what_waits_has_a_bound(monkeypatch) -> None:
    monkeypatch.setattr(gathering, "GATHERED_MAX", 2)

    async def calling():
        gathered = Gathering("test", call_all)
        kept = [gathered.call(DOUBLE, number) for number in range(2)]
        with pytest.raises(Refused) as caught:
            gathered.call(DOUBLE, 3)
        assert caught.value.reason == "jobs"
        await asyncio.gather(*kept)
        await gathered.close()

    asyncio.run(calling())
