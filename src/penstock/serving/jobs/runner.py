"""Runs jobs beside the requests of its process: claims them, has them answered, writes what became of them."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import NamedTuple

from penstock.core.clock import Clock
from penstock.core.errors import PenstockError
from penstock.core.failpoints import Failpoints
from penstock.serving.jobs.claiming import Claim, Claimed, Ended, Renewed
from penstock.serving.jobs.in_flight import InFlight
from penstock.serving.jobs.job import JobRequest
from penstock.serving.jobs.life import Outcome, Verdict
from penstock.serving.jobs.store import CLAIM, END, RENEW, JobStore

__all__ = ["Execute", "JobRunner", "RunnerConfig"]

log = logging.getLogger(__name__)

RENEWALS_A_LEASE = 3
STORAGE_PAUSE_S = 1.0

Execute = Callable[[JobRequest], "asyncio.Future[Outcome]"]
"""Asks a request. Who cancels what it gives does not want the answer any more."""


class RunnerConfig(NamedTuple):
    """`poll_s`: how often to look for jobs that other processes have taken on."""

    running_max: int
    lease_s: float
    poll_s: float


class _Run:
    """A job that this process has. `wanted`: nobody has cancelled it."""

    __slots__ = ("answer", "claimed", "wanted")

    def __init__(self, claimed: Claimed, answer: "asyncio.Future[Outcome]") -> None:
        self.claimed = claimed
        self.answer = answer
        self.wanted = True


class JobRunner:
    """In the event loop alone. `on_webhook` is called when a job ends that has one."""

    def __init__(
        self,
        store: JobStore,
        execute: Execute,
        config: RunnerConfig,
        clock: Clock,
        failpoints: Failpoints,
        on_webhook: Callable[[], object],
    ) -> None:
        self._store = store
        self._execute = execute
        self._config = config
        self._monotonic = clock.monotonic
        self._failpoints = failpoints
        self._on_webhook = on_webhook
        self._in_flight = InFlight(config.running_max)
        self._running: dict[int, _Run] = {}
        self._woken = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._ending: set[asyncio.Task[None]] = set()
        self._renewing: asyncio.Future[None] | None = None

    @property
    def running(self) -> int:
        """How many jobs this process has."""
        return len(self._running)

    def wake(self) -> None:
        """There may be jobs to run."""
        self._woken.set()

    def cancel(self, name: str) -> None:
        """The job with this id is not wanted any more, should it be here."""
        for run in self._running.values():
            if run.claimed.id == name:
                run.wanted = False
                run.answer.cancel()

    async def run(self) -> None:
        """For ever. What it has when it is cancelled goes on until `finish`."""
        self._renewing = asyncio.ensure_future(self._renew_for_ever())
        while True:
            self._woken.clear()
            try:
                if await self._claim():
                    continue
            except PenstockError as error:
                log.warning("no jobs are begun: %s", error)
                await asyncio.sleep(STORAGE_PAUSE_S)
            except Exception:
                log.exception("no jobs are begun")
                await asyncio.sleep(STORAGE_PAUSE_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._config.poll_s):
                    await self._woken.wait()

    async def finish(self, within_s: float) -> None:
        """Begins nothing more; what is not answered within that time is given back for others to run."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._emptied.wait()
        for run in list(self._running.values()):
            run.answer.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STORAGE_PAUSE_S):
                await self._emptied.wait()
        for task in (*self._ending, self._renewing):
            if task is not None:
                task.cancel()

    async def _claim(self) -> bool:
        """Whether there may be more at once."""
        room = self._in_flight.room(len(self._running), self._monotonic())
        if not room:
            return False
        claimed = await self._store.call(CLAIM, Claim(room))
        for job in claimed:
            self._begin(job)
        return len(claimed) == room and self._in_flight.room(len(self._running), self._monotonic()) > 0

    def _begin(self, claimed: Claimed) -> None:
        answer = self._execute(claimed.request)
        run = self._running[claimed.number] = _Run(claimed, answer)
        self._emptied.clear()
        answer.add_done_callback(lambda _: self._answered(run))

    def _answered(self, run: _Run) -> None:
        claimed, answer = run.claimed, run.answer
        if self._running.get(claimed.number) is not run:
            return  # it was lost meanwhile
        if answer.cancelled():
            outcome = Outcome(Verdict.RELEASED)
        elif (error := answer.exception()) is not None:
            log.error("job %s", claimed.id, exc_info=error)
            outcome = Outcome(Verdict.RETRY, error=f"internal error: {type(error).__name__}")
        else:
            outcome = answer.result()
        if outcome.verdict is Verdict.REFUSED:
            self._in_flight.refused(self._monotonic())
        elif outcome.verdict is not Verdict.RELEASED:
            self._in_flight.answered()
        self._failpoints.pass_by("jobs-run")
        self._write(run, outcome)

    def _write(self, run: _Run, outcome: Outcome) -> None:
        ended = Ended(run.claimed.number, run.claimed.epoch, outcome)
        try:
            written = self._store.call(END, ended)
        except PenstockError as error:
            self._write_later(run, outcome, error)
            return

        def settle(future: "asyncio.Future[bool]") -> None:
            error = None if future.cancelled() else future.exception()
            if error is None:
                self._drop(run)
            else:
                self._write_later(run, outcome, error)

        written.add_done_callback(settle)

    def _write_later(self, run: _Run, outcome: Outcome, error: BaseException) -> None:
        """The disk is full, say. The answer is kept for as long as the job is this process's."""
        log.warning("job %s: its end is not written yet: %s", run.claimed.id, error)

        async def later() -> None:
            await asyncio.sleep(STORAGE_PAUSE_S)
            if self._running.get(run.claimed.number) is run:
                self._write(run, outcome)

        task = asyncio.get_running_loop().create_task(later())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _drop(self, run: _Run) -> None:
        if self._running.get(run.claimed.number) is run:
            del self._running[run.claimed.number]
        if not self._running:
            self._emptied.set()
        self._woken.set()
        if run.claimed.has_webhook:
            self._on_webhook()

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._config.lease_s / RENEWALS_A_LEASE)
            try:
                await self._renew()
            except PenstockError as error:
                log.warning("leases of jobs are not renewed: %s", error)
            except Exception:
                log.exception("leases of jobs are not renewed")

    async def _renew(self) -> None:
        runs = list(self._running.values())
        if not runs:
            return
        asked = [self._store.call(RENEW, (run.claimed.number, run.claimed.epoch)) for run in runs]
        renewed: list[Renewed | BaseException] = await asyncio.gather(*asked, return_exceptions=True)
        for run, state in zip(runs, renewed, strict=True):
            if isinstance(state, BaseException):
                raise state
            if not state.held:
                # Another has it, or it was finished by this one a moment ago.
                self._drop(run)
                run.answer.cancel()
            elif state.cancel_asked and run.wanted:
                run.wanted = False
                run.answer.cancel()
