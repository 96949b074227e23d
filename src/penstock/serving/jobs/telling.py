"""The life of jobs as events in the log, for whoever wants to follow it."""

from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec
import numpy as np

from penstock.log.port import Log, Producer, TopicSpec
from penstock.log.records import Records, TopicPartition
from penstock.serving.jobs.job import at
from penstock.serving.jobs.keeping import JobEvent

__all__ = ["JobLog", "JobTold"]

RETENTION_S = 7 * 86_400.0
APPEND_S_MAX = 60.0


class JobTold(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event of a job as the log has it, under the job's id as its key. An event may come twice: it is the
    same where `job` and `sequence` are.
    """

    job: str
    sequence: int
    event: str
    at: datetime
    tenant: str
    model: str
    attempts: int = 0
    error: str = ""


class JobLog:
    """The topic of an app's jobs, opened when there is something to tell. All of it blocks; one thread at a
    time.
    """

    def __init__(self, topic: str, open_log: Callable[[], Log]) -> None:
        self._source = TopicPartition(topic, 0)
        self._open_log = open_log
        self._log: Log | None = None
        self._producer: Producer | None = None

    def append(self, events: Sequence[JobEvent]) -> None:
        """Durable once it returns. Raises `StorageFailed`."""
        records = Records(
            values=[_encoded(event) for event in events],
            times_ms=np.array([event.at_us // 1000 for event in events], dtype=np.int64),
            keys=[event.job_id.encode() for event in events],
        )
        self._opened().append(self._source, records).result(APPEND_S_MAX)

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = self._producer = None

    def _opened(self) -> Producer:
        if self._log is None:
            self._log = self._open_log()
        if self._producer is None:
            self._log.admin.ensure_topics([TopicSpec(name=self._source.topic, retention_s=RETENTION_S)])
            self._producer = self._log.producer()
        return self._producer


def _encoded(event: JobEvent) -> bytes:
    return msgspec.json.encode(
        JobTold(
            job=event.job_id,
            sequence=event.sequence,
            event=event.event,
            at=at(event.at_us),
            tenant=event.tenant,
            model=event.model,
            attempts=event.attempts,
            error=event.error,
        )
    )
