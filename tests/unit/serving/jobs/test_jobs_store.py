import asyncio
from pathlib import Path

import pytest

from penstock.core.clock import SystemClock
from penstock.core.errors import StorageFailed
from penstock.core.failpoints import failpoints_of
from penstock.log.embedded.write_lock import WriteLock
from penstock.serving.jobs.job import JobRequest, NewJob
from penstock.serving.jobs.life import JobPolicy
from penstock.serving.jobs.store import ENQUEUE, JobStore, StoreConfig

POLICY = JobPolicy(attempts_max=3, first_s=1.0, longest_s=5.0, lease_s=1.0, kept_s=60.0)


def job(number: int) -> NewJob:
    return NewJob(f"{number}", "m", "d", JobRequest("/", {}, b"", "@"))


def lock_of(home: Path) -> WriteLock:
    """The store's, as another process has it."""
    (file,) = home.rglob("write.lock")
    return WriteLock(file.parent)


def test_one_who_stands_still_with_the_lock_makes_all_fail_at_once(tmp_path: Path) -> None:
    """However many wait: none of them for longer than two turns, which are parts of a lease."""

    async def calling() -> list[BaseException | object]:
        config = StoreConfig(POLICY, 10_000, lambda: 0.0)
        store = await JobStore.open(tmp_path, config, SystemClock(), failpoints_of(None))
        lock = lock_of(tmp_path)
        with lock:
            failed = await asyncio.gather(
                *(store.call(ENQUEUE, job(number)) for number in range(1200)), return_exceptions=True
            )
        lock.close()
        taken = await store.call(ENQUEUE, job(1))
        await store.close()
        return [*failed, taken.job.id]

    *failed, taken = asyncio.run(calling())
    assert {type(each) for each in failed} == {StorageFailed}
    assert len({id(each) for each in failed}) == 1, "they failed with one turn, not with one after the other"
    assert taken == "1"


def test_its_turn_is_waited_for_a_part_of_the_lease(tmp_path: Path) -> None:
    async def calling() -> None:
        config = StoreConfig(POLICY, 10_000, lambda: 0.0)
        store = await JobStore.open(tmp_path, config, SystemClock(), failpoints_of(None))
        lock = lock_of(tmp_path)
        with lock, pytest.raises(StorageFailed, match=r"within 0\.25 s"):
            await store.call(ENQUEUE, job(1))
        lock.close()
        await store.close()

    asyncio.run(calling())
