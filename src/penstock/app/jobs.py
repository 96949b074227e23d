"""The wiring of jobs: their database and log in the home folder, the models of the process, what is set."""

import os
from functools import partial
from pathlib import Path

from penstock.core.clock import Clock
from penstock.core.failpoints import FAILPOINT_VARIABLE, failpoints_of
from penstock.core.settings import Settings
from penstock.log.opening import open_from_settings
from penstock.observe.metrics import MetricSet
from penstock.serving.admission.rates.tenants import parse_networks
from penstock.serving.instance import Instance
from penstock.serving.jobs.database import jobs_folder
from penstock.serving.jobs.service import Jobs, JobsConfig
from penstock.serving.jobs.telling import JobLog
from penstock.serving.plane import DataPlane
from penstock.serving.protocols.jobs.calls import JobCalls

__all__ = ["jobs_topic", "make_jobs"]


def make_jobs(
    app: str, settings: Settings, plane: DataPlane, instance: Instance, metrics: MetricSet, clock: Clock
) -> Jobs:
    """Of a process that serves an app. Raises `ConfigurationError` for settings that cannot be used."""
    config = JobsConfig(
        folder=jobs_folder(Path(settings.home), app),
        settings=settings.jobs,
        allowed=parse_networks(settings.jobs.webhook_networks_allowed),
    )
    calls = JobCalls(plane, instance, clock, settings.jobs.run_timeout_s)
    job_log = JobLog(jobs_topic(app), partial(open_from_settings, settings, clock))
    return Jobs(config, calls.ask, job_log, metrics, clock, failpoints_of(os.environ.get(FAILPOINT_VARIABLE)))


def jobs_topic(app: str) -> str:
    """Where the log has the life of an app's jobs."""
    return f"{app}.jobs"
