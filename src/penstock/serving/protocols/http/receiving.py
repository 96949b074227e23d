"""Bytes to requests: one connection's requests put together, their bodies whole or as streams.

httptools (llhttp) parses. What is decided here is what a request may take. Sources: RFC 9110, RFC 9112.
"""

from collections.abc import Callable
from typing import Protocol

import httptools

from penstock.serving.protocols.http.heads import HEAD_END, RequestHead
from penstock.serving.protocols.http.messages import (
    AnswerSink,
    BodyStream,
    HttpHandler,
    HttpRequest,
    Refusal,
    SharedParts,
)
from penstock.serving.protocols.terms import Terms

__all__ = ["RequestReceiver", "RequestSink"]

HEADERS_MAX = 128
SKIPPED_BYTES_MAX = 1024 * 1024
_ONCE = frozenset({b"host", b"content-length", b"content-encoding", b"inference-header-content-length"})


class RequestSink(AnswerSink, Protocol):
    """The connection that requests come on."""

    def received(self, request: HttpRequest) -> None:
        """Takes a request: whole, or as soon as its head is, where its body is a stream."""
        ...

    def turn_away(self, refusal: Refusal, now_s: float) -> bool:
        """Answers a request that is refused and of which nothing more is needed; False: it cannot just now."""
        ...

    def refuse(self, status: int, message: str) -> None:
        """Ends the connection with an answer to what is no request."""
        ...

    def tell_to_continue(self) -> None:
        """Tells a client that asked whether it may send its body; it goes on by itself otherwise."""
        ...

    def body_wanted(self, stream: BodyStream) -> None:
        """More of a streamed body may come."""
        ...


class RequestReceiver:
    """Puts requests together. httptools' callbacks are its `on_…` methods; what they raise would break the
    parser, so they refuse instead.
    """

    __slots__ = (
        "_body",
        "_body_bytes",
        "_budget",
        "_fed",
        "_first",
        "_framing_bytes",
        "_head",
        "_headers",
        "_in_body",
        "_known",
        "_last",
        "_limits",
        "_meet",
        "_monotonic",
        "_parser",
        "_sink",
        "_skipped_bytes",
        "_stopped",
        "_target",
        "_verdict",
        "_wants_stream",
        "started_s",
        "stream",
    )  # fmt: skip

    def __init__(
        self,
        sink: RequestSink,
        handler: HttpHandler,
        shared: SharedParts,
        monotonic: Callable[[], float],
    ) -> None:
        self._sink = sink
        self._known = shared.known
        self._wants_stream = handler.wants_stream
        self._meet = handler.meet
        self._limits = shared.limits
        self._budget = shared.budget
        self._monotonic = monotonic
        self._parser = httptools.HttpRequestParser(self)
        self.started_s: float | None = None
        """When the request being received began; None between requests."""
        self.stream: BodyStream | None = None
        """The body being received, where it is a stream."""
        self._framing_bytes = 0
        """Bytes since the request began or since the last piece of its body: head, chunk sizes, trailers."""
        self._in_body = False
        self._fed = b""
        """What is being parsed, where no request was begun before it."""
        self._first = b""
        """The same for the first request in it; empty for those that follow."""
        self._last = 0
        """The digest of the head that was parsed last, where it may come again."""
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._head: RequestHead | None = None
        self._body: bytes | bytearray = b""
        self._body_bytes = 0
        self._verdict: Terms | Refusal | None = None
        """What became of the request by its head."""
        self._skipped_bytes = 0
        """Of the body of a request that was refused already, and is read only to come to what follows."""
        self._stopped = False

    @property
    def headers(self) -> dict[bytes, bytes]:
        """Those that have come of the request being received; none between requests."""
        return self._headers if self.started_s is not None else {}

    def feed(self, data: bytes) -> bool:
        """Parses. False: after the request that was just received, the client wants to speak no HTTP."""
        if self.started_s is None:
            self._fed = data
        self._framing_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return False
        except httptools.HttpParserError as error:
            self._sink.refuse(400, f"this is not HTTP/1.1: {error}")
        self._fed = b""
        if self.started_s is not None and self._framing_bytes > self._limits.head_bytes_max:
            self._sink.refuse(
                431, f"the request's head passes the limit of {self._limits.head_bytes_max} bytes"
            )
        return True

    def take_known(self, data: bytes) -> bool:
        """Takes one whole request whose head is known, without parsing; False where it is not that."""
        end = data.find(HEAD_END) + 4
        head = self._known.find(data[:end])
        if head is None or len(data) - end != head.length or self.started_s is not None or self._stopped:
            return False
        started_s = self._monotonic()
        verdict = self._meet(head, started_s, self._sink)
        if type(verdict) is Refusal:
            if not self._sink.turn_away(verdict, started_s):
                self._sink.received(_judged(HttpRequest(self._sink, head, b"", started_s), verdict))
        elif self._budget.take(head.length):
            self._sink.received(_judged(HttpRequest(self._sink, head, data[end:], started_s), verdict))
        else:
            self.started_s = started_s
            self._headers = head.headers
            self._refuse_crowd()
        return True

    def stop(self) -> BodyStream | None:
        """Takes nothing more, and forgets what was being received: its stream, if it is one."""
        self._stopped = True
        self._budget.give_back(self._body_bytes)
        self._body = b""
        self._body_bytes = 0
        self.started_s = None
        stream, self.stream = self.stream, None
        return stream

    def on_message_begin(self) -> None:
        if self._stopped:
            return
        self.started_s = self._monotonic()
        self._first, self._fed = self._fed, b""
        self._framing_bytes = 0
        self._in_body = False
        self._target = b""
        self._headers = {}
        self._head = None
        self._body = b""
        self._body_bytes = 0
        self._verdict = None
        self._skipped_bytes = 0

    def on_url(self, target: bytes) -> None:
        self._target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:
            return  # a trailer: what comes after the body must not pass for what was decided before it
        name = name.lower()
        if name in self._headers and name in _ONCE:
            self._sink.refuse(400, f"the request has the header {name.decode('latin-1')} twice")
        elif len(self._headers) >= HEADERS_MAX:
            self._sink.refuse(431, f"the request has more than {HEADERS_MAX} headers")
        else:
            self._headers[name] = value

    def on_headers_complete(self) -> None:
        self._in_body = True
        if self._stopped:
            return
        started_s = self.started_s
        assert started_s is not None
        head = self._head = self._parsed_head()
        verdict = self._verdict = self._meet(head, started_s, self._sink)
        streams = self._wants_stream(head)
        if streams or (type(verdict) is Refusal and _worth_sparing(head)):
            self._begin_stream()
            return
        if head.length is not None and head.length > self._limits.body_bytes_max:
            self._refuse_body()
        elif b"expect" in head.headers and _asks_first(head):
            self._sink.tell_to_continue()
        elif self._first:
            self._remember(head)

    def _parsed_head(self) -> RequestHead:
        headers, parser = self._headers, self._parser
        length = headers.get(b"content-length")
        if length is not None:
            length_bytes: int | None = int(length)
        else:
            length_bytes = None if b"transfer-encoding" in headers else 0
        chunks = parser.get_http_version() == "1.1"
        return RequestHead(
            parser.get_method(),
            self._target,
            headers,
            length=length_bytes,
            keep_alive=chunks and parser.should_keep_alive(),
            chunks=chunks,
        )

    def _remember(self, head: RequestHead) -> None:
        """The second time that it comes on a connection: where each differs, none is worth remembering."""
        raw = self._first[: self._first.find(HEAD_END) + len(HEAD_END)]
        digest = hash(raw)
        if digest == self._last:
            self._known.learn(raw, head)
        self._last = digest

    def on_body(self, part: bytes) -> None:
        self._framing_bytes = 0
        if self._stopped:
            return
        if self.stream is not None:
            if not self.stream.put(part, self._monotonic()):
                self._refuse_crowd()
        elif type(self._verdict) is Refusal:
            self._skipped_bytes += len(part)
            if self._skipped_bytes > self._limits.body_bytes_max:
                self._refuse_body()
        elif self._body_bytes + len(part) > self._limits.body_bytes_max:
            self._refuse_body()
        elif not self._budget.take(len(part)):
            self._refuse_crowd()
        else:
            self._body_bytes += len(part)
            if not self._body:
                self._body = part
            elif isinstance(self._body, bytearray):
                self._body += part
            else:
                self._body = bytearray(self._body) + part

    def on_message_complete(self) -> None:
        if self._stopped:
            return
        stream = self.stream
        if stream is not None:
            self.stream = None
            self.started_s = None
            stream.end()
            return
        request = self._request(self._body if isinstance(self._body, bytes) else bytes(self._body))
        if request is not None:
            self.started_s = None
            self._body = b""
            self._body_bytes = 0
            self._sink.received(request)

    def _begin_stream(self) -> None:
        request = self._request(b"")
        if request is not None:
            stream = BodyStream(self._budget, self._sink.body_wanted, request.arrived_s)
            assert self._head is not None
            stream.continue_wanted = _asks_first(self._head)
            request.body_stream = self.stream = stream
            self._sink.received(request)

    def _request(self, body: bytes) -> HttpRequest | None:
        started_s, head = self.started_s, self._head
        assert started_s is not None
        assert head is not None
        if head.chunks and b"host" not in head.headers:
            self._sink.refuse(400, "the request has no Host header")
            return None
        return _judged(HttpRequest(self._sink, head, body, started_s), self._verdict)

    def _refuse_body(self) -> None:
        self._sink.refuse(
            413,
            f"the body passes the limit of {self._limits.body_bytes_max} bytes; "
            "send fewer rows at once, or raise server.body_bytes_max",
        )

    def _refuse_crowd(self) -> None:
        self._sink.refuse(503, "the server is receiving as much as it can hold; try again later")


def _judged(request: HttpRequest, verdict: Terms | Refusal | None) -> HttpRequest:
    if isinstance(verdict, Refusal):
        request.refused = verdict
    else:
        request.terms = verdict
    return request


def _worth_sparing(head: RequestHead) -> bool:
    """Whether a body that is not wanted is cheaper left unread, at the price of its connection."""
    return _asks_first(head) or (head.length is not None and head.length > SKIPPED_BYTES_MAX)


def _asks_first(head: RequestHead) -> bool:
    return head.headers.get(b"expect", b"").lower() == b"100-continue"
