"""Errors as gRPC statuses, and answers counted by status."""

import enum
import logging
from typing import Any

from penstock.core.errors import (
    Conflict,
    DeadlineExceeded,
    Forbidden,
    InvalidInput,
    NotFound,
    PenstockError,
    QuotaExceeded,
    Refused,
    TooLarge,
    Unsupported,
)
from penstock.core.rng import unique_token
from penstock.observe.metrics import Counter, MetricSet
from penstock.serving.protocols.v2.parameters import NotOffered

__all__ = ["Answers", "Status"]

log = logging.getLogger(__name__)


class Status(enum.IntEnum):
    """The statuses that are given, by gRPC's numbers."""

    OK = 0
    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    ABORTED = 10
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14

    @classmethod
    def of(cls, error: BaseException) -> "Status":
        return next((status for kind, status in _STATUS if isinstance(error, kind)), cls.INTERNAL)


_STATUS: tuple[tuple[type[PenstockError], Status], ...] = (
    (TooLarge, Status.RESOURCE_EXHAUSTED),
    (Unsupported, Status.UNIMPLEMENTED),
    (NotOffered, Status.UNIMPLEMENTED),
    (InvalidInput, Status.INVALID_ARGUMENT),
    (NotFound, Status.NOT_FOUND),
    (Forbidden, Status.PERMISSION_DENIED),
    (Conflict, Status.ABORTED),
    (QuotaExceeded, Status.RESOURCE_EXHAUSTED),
    (Refused, Status.UNAVAILABLE),
    (DeadlineExceeded, Status.DEADLINE_EXCEEDED),
)


class Answers:
    """Says what went wrong, and counts how calls ended."""

    def __init__(self, metrics: MetricSet) -> None:
        self._metrics = metrics
        self._counters: dict[Status, Counter] = {}
        self.ok = self._counter(Status.OK)

    def count(self, status: Status) -> None:
        counter = self._counters.get(status)
        if counter is None:
            counter = self._counter(status)
        counter.value += 1

    def describe(self, error: BaseException, what: str) -> str:
        """The text for the client. What nobody foresaw it only gets a reference to; the log has the rest."""
        if not isinstance(error, PenstockError):
            reference = unique_token(4)
            log.error("error %s at %s", reference, what, exc_info=error)
            return f"internal error; the server's log has it under {reference}"
        if Status.of(error) is Status.INTERNAL:
            log.error("%s", error)
        return f"{error.message}; {error.hint}" if error.hint else error.message

    async def abort(self, context: Any, error: BaseException, what: str) -> None:
        """Ends the call with the error: raises what gRPC takes for that.

        The answer is trailers alone, which leaves a client that tries again by itself free to do so.
        """
        text = self.describe(error, what)
        # Its frames hold the call, and the call would hold the error.
        error.with_traceback(None)
        status = Status.of(error)
        self.count(status)
        trailing: tuple[tuple[str, str], ...] = ()
        if isinstance(error, Refused):
            retry_after = str(max(1, round(error.retry_after_s)))
            trailing = (("retry-after", retry_after), ("x-shed-reason", error.reason))
        await context.abort(int(status), text, trailing)

    def _counter(self, status: Status) -> Counter:
        counter = self._counters[status] = self._metrics.counter(
            "penstock_grpc_responses_total", "gRPC answers by status; of a stream, each.", code=status.name
        )
        return counter
