"""Results and errors as HTTP answers, counted by status."""

import asyncio
import itertools
import logging
import math
from collections.abc import Coroutine, Iterator
from concurrent.futures import Executor
from urllib.parse import quote

import msgspec

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
from penstock.serving.admission.admission import ShedReason
from penstock.serving.deployment import shed
from penstock.serving.protocols.http.compression import (
    ACCEPTED,
    UnknownEncoding,
    answer_encoding,
    compress,
)
from penstock.serving.protocols.http.messages import (
    BrokenBody,
    HttpHungUp,
    HttpRequest,
    Refusal,
    ResponseHead,
)

__all__ = [
    "JSON",
    "Headers",
    "MethodNotAllowed",
    "Responder",
    "no_such_path",
    "prediction_line",
    "require_method",
    "rung_line",
]

log = logging.getLogger(__name__)

Headers = tuple[tuple[str, str], ...]

JSON = "application/json"
RETRY_AFTER_S = (1, 2, 3)
KEPT_ANSWERS_MAX = 64
"""Of an id in a header; longer ones are cut there."""
COMPRESSED_INLINE_BYTES_MAX = 16 * 1024
"""Compressed in the event loop: gzip takes up to 0.2 ms for as much."""

_VARY = b"vary: accept-encoding\r\n"

_encode = msgspec.json.Encoder().encode
_STATUS: tuple[tuple[type[PenstockError], int], ...] = (
    (TooLarge, 413),
    (Unsupported, 415),
    (InvalidInput, 400),
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
    (QuotaExceeded, 429),
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

    def __init__(
        self, metrics: MetricSet, executor: Executor | None = None, *, compress_bytes_min: int = 1 << 62
    ) -> None:
        self._metrics = metrics
        self._executor = executor
        self.compress_bytes_min = compress_bytes_min
        """The size from which `deliver` compresses."""
        self._answered: dict[int, Counter] = {}
        self._shed: dict[ShedReason, Iterator[Refusal]] = {}
        self._over_quota: dict[int, Refusal] = {}
        """By the seconds after which to come back."""
        self._jitter = itertools.cycle(range(len(RETRY_AFTER_S)))
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

    def deliver(self, request: HttpRequest, head: bytes, content: bytes) -> None:
        """Sends a model's answer, counted already: compressed where it is large and its client accepts that.

        No other answer is: some clients (Triton's with asyncio) offer encodings for all requests, and undo them
        for inferences alone.
        """
        if len(content) < self.compress_bytes_min:
            request.respond(head, content)
            return
        head += _VARY
        accepted = request.headers.get(b"accept-encoding")
        encoding = None if accepted is None else answer_encoding(accepted)
        if encoding is None:
            request.respond(head, content)
        elif len(content) <= COMPRESSED_INLINE_BYTES_MAX:
            _respond_compressed(request, head, content, compress(content, encoding), encoding)
        else:
            self.respond_later(request, self._compress(request, head, content, encoding))

    async def _compress(self, request: HttpRequest, head: bytes, content: bytes, encoding: str) -> None:
        loop = asyncio.get_running_loop()
        compressed = await loop.run_in_executor(self._executor, compress, content, encoding)
        _respond_compressed(request, head, content, compressed, encoding)

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
        elif isinstance(error, UnknownEncoding):
            status = 415
            further = (("accept-encoding", ACCEPTED),)
        elif isinstance(error, BrokenBody):
            status = error.status
        else:
            status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
        if isinstance(error, Refused):
            further = _refused_headers(error, self._retry_after_s(error))
        if status == 500:
            log.error("%s", error)
        self.respond(request, status, {"error": _text(error)}, further)

    def _retry_after_s(self, error: Refused) -> int:
        """Whole seconds, as HTTP has them; a second or two on top, so that not all come back at once."""
        return max(1, math.ceil(error.retry_after_s)) + next(self._jitter)

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

    def shed(self, reason: ShedReason) -> Refusal:
        """The answer to what is not taken on, counted. They differ in when to come back: not all at once."""
        answers = self._shed.get(reason)
        if answers is None:
            answers = self._shed[reason] = itertools.cycle(_refusals(shed(reason)))
        self.count(504 if reason is ShedReason.EXPIRED else 503)
        return next(answers)

    def over_quota(self, error: QuotaExceeded) -> Refusal:
        """The answer to what a rate limit refuses, counted."""
        self.count(429)
        retry_after_s = self._retry_after_s(error)
        answer = self._over_quota.get(retry_after_s)
        if answer is None:
            head = ResponseHead.build(429, JSON, _refused_headers(error, retry_after_s))
            answer = Refusal(head, _encode({"error": _text(error)}))
            if len(self._over_quota) < KEPT_ANSWERS_MAX:
                self._over_quota[retry_after_s] = answer
        return answer

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


def _respond_compressed(
    request: HttpRequest, head: bytes, content: bytes, compressed: bytes, encoding: str
) -> None:
    if len(compressed) < len(content):
        request.respond(b"%bcontent-encoding: %b\r\n" % (head, encoding.encode()), compressed)
    else:
        request.respond(head, content)


def _refusals(error: PenstockError) -> list[Refusal]:
    body = _encode({"error": _text(error)})
    if not isinstance(error, Refused):
        return [Refusal(ResponseHead.build(504, JSON), body)]
    return [
        Refusal(ResponseHead.build(503, JSON, _refused_headers(error, retry_after_s)), body)
        for retry_after_s in RETRY_AFTER_S
    ]


def _refused_headers(error: Refused, retry_after_s: int) -> Headers:
    return (("retry-after", str(retry_after_s)), ("x-shed-reason", error.reason))


def _text(error: PenstockError) -> str:
    return f"{error.message}; {error.hint}" if error.hint else error.message


def rung_line(rung: str) -> bytes:
    """What the head of an answer says of a rung that answered in the model's place."""
    return b"x-penstock-rung: %b\r\n" % rung.encode("latin-1")


def prediction_line(prediction: str) -> bytes:
    """What the head of an answer says of the id that it is recorded under: escaped where no header holds it."""
    return b"x-prediction-id: %b\r\n" % quote(prediction, safe="/:@+=,;!").encode()


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
