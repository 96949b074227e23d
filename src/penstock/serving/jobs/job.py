"""What a job is: a request that is acknowledged before it is answered, and what became of it.

Times are microseconds since 1970 in UTC (`_us`): several processes, and those after a restart, go by them.
"""

import enum
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

__all__ = [
    "DeliveryState",
    "JobAnswer",
    "JobRecord",
    "JobRequest",
    "JobState",
    "JobView",
    "NewJob",
    "WebhookView",
    "at",
    "to_us",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class JobState(enum.StrEnum):
    """Where a job is in its life. The last four are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def final(self) -> bool:
        return self not in (JobState.QUEUED, JobState.RUNNING)


class DeliveryState(enum.StrEnum):
    """How far telling a job's webhook is."""

    WAITING = "waiting"
    """The job is not finished."""
    PENDING = "pending"
    DELIVERED = "delivered"
    GIVEN_UP = "given up"


class JobRequest(NamedTuple):
    """A request as it is asked anew: its target, those of its headers that its answer depends on, its body.

    `tenant` is whose it is.
    """

    target: str
    headers: dict[str, str]
    body: bytes
    tenant: str = ""


class JobAnswer(NamedTuple):
    """The answer that the request would have had at once: `head` is the head of it but for its length."""

    status: int
    head: bytes
    body: bytes


class NewJob(NamedTuple):
    """A job that is wanted. `key` is the caller's own name for it, `digest` stands for all that it asks;
    `wait_us_max` is how long it may wait before it is worth nothing.
    """

    id: str
    model: str
    digest: str
    request: JobRequest
    key: str | None = None
    wait_us_max: int | None = None
    webhook: str | None = None


class WebhookView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of telling a webhook."""

    url: str
    status: str
    attempts: int
    error: str = ""


class JobView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job as its owner sees it."""

    id: str
    status: str
    model: str
    attempts: int
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    cancel_asked: bool = False
    error: str = ""
    """Why it failed, or why its last attempt did."""
    webhook: WebhookView | None = None


class JobRecord(NamedTuple):
    """A job as it is kept, without what it asks and what it was answered."""

    id: str
    tenant: str
    model: str
    state: JobState
    attempts: int
    cancel_asked: bool
    error: str
    created_us: int
    started_us: int | None
    finished_us: int | None
    expires_us: int | None
    webhook: WebhookView | None = None

    def view(self) -> JobView:
        return JobView(
            id=self.id,
            status=self.state.value,
            model=self.model,
            attempts=self.attempts,
            created_at=at(self.created_us),
            started_at=_or_none(self.started_us),
            finished_at=_or_none(self.finished_us),
            expires_at=_or_none(self.expires_us),
            cancel_asked=self.cancel_asked and not self.state.final,
            error=self.error,
            webhook=self.webhook,
        )


def to_us(time: datetime) -> int:
    """Microseconds since 1970, exactly."""
    return (time - _EPOCH) // _MICROSECOND


def at(time_us: int) -> datetime:
    """That time as a date, in UTC."""
    return _EPOCH + time_us * _MICROSECOND


def _or_none(time_us: int | None) -> datetime | None:
    return None if time_us is None else at(time_us)
