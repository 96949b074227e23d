"""Sees to what nobody asks for: leases that are over, jobs that wait too long, what the log has to be told."""

import asyncio
import logging
from collections.abc import Callable

from penstock.core.clock import Clock
from penstock.core.errors import PenstockError
from penstock.core.failpoints import Failpoints
from penstock.serving.jobs.keeping import LEASE_S, Keeping
from penstock.serving.jobs.reading import Due, JobCounts
from penstock.serving.jobs.store import FORGET, FORGET_EVENTS, KEEP, SWEEP, JobStore
from penstock.serving.jobs.telling import JobLog

__all__ = ["Keeper"]

log = logging.getLogger(__name__)

EVERY_S = 0.5
EVENTS_AT_ONCE = 2000
ROUNDS_MAX = 50
COUNT_EVERY_S = 2.0
FAILED_PAUSE_S = 5.0


class Keeper:
    """One for each process; of them one at a time tells the log, counts, and forgets. `on_swept` is called when
    jobs may be run again.
    """

    def __init__(
        self,
        store: JobStore,
        job_log: JobLog,
        holder: str,
        clock: Clock,
        failpoints: Failpoints,
        on_swept: Callable[[], object],
    ) -> None:
        self._store = store
        self._job_log = job_log
        self._holder = holder
        self._clock = clock
        self._failpoints = failpoints
        self._on_swept = on_swept
        self._kept_until_s = float("-inf")
        self._counted_s = float("-inf")
        self._counts: JobCounts | None = None

    async def run(self) -> None:
        """For ever."""
        while True:
            pause_s = EVERY_S
            try:
                await self._round()
            except PenstockError as error:
                log.warning("jobs are not seen to: %s", error)
                pause_s = FAILED_PAUSE_S
            except Exception:
                log.exception("jobs are not seen to")
                pause_s = FAILED_PAUSE_S
            await asyncio.sleep(pause_s)

    async def close(self) -> None:
        """Others may keep from now on."""
        if self._clock.monotonic() < self._kept_until_s:
            try:
                await self._store.call(KEEP, Keeping(self._holder, gives_up=True))
            except PenstockError as error:
                log.info("another process keeps jobs only later: %s", error)
        await asyncio.to_thread(self._job_log.close)

    def counts(self) -> JobCounts | None:
        """How many jobs there are, as far as it is this process that tells; None: it is another."""
        return self._counts if self._clock.monotonic() < self._kept_until_s else None

    async def _round(self) -> None:
        due = await self._store.due()
        rounds = 0
        while due.sweep and rounds < ROUNDS_MAX:
            rounds += 1
            if await self._store.call(SWEEP, None):
                self._on_swept()
            due = await self._store.due()
        if (due.forget or due.events or due.alive) and await self._keeps():
            await self._keep(due)

    async def _keep(self, due: Due) -> None:
        rounds = 0
        while due.forget and rounds < ROUNDS_MAX:
            rounds += 1
            if not await self._store.call(FORGET, None):
                break
        while due.events and rounds < ROUNDS_MAX and await self._keeps():
            rounds += 1
            events = await self._store.events(EVENTS_AT_ONCE)
            if not events:
                break
            await asyncio.to_thread(self._job_log.append, events)
            self._failpoints.pass_by("jobs-log")
            await self._store.call(FORGET_EVENTS, [event.number for event in events])
        if self._clock.monotonic() >= self._counted_s + COUNT_EVERY_S:
            self._counts = await self._store.counts()
            self._counted_s = self._clock.monotonic()

    async def _keeps(self) -> bool:
        """Whether it is this process that does these things, for a while yet."""
        now_s = self._clock.monotonic()
        if now_s < self._kept_until_s - LEASE_S / 2:
            return True
        if await self._store.call(KEEP, Keeping(self._holder)):
            self._kept_until_s = now_s + LEASE_S
            return True
        self._kept_until_s = float("-inf")
        return False

    def waited_s(self) -> float:
        """For how long the first job in line has been due, in seconds, where this process tells."""
        counts = self.counts()
        if counts is None or counts.due_us is None:
            return 0.0
        return max(0.0, (self._store.now_us() - counts.due_us) / 1e6)
