"""What goes over a connection: requests, heads of answers, and what both may take."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from http import HTTPStatus
from typing import Protocol

import msgspec

from penstock.core.errors import InvalidInput, PenstockError
from penstock.serving.protocols.http.heads import KnownHeads, RequestHead
from penstock.serving.protocols.terms import Terms

__all__ = [
    "AnswerSink",
    "BodyStream",
    "BrokenBody",
    "ConnectionLimits",
    "DateLine",
    "HttpHandler",
    "HttpHungUp",
    "HttpRequest",
    "ReceiveBudget",
    "Refusal",
    "ResponseHead",
    "SharedParts",
    "peer_address",
]

UNREAD_BYTES_MAX = 256 * 1024
"""With more than these of a streamed body unread, its connection is not read."""


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


@dataclass(frozen=True, slots=True)
class SharedParts:
    """What all connections of a server share."""

    limits: ConnectionLimits
    budget: ReceiveBudget
    date: "DateLine"
    known: KnownHeads


class BrokenBody(InvalidInput):
    """A streamed body ended before its end; `status` is what HTTP calls the reason."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message, where="body")
        self.status = status


class BodyStream:
    """A request's body while it arrives. One reader; what it has not read yet is bounded."""

    __slots__ = (
        "_budget", "_failure", "_on_wanted", "_reader", "_unread", "continue_wanted", "ended", "moved_s",
    )  # fmt: skip

    def __init__(
        self, budget: ReceiveBudget, on_wanted: "Callable[[BodyStream], object]", now_s: float
    ) -> None:
        self._budget = budget
        self._on_wanted = on_wanted
        self._unread = bytearray()
        self._failure: BrokenBody | None = None
        self._reader: asyncio.Future[None] | None = None
        self.continue_wanted = False
        """Whether the client waits to be told to go on."""
        self.ended = False
        """Whether all of it has arrived."""
        self.moved_s = now_s
        """When a piece came last, or when more was asked for after it was not."""

    @property
    def full(self) -> bool:
        return len(self._unread) > UNREAD_BYTES_MAX

    def silent_s(self, now_s: float) -> float:
        """For how long the client has sent nothing that it could have sent, in seconds."""
        return 0.0 if self.continue_wanted else now_s - self.moved_s

    async def read(self) -> bytes:
        """The next piece, of at most some hundreds of KiB; b"" at the end.

        Raises `BrokenBody` where the rest will not come.
        """
        if not self._unread and not self.ended and self._failure is None:
            assert self._reader is None, "a body has one reader"
            self._reader = asyncio.get_running_loop().create_future()
            try:
                self._on_wanted(self)
                await self._reader
            finally:
                self._reader = None
        if self._unread:
            piece = bytes(self._unread)
            self._unread.clear()
            self._budget.give_back(len(piece))
            self._on_wanted(self)
            return piece
        if self._failure is not None:
            raise self._failure
        return b""

    def put(self, part: bytes, now_s: float) -> bool:
        """Takes what has arrived. False: the server holds as much as it can."""
        self.moved_s = now_s
        self.continue_wanted = False
        if not self._budget.take(len(part)):
            return False
        self._unread += part
        self._wake()
        return True

    def end(self) -> None:
        """All of it has arrived."""
        self.ended = True
        self._wake()

    def fail(self, failure: BrokenBody) -> None:
        """The rest will not come: the reader hears so once it has read what did."""
        self._failure = failure
        self._wake()

    def discard(self, reason: str) -> None:
        """Nobody is to read it any more; who still does hears why, and never takes what it has for all."""
        self._budget.give_back(len(self._unread))
        self._unread.clear()
        self.fail(BrokenBody(reason, status=400))

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class HttpHungUp(PenstockError):
    """The client is gone, so that no more of the answer can be sent. Nobody is left to be told."""


class Refusal:
    """An answer that is ready: head and body as `HttpRequest.respond` takes them. Given again and again."""

    __slots__ = ("_date", "_whole", "body", "head")

    def __init__(self, head: bytes, body: bytes) -> None:
        self.head = head
        self.body = body
        self._date = b""
        self._whole = b""

    def whole(self, date: bytes) -> bytes:
        """All of the answer, with that line for its date, on a connection that stays open."""
        if date is not self._date:
            self._date = date
            length = len(self.body)
            self._whole = b"%b%bcontent-length: %d\r\n\r\n%b" % (self.head, date, length, self.body)
        return self._whole


class AnswerSink(Protocol):
    """Where the answer to a request goes."""

    @property
    def peer(self) -> bytes:
        """The client's address."""
        ...

    def send_answer(self, request: "HttpRequest", head: bytes, body: bytes) -> None: ...

    def begin_answer(self, request: "HttpRequest", head: bytes) -> None: ...

    async def send_piece(self, request: "HttpRequest", piece: bytes) -> None: ...

    def finish_answer(self, request: "HttpRequest") -> None: ...

    def abort_answer(self, request: "HttpRequest") -> None: ...

    def replace_body(self, request: "HttpRequest", body: bytes) -> bool: ...


class HttpRequest:
    """A request: received whole, or with its body still to come. It is answered exactly once: with `respond`,
    or with `begin`, any number of `send`, and `finish`.
    """

    __slots__ = (
        "arrived_s", "body", "body_stream", "connection", "head", "headers", "keep_alive", "method",
        "on_abandoned", "refused", "target", "terms",
    )  # fmt: skip

    def __init__(self, connection: AnswerSink, head: RequestHead, body: bytes, arrived_s: float) -> None:
        self.connection = connection
        self.head = head
        self.method = head.method
        self.target = head.target
        self.headers = head.headers
        self.body = body
        self.body_stream: BodyStream | None = None
        """The body where it is read as it comes; `body` is empty then."""
        self.arrived_s = arrived_s
        """When its first byte came, in monotonic seconds."""
        self.keep_alive = head.keep_alive
        self.on_abandoned: Callable[[], object] | None = None
        """Called when the client hangs up before it was answered."""
        self.terms: Terms | None = None
        """What its head was found to say, where that was looked at."""
        self.refused: Refusal | None = None
        """The answer, where its head was enough to refuse it; there is no body then."""

    def respond(self, head: bytes, body: bytes) -> None:
        """Sends the answer: `head` from `ResponseHead.build`, and the body.

        What has not arrived of a streamed body then goes nowhere. An answer that was begun already cannot be
        replaced by this one: it is broken off.
        """
        self.connection.send_answer(self, head, body)

    def replace_body(self, body: bytes) -> bool:
        """Puts what was decoded in the place of the body. False: the server holds as much as it can."""
        return self.connection.replace_body(self, body)

    def begin(self, head: bytes) -> None:
        """Sends the head of an answer that comes piece by piece."""
        self.connection.begin_answer(self, head)

    async def send(self, piece: bytes) -> None:
        """Sends a piece of the answer that was begun. Waits while the client does not read.

        Raises `HttpHungUp` where there is no client any more.
        """
        await self.connection.send_piece(self, piece)

    def finish(self) -> None:
        """Ends the answer that was begun."""
        self.connection.finish_answer(self)

    def abort(self) -> None:
        """Breaks the connection, so that the client sees that its answer is not whole."""
        self.connection.abort_answer(self)


class HttpHandler(Protocol):
    """What answers requests."""

    def wants_stream(self, head: RequestHead) -> bool:
        """Whether a request with this head is handled at once, its body to be read as it arrives: always the
        same for one head. Never raises.
        """
        ...

    def meet(self, head: RequestHead, arrived_s: float, sink: AnswerSink) -> Terms | Refusal | None:
        """What becomes of a request by its head alone: its terms where it is taken on, else its answer; None
        where more has to be known. Never raises.
        """
        ...

    def handle(self, request: HttpRequest) -> None:
        """Answers the request, now or later. Never raises."""
        ...

    def refusal(self, status: int, message: str, headers: dict[bytes, bytes]) -> tuple[bytes, bytes]:
        """Further lines of the head, and the body, of an answer to what is no request that could be handled.

        `headers` are those of it that have come.
        """
        ...


class DateLine:
    """The Date header, which every answer has to have; written anew once a second, not once an answer."""

    __slots__ = ("line",)

    def __init__(self, now: datetime) -> None:
        self.line = b""
        self.set(now)

    def set(self, now: datetime) -> None:
        self.line = f"date: {format_datetime(now, usegmt=True)}\r\n".encode()


def peer_address(transport: asyncio.BaseTransport) -> bytes:
    """The client's address, without its port; empty where it has none."""
    name = transport.get_extra_info("peername")
    return str(name[0]).encode() if isinstance(name, tuple) and name else b""


class ResponseHead:
    """Builds heads of answers: a status line and headers up to the value of Content-Length."""

    @staticmethod
    def build(status: int, content_type: str, further: tuple[tuple[str, str], ...] = ()) -> bytes:
        """The head, to which the body's length is added when it is sent."""
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"content-type: {content_type}"]
        lines += [f"{name}: {value}" for name, value in further]
        return ("\r\n".join(lines) + "\r\n").encode("latin-1")
