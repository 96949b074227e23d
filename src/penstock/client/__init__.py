"""Clients of Penstock servers."""

from penstock.client.async_client import AsyncClient
from penstock.client.budget import BudgetStatistics
from penstock.client.client import Client, Job
from penstock.client.endpoints import EndpointStatistics
from penstock.client.errors import (
    BadAnswer,
    CallFailed,
    CallRefused,
    CallRejected,
    CallTimedOut,
    Unreachable,
)
from penstock.client.hedging import HedgePolicy
from penstock.client.jobs import AsyncJob, JobStatus
from penstock.client.messages import Answer, ModelMetadata
from penstock.client.pool import ConnectionSettings
from penstock.client.retrying import RetryPolicy
from penstock.client.sending import ClientStatistics
from penstock.core.calling import criticality, deadline

__all__ = [
    "Answer",
    "AsyncClient",
    "AsyncJob",
    "BadAnswer",
    "BudgetStatistics",
    "CallFailed",
    "CallRefused",
    "CallRejected",
    "CallTimedOut",
    "Client",
    "ClientStatistics",
    "ConnectionSettings",
    "EndpointStatistics",
    "HedgePolicy",
    "Job",
    "JobStatus",
    "ModelMetadata",
    "RetryPolicy",
    "Unreachable",
    "criticality",
    "deadline",
]
