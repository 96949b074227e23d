"""Results and errors as HTTP answers, counted by status."""

import asyncio
import logging
from collections.abc import Coroutine

import msgspec

from penstock.core.errors import (
    Conflict,
    DeadlineExceeded,
    Forbidden,
    InvalidInput,
    NotFound,
    PenstockError,
    Refused,
    TooLarge,
    Unsupported,
)
from penstock.core.rng import unique_token
from penstock.observe.metrics import Counter, MetricSet
from penstock.serving.protocols.http.messages import BrokenBody, HttpHungUp, HttpRequest, ResponseHead

__all__ = ["JSON", "Headers", "MethodNotAllowed", "Responder", "no_such_path", "require_method"]

log = logging.getLogger(__name__)

Headers = tuple[tuple[str, str], ...]

JSON = "application/json"

_encode = msgspec.json.Encoder().encode
_STATUS: tuple[tuple[type[PenstockError], int], ...] = (
    (TooLarge, 413),
    (Unsupported, 415),
    (InvalidInput, 400),
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
    (Refused, 503),
    (DeadlineExceeded, 504),
)


class MethodNotAllowed(InvalidInput):
    """The path does not take this method; `allowed` are those that it takes."""

    def __init__(self, message: str, *, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed


class Responder:
    """Answers requests; one for all that a process answers over HTTP."""

    def __init__(self, metrics: MetricSet) -> None:
        self._metrics = metrics
        self._answered: dict[int, Counter] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.answered_200 = self.counter(200)

    def respond(self, request: HttpRequest, status: int, body: object, further: Headers = ()) -> None:
        """Answers with `body` as JSON."""
        self.send(request, status, JSON, _encode(body), further)

    def send(
        self, request: HttpRequest, status: int, content_type: str, content: bytes, further: Headers = ()
    ) -> None:
        self.count(status)
        request.respond(ResponseHead.build(status, content_type, further), content)

    def respond_error(self, request: HttpRequest, error: BaseException) -> None:
        """Answers with what went wrong. What nobody foresaw is told to the log, and only its reference to the
        client.
        """
        if isinstance(error, HttpHungUp):
            return
        if not isinstance(error, PenstockError):
            reference = unique_token(4)
            log.error("error %s at %r", reference, request.target, exc_info=error)
            self.respond(request, 500, {"error": f"internal error; the server's log has it under {reference}"})
            return
        further: Headers = ()
        if isinstance(error, MethodNotAllowed):
            status = 405
            further = (("allow", error.allowed),)
        elif isinstance(error, BrokenBody):
            status = error.status
        else:
            status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
        if isinstance(error, Refused):
            retry_after = str(max(1, round(error.retry_after_s)))
            further = (("retry-after", retry_after), ("x-shed-reason", error.reason))
        if status == 500:
            log.error("%s", error)
        text = f"{error.message}; {error.hint}" if error.hint else error.message
        self.respond(request, status, {"error": text}, further)

    def respond_later(self, request: HttpRequest, answering: Coroutine[object, object, None]) -> None:
        """Runs what will answer the request: cancelled when its client hangs up, its error answered."""
        task = asyncio.get_running_loop().create_task(answering)
        self._tasks.add(task)
        request.on_abandoned = task.cancel

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                self.respond_error(request, error)

        task.add_done_callback(ended)

    def refusal(self, status: int, message: str) -> bytes:
        """The body of an answer to what could not be received as a request."""
        self.count(status)
        return _encode({"error": message})

    def count(self, status: int) -> None:
        counter = self._answered.get(status)
        if counter is None:
            counter = self.counter(status)
        counter.value += 1

    def counter(self, status: int) -> Counter:
        counter = self._answered[status] = self._metrics.counter(
            "penstock_http_responses_total", "HTTP answers by status.", code=str(status)
        )
        return counter


def require_method(request: HttpRequest, method: str) -> None:
    """Raises `MethodNotAllowed` for another method; HEAD is a kind of GET."""
    given = request.method.decode("latin-1")
    if given != method and not (method == "GET" and given == "HEAD"):
        allowed = "GET, HEAD" if method == "GET" else method
        raise MethodNotAllowed(f"this path takes {method}, not {given}", allowed=allowed)


def no_such_path(path: str) -> NotFound:
    return NotFound(
        f"no such path: {path}", hint="inference is POST /v2/models/NAME/infer; see also /v2 and /metrics"
    )
