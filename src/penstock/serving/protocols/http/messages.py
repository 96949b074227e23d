"""What goes over a connection: requests, heads of answers, and what both may take."""

from collections.abc import Callable
from datetime import datetime
from email.utils import format_datetime
from http import HTTPStatus
from typing import Protocol

import msgspec

__all__ = [
    "AnswerSink",
    "ConnectionLimits",
    "DateLine",
    "HttpHandler",
    "HttpRequest",
    "ReceiveBudget",
    "ResponseHead",
]


class ConnectionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a client may take.

    `receive_timeout_s` is the time to send a request, and to read an answer; `keep_alive_s` the time to be
    idle between two requests.
    """

    head_bytes_max: int
    body_bytes_max: int
    receive_timeout_s: float
    keep_alive_s: float


class ReceiveBudget:
    """What the bodies of all connections together may hold: received, and not answered yet."""

    __slots__ = ("_bytes_max", "used_bytes")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.used_bytes = 0

    def take(self, size_bytes: int) -> bool:
        """Whether there is room; if so it is taken."""
        if self.used_bytes + size_bytes > self._bytes_max:
            return False
        self.used_bytes += size_bytes
        return True

    def give_back(self, size_bytes: int) -> None:
        self.used_bytes -= size_bytes
        assert self.used_bytes >= 0, "more was given back than taken"


class AnswerSink(Protocol):
    """Where the answer to a request goes."""

    def send_answer(self, request: "HttpRequest", head: bytes, body: bytes) -> None: ...


class HttpRequest:
    """A request that was received whole. It is answered exactly once, with `respond`."""

    __slots__ = ("arrived_s", "body", "connection", "headers", "keep_alive", "method", "on_abandoned", "target")

    def __init__(  # noqa: PLR0913, PLR0917 - made once a request, on the hot path
        self,
        connection: AnswerSink,
        method: bytes,
        target: bytes,
        headers: dict[bytes, bytes],
        body: bytes,
        arrived_s: float,
        keep_alive: bool,
    ) -> None:
        self.connection = connection
        self.method = method
        self.target = target
        """The path and query as they were sent."""
        self.headers = headers
        """By names in lower case; of a name that came twice, the last one."""
        self.body = body
        self.arrived_s = arrived_s
        """When its first byte came, in monotonic seconds."""
        self.keep_alive = keep_alive
        self.on_abandoned: Callable[[], object] | None = None
        """Called when the client hangs up before it was answered."""

    def respond(self, head: bytes, body: bytes) -> None:
        """Sends the answer: `head` from `ResponseHead.build`, and the body."""
        self.connection.send_answer(self, head, body)


class HttpHandler(Protocol):
    """What answers requests."""

    def handle(self, request: HttpRequest) -> None:
        """Answers the request, now or later. Never raises."""
        ...

    def refusal(self, status: int, message: str) -> bytes:
        """The body of an answer to what is no request that could be handled."""
        ...


class DateLine:
    """The Date header, which every answer has to have; written anew once a second, not once an answer."""

    __slots__ = ("line",)

    def __init__(self, now: datetime) -> None:
        self.line = b""
        self.set(now)

    def set(self, now: datetime) -> None:
        self.line = f"date: {format_datetime(now, usegmt=True)}\r\n".encode()


class ResponseHead:
    """Builds heads of answers: a status line and headers up to the value of Content-Length."""

    @staticmethod
    def build(status: int, content_type: str, further: tuple[tuple[str, str], ...] = ()) -> bytes:
        """The head, to which the body's length is added when it is sent."""
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"content-type: {content_type}"]
        lines += [f"{name}: {value}" for name, value in further]
        return ("\r\n".join(lines) + "\r\n").encode("latin-1")
