"""Runs jobs beside the requests of its process: claims them, has them answered, writes what became of them."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import NamedTuple

from penstock.core.clock import Clock
from penstock.core.errors import PenstockError, Refused, StorageFailed
from penstock.core.failpoints import Failpoints
from penstock.serving.jobs.claiming import Claim, Claimed, Ended, Line, Renewed, Share
from penstock.serving.jobs.in_flight import Places
from penstock.serving.jobs.job import JobRequest
from penstock.serving.jobs.life import Outcome, Verdict
from penstock.serving.jobs.sharing import share_of
from penstock.serving.jobs.store import CLAIM, END, RENEW, JobStore

__all__ = ["Execute", "JobRunner", "RunnerConfig"]

log = logging.getLogger(__name__)

RENEWALS_A_LEASE = 3
STORAGE_PAUSE_S = 1.0

Execute = Callable[[JobRequest], "asyncio.Future[Outcome]"]
"""Asks a request. Who cancels what it gives does not want the answer any more."""


class RunnerConfig(NamedTuple):
    """`poll_s`: how often to look for jobs that other processes have taken on; `result_bytes_max`: of what a
    job may be answered.
    """

    running_max: int
    lease_s: float
    poll_s: float
    result_bytes_max: int = 2**26


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
        self._places = Places(config.running_max)
        self._after: Line = ("", "")
        self._suspect = False
        self._alone: int | None = None
        self._finishing = False
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
        self._finishing = True
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
        """Whether there may be more at once. A job that may end its process is waited for until nothing else
        runs here, and then nothing else is begun until it ended.
        """
        room = self._places.free
        if not room or self._finishing or (self._running and (self._suspect or self._alone in self._running)):
            return False
        wanted = self._wanted(room)
        asked = self._store.call(CLAIM, wanted)
        try:
            # The claim is made even where nobody waits for it any more: what it got is given back then.
            share = await asyncio.shield(asked)
        except asyncio.CancelledError:
            self._emptied.clear()
            asked.add_done_callback(self._give_back)
            raise
        self._after = share.after
        alone = wanted.alone and share.suspect
        self._alone = share.jobs[0].number if alone else None
        # By turns: after one alone there are others again.
        self._suspect = share.suspect and not alone
        for job in share.jobs:
            self._begin(job)
        return (share.more and not alone and self._places.free > 0) or (self._suspect and not self._running)

    def _wanted(self, room: int) -> Claim:
        return Claim(
            room,
            self._places.of_models(self._monotonic()),
            self._places.of_tenants(),
            share_of(room, 0),
            self._after,
            self._suspect,
        )

    def _give_back(self, asked: "asyncio.Future[Share]") -> None:
        """What was claimed while it ended."""
        if not asked.cancelled() and asked.exception() is None:
            for job in asked.result().jobs:
                answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
                self._follow(job, answer)
                answer.cancel()
        if not self._running:
            self._emptied.set()

    def _begin(self, claimed: Claimed) -> None:
        self._follow(claimed, self._execute(claimed.request))

    def _follow(self, claimed: Claimed, answer: "asyncio.Future[Outcome]") -> None:
        run = self._running[claimed.number] = _Run(claimed, answer)
        self._places.began(claimed.model, claimed.request.tenant)
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
            outcome = self._bounded(answer.result())
        if outcome.verdict is Verdict.REFUSED:
            self._places.refused(claimed.model, self._monotonic())
        elif outcome.verdict is not Verdict.RELEASED:
            self._places.answered(claimed.model)
        self._failpoints.pass_by("jobs-run")
        self._write(run, outcome)

    def _bounded(self, outcome: Outcome) -> Outcome:
        most = self._config.result_bytes_max
        if outcome.answer is None or len(outcome.answer.body) <= most:
            return outcome
        said = f"its answer has {len(outcome.answer.body)} bytes, and {most} are kept (jobs.result_bytes_max)"
        return Outcome(Verdict.FAILED, error=said)

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
            elif isinstance(error, StorageFailed | Refused | asyncio.CancelledError):
                self._write_later(run, outcome, error)
            else:
                self._not_written(run, outcome, error)

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

    def _not_written(self, run: _Run, outcome: Outcome, error: BaseException) -> None:
        """Nor will it be another time: what came of the job cannot be kept, and that is what comes of it."""
        log.error("job %s: its end cannot be written", run.claimed.id, exc_info=error)
        if outcome.verdict is Verdict.FAILED and outcome.answer is None:
            self._drop(run)  # its lease will be over, and others have it, so often as a job may be lost
            return
        said = f"what it was answered cannot be kept: {type(error).__name__}"
        self._write(run, Outcome(Verdict.FAILED, error=said))

    def _drop(self, run: _Run) -> None:
        if self._running.get(run.claimed.number) is run:
            del self._running[run.claimed.number]
            self._places.ended(run.claimed.model, run.claimed.request.tenant)
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
