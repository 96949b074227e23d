"""Jobs as a serving process has them. Their database is opened with the first job, or where there was one."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from penstock.core.clock import Clock
from penstock.core.errors import Conflict, InvalidInput, PenstockError
from penstock.core.failpoints import Failpoints
from penstock.core.rng import unique_token, unit_random
from penstock.core.settings import JobsSettings
from penstock.observe.metrics import MetricSet
from penstock.serving.jobs.courier import Courier
from penstock.serving.jobs.database import jobs_exist
from penstock.serving.jobs.enqueueing import Enqueued, Standing
from penstock.serving.jobs.job import JobAnswer, JobRecord, JobState, NewJob
from penstock.serving.jobs.keeper import Keeper
from penstock.serving.jobs.life import JobPolicy
from penstock.serving.jobs.runner import Execute, JobRunner, RunnerConfig
from penstock.serving.jobs.store import CANCEL, ENQUEUE, JobStore, StoreConfig
from penstock.serving.jobs.sweeping import Cancelling, no_such_job
from penstock.serving.jobs.telling import JobLog
from penstock.serving.jobs.webhook_names import Names
from penstock.serving.jobs.webhook_sender import WebhookSender
from penstock.serving.jobs.webhook_signatures import WebhookSecret
from penstock.serving.jobs.webhook_urls import WEBHOOK_URL, Network, check_url

__all__ = ["JobNotDone", "Jobs", "JobsConfig"]

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
WEBHOOK_FIRST_S = 1.0
WEBHOOK_LONGEST_S = 600.0


class JobNotDone(Conflict):
    """The job is not finished: there is no result yet."""


class JobsConfig(NamedTuple):
    """`folder` is where the app has its jobs, `allowed` are the networks inside that webhooks may be in."""

    folder: Path
    settings: JobsSettings
    allowed: tuple[Network, ...]


class _Opened(NamedTuple):
    store: JobStore
    runner: JobRunner
    keeper: Keeper
    courier: Courier


class Jobs:
    """One for each process. Raises `ConfigurationError` for a secret of webhooks that is none.

    `execute` asks a request, `job_log` is where what happens is told.
    """

    def __init__(
        self,
        config: JobsConfig,
        execute: Execute,
        job_log: JobLog,
        metrics: MetricSet,
        clock: Clock,
        failpoints: Failpoints,
    ) -> None:
        self._folder = config.folder
        self._settings = config.settings
        self._allowed = config.allowed
        self._secret = WebhookSecret.parse(config.settings.webhook_secret)
        self._execute = execute
        self._job_log = job_log
        self._clock = clock
        self.monotonic = clock.monotonic
        self._failpoints = failpoints
        self._opened: _Opened | None = None
        self._opening = asyncio.Lock()
        self._begun = asyncio.Event()
        self._add_metrics(metrics)

    def check_webhook(self, url: str) -> None:
        """Raises `InvalidInput` where that cannot be told."""
        if self._secret is None:
            raise InvalidInput(
                f"{WEBHOOK_URL}: this server has no secret to sign webhooks with",
                where=WEBHOOK_URL,
                hint="set jobs.webhook_secret, or ask for the job's status instead",
            )
        check_url(url, self._allowed)

    async def submit(self, job: NewJob) -> Enqueued:
        """Durable once it returns. Raises `KeyTaken`, `Refused`, `StorageFailed`."""
        opened = await self._open()
        enqueued = await opened.store.call(ENQUEUE, job)
        opened.runner.wake()
        return enqueued

    async def standing(self, tenant: str, key: str) -> Standing | None:
        """The job that a tenant's key stands for."""
        opened = await self._known()
        return None if opened is None else await opened.store.standing(tenant, key)

    async def find(self, name: str, tenant: str) -> JobRecord:
        """Raises `NotFound`, for others' jobs too."""
        opened = await self._known()
        job = None if opened is None else await opened.store.find(name)
        if job is None or job.tenant != tenant:
            raise no_such_job(name)
        return job

    async def result(self, name: str, tenant: str) -> tuple[JobRecord, JobAnswer | None]:
        """A finished job, and what it was answered; None: nothing, since it never was. Raises `NotFound` and
        `JobNotDone`.
        """
        opened = await self._known()
        found = None if opened is None else await opened.store.result(name)
        if found is None or found[0].tenant != tenant:
            raise no_such_job(name)
        if not found[0].state.final:
            raise JobNotDone(f"job {name} is {found[0].state.value}", hint="ask again, or have a webhook told")
        return found

    async def cancel(self, name: str, tenant: str) -> JobRecord:
        """The job as it is then: one that runs goes on until that is noticed. Raises `NotFound`, `Conflict`."""
        opened = await self._known()
        if opened is None:
            raise no_such_job(name)
        job = await opened.store.call(CANCEL, Cancelling(name, tenant))
        if job.state is JobState.RUNNING:
            opened.runner.cancel(name)
        elif job.webhook is not None:
            opened.courier.wake()
        return job

    async def run(self) -> None:
        """Runs what there is to run, for ever, from the first job on."""
        while self._opened is None:
            try:
                if await asyncio.to_thread(jobs_exist, self._folder):
                    await self._open()
                    break
            except PenstockError as error:
                log.warning("jobs are not looked for: %s", error)
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._begun.wait()
            except TimeoutError:
                continue
        opened = await self._open()
        async with asyncio.TaskGroup() as group:
            group.create_task(opened.runner.run())
            group.create_task(opened.keeper.run())
            group.create_task(opened.courier.run(self._settings.poll_s, unit_random))

    async def finish(self, within_s: float) -> None:
        """Waits for the jobs that this process has; gives back those that take longer."""
        if self._opened is not None:
            await self._opened.runner.finish(within_s)

    async def close(self) -> None:
        if self._opened is not None:
            await self._opened.keeper.close()
            await self._opened.store.close()

    async def _known(self) -> _Opened | None:
        """None: there is no job at all."""
        if self._opened is None and not await asyncio.to_thread(jobs_exist, self._folder):
            return None
        return await self._open()

    async def _open(self) -> _Opened:
        if self._opened is not None:
            return self._opened
        async with self._opening:
            if self._opened is None:
                self._opened = await self._make()
                self._begun.set()
            return self._opened

    async def _make(self) -> _Opened:
        settings, clock, failpoints = self._settings, self._clock, self._failpoints
        policy = JobPolicy(
            attempts_max=settings.attempts_max,
            first_s=settings.retry_first_s,
            longest_s=settings.retry_longest_s,
            lease_s=settings.lease_s,
            kept_s=settings.result_ttl_s,
            waits_s=settings.waits_s_max,
        )
        config = StoreConfig(policy, settings.queued_max, unit_random, settings.tenant_queued_max)
        store = await JobStore.open(self._folder, config, clock, failpoints)
        telling = msgspec.structs.replace(
            policy,
            attempts_max=settings.webhook_attempts,
            first_s=WEBHOOK_FIRST_S,
            longest_s=WEBHOOK_LONGEST_S,
        )
        sender = WebhookSender(self._allowed, settings.webhook_timeout_s, Names(clock))
        courier = Courier(store, sender, self._secret, telling, clock, failpoints)
        runner = JobRunner(
            store,
            self._execute,
            RunnerConfig(settings.running_max, settings.lease_s, settings.poll_s, settings.result_bytes_max),
            clock,
            failpoints,
            courier.wake,
        )
        keeper = Keeper(store, self._job_log, unique_token(8), clock, failpoints, runner.wake)
        return _Opened(store, runner, keeper, courier)

    def _add_metrics(self, metrics: MetricSet) -> None:
        for state in JobState:
            metrics.counter_read(
                "penstock_jobs_total",
                "Jobs that came into a state.",
                self._counted(state.value),
                state=state.value,
            )
        for told in ("delivered", "given up"):
            metrics.counter_read(
                "penstock_job_webhooks_total",
                "Webhooks of jobs that were told, or given up.",
                self._counted(f"webhook {told}"),
                state=told.replace(" ", "_"),
            )
        for alive in (JobState.QUEUED, JobState.RUNNING):
            metrics.gauge(
                "penstock_jobs_unfinished",
                "Jobs that are not finished.",
                self._now(alive.value),
                state=alive.value,
            )
        metrics.gauge(
            "penstock_jobs_due_seconds",
            "For how long the first job in line has been due.",
            lambda: self._opened.keeper.waited_s() if self._opened is not None else 0.0,
        )

    def _counted(self, name: str) -> Callable[[], float]:
        return lambda: float(self._opened.store.counted[name]) if self._opened is not None else 0.0

    def _now(self, state: str) -> Callable[[], float]:
        def read() -> float:
            counts = self._opened.keeper.counts() if self._opened is not None else None
            return 0.0 if counts is None else float(counts.by_state.get(state, 0))

        return read
