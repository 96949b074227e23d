"""One HTTP/1.1 connection: bytes to requests, answers to bytes.

httptools (llhttp) parses; what is decided here is what a server must decide: what is refused before it is
read, in which order pipelined requests are answered, when a slow or silent client is let go, and that a
client that never reads its answers holds up nobody but itself. Sources: RFC 9110, RFC 9112.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

import httptools

from penstock.core.clock import Clock
from penstock.serving.protocols.http.messages import (
    ConnectionLimits,
    DateLine,
    HttpHandler,
    HttpRequest,
    ReceiveBudget,
    ResponseHead,
)

__all__ = ["HttpConnection"]

PIPELINED_REQUESTS_MAX = 8
"""With more than these waiting, a connection is not read. What was read then waits unparsed; so many bytes are
parsed at a time, and all requests in them may come on top."""
PARSED_BYTES_MAX = 16 * 1024
HEADERS_MAX = 128
LINGER_S = 5.0
LINGER_BYTES_MAX = 256 * 1024 * 1024
_ONCE = frozenset({b"host", b"content-length", b"inference-header-content-length"})


_JSON = "application/json"


class HttpConnection(asyncio.Protocol):
    """The protocol object of one connection. `on_closed` is told when it is gone."""

    __slots__ = (
        "_active", "_advancing", "_body", "_body_bytes", "_budget", "_date", "_discarded_bytes",
        "_framing_bytes", "_handler", "_headers", "_idle_since_s", "_in_body", "_leaving", "_limits",
        "_linger_since_s", "_monotonic", "_on_closed", "_parser", "_pipelined", "_reading_paused", "_refusal",
        "_started_s", "_target", "_transport", "_unparsed", "_write_paused_since_s",
    )  # fmt: skip

    def __init__(
        self,
        handler: HttpHandler,
        limits: ConnectionLimits,
        budget: ReceiveBudget,
        clock: Clock,
        date: DateLine,
        on_closed: "Callable[[HttpConnection], object]",
    ) -> None:
        self._handler = handler
        self._limits = limits
        self._budget = budget
        self._monotonic = clock.monotonic
        self._date = date
        self._on_closed = on_closed
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._active: HttpRequest | None = None
        self._pipelined: deque[HttpRequest] = deque()
        self._unparsed = b""
        self._advancing = False
        self._started_s: float | None = None
        """When the request being received began; None between requests."""
        self._framing_bytes = 0
        """Bytes since the request began or since the last piece of its body: head, chunk sizes, trailers."""
        self._in_body = False
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: bytes | bytearray = b""
        self._body_bytes = 0
        self._idle_since_s = self._monotonic()
        self._leaving = False
        self._refusal: tuple[int, str] | None = None
        """What ends the connection once the requests before it are answered."""
        self._linger_since_s: float | None = None
        self._discarded_bytes = 0
        self._reading_paused = False
        self._write_paused_since_s: float | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._on_closed(self)
        active, self._active = self._active, None
        for request in (*self._pipelined, *([active] if active is not None else [])):
            self._budget.give_back(len(request.body))
        self._drop_message()
        self._pipelined.clear()
        self._unparsed = b""
        if active is not None and active.on_abandoned is not None:
            active.on_abandoned()

    def eof_received(self) -> bool:
        """Ends the connection: a client that closes its side has hung up.

        It might also have closed one direction only and wait for its answer. HTTP clients do not, and work
        for those that are gone is what a server under pressure can least afford.
        """
        return False

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            self._discard(data)
        elif self._unparsed or self._full():
            self._unparsed += data
        else:
            self._parse(data)

    def pause_writing(self) -> None:
        self._write_paused_since_s = self._monotonic()
        self._pause_reading()

    def resume_writing(self) -> None:
        self._write_paused_since_s = None
        self._advance()

    # httptools' callbacks. What they raise would break the parser, so they refuse instead.

    def on_message_begin(self) -> None:
        self._started_s = self._monotonic()
        self._framing_bytes = 0
        self._in_body = False
        self._target = b""
        self._headers = {}
        self._body = b""
        self._body_bytes = 0

    def on_url(self, target: bytes) -> None:
        self._target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:
            return  # a trailer: what comes after the body must not pass for what was decided before it
        name = name.lower()
        if name in self._headers and name in _ONCE:
            self._refuse(400, f"the request has the header {name.decode('latin-1')} twice")
        elif len(self._headers) >= HEADERS_MAX:
            self._refuse(431, f"the request has more than {HEADERS_MAX} headers")
        else:
            self._headers[name] = value

    def on_headers_complete(self) -> None:
        self._in_body = True
        length = self._headers.get(b"content-length")
        if length is not None and int(length) > self._limits.body_bytes_max:
            self._refuse_body()
        elif self._headers.get(b"expect", b"").lower() == b"100-continue":
            self._tell_to_continue()

    def _tell_to_continue(self) -> None:
        """Only where nothing before it is still to be answered; the client goes on by itself otherwise."""
        if self._active is None and self._refusal is None and not self._pipelined:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, part: bytes) -> None:
        self._framing_bytes = 0
        if self._refusal is not None:
            return
        if self._body_bytes + len(part) > self._limits.body_bytes_max:
            self._refuse_body()
        elif not self._budget.take(len(part)):
            self._refuse(503, "the server is receiving as much as it can hold; try again later")
        else:
            self._body_bytes += len(part)
            if not self._body:
                self._body = part
            elif isinstance(self._body, bytearray):
                self._body += part
            else:
                self._body = bytearray(self._body) + part

    def on_message_complete(self) -> None:
        if self._refusal is not None or self._started_s is None:
            return
        version = self._parser.get_http_version()
        if version == "1.1" and b"host" not in self._headers:
            self._refuse(400, "the request has no Host header")
            return
        request = HttpRequest(
            self,
            self._parser.get_method(),
            self._target,
            self._headers,
            self._body if isinstance(self._body, bytes) else bytes(self._body),
            self._started_s,
            version == "1.1" and self._parser.should_keep_alive(),
        )
        self._started_s = None
        self._body = b""
        self._body_bytes = 0
        if self._active is None and not self._pipelined and self._write_paused_since_s is None:
            self._active = request
            self._handler.handle(request)
        else:
            self._pipelined.append(request)

    # Answering

    def send_answer(self, request: HttpRequest, head: bytes, body: bytes) -> None:
        """Sends the answer to the request that is being handled; one that was abandoned goes nowhere."""
        if request is not self._active:
            return
        self._active = None
        self._budget.give_back(len(request.body))
        length = b"content-length: %d\r\n" % len(body)
        if request.method == b"HEAD":
            body = b""
        more = bool(self._pipelined or self._unparsed)
        if not request.keep_alive or (self._leaving and not more):
            self._transport.write(b"%b%b%bconnection: close\r\n\r\n%b" % (head, self._date.line, length, body))
            self._transport.close()
            return
        self._transport.write(b"%b%b%b\r\n%b" % (head, self._date.line, length, body))
        self._idle_since_s = self._monotonic()
        if more or self._reading_paused or self._refusal is not None:
            self._advance()

    def leave(self) -> None:
        """Closes once what was received is answered; at once where nothing is."""
        self._leaving = True
        if self._active is None and not self._pipelined and not self._unparsed:
            self._transport.close()

    def abort(self) -> None:
        """Closes at once."""
        self._transport.abort()

    def check(self, now_s: float) -> None:
        """Lets go of a client that is too slow, or idle for too long."""
        limits = self._limits
        if self._linger_since_s is not None:
            if now_s - self._linger_since_s > LINGER_S:
                self.abort()
        elif self._write_paused_since_s is not None:
            if now_s - self._write_paused_since_s > limits.receive_timeout_s:
                self.abort()
        elif self._active is not None or self._pipelined or self._unparsed:
            pass
        elif self._started_s is not None:
            if now_s - self._started_s > limits.receive_timeout_s:
                self._refuse(408, f"the request did not arrive within {limits.receive_timeout_s:g} s")
        elif now_s - self._idle_since_s > limits.keep_alive_s:
            self._transport.close()

    def _full(self) -> bool:
        return len(self._pipelined) >= PIPELINED_REQUESTS_MAX or self._write_paused_since_s is not None

    def _parse(self, data: bytes) -> None:
        """Parses piece by piece, until there is more to answer than may wait."""
        for start in range(0, len(data), PARSED_BYTES_MAX):
            piece = data[start : start + PARSED_BYTES_MAX] if len(data) > PARSED_BYTES_MAX else data
            self._feed(piece)
            if self._refusal is not None or self._transport.is_closing():
                return
            if self._full():
                self._unparsed = data[start + PARSED_BYTES_MAX :]
                self._pause_reading()
                return

    def _feed(self, piece: bytes) -> None:
        self._framing_bytes += len(piece)
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            # The request was handed on already, and a server may ignore an offer to speak something else.
            # What follows on this connection is not for us, so it ends with that answer.
            self.leave()
        except httptools.HttpParserError as error:
            self._refuse(400, f"this is not HTTP/1.1: {error}")
        if self._started_s is not None and self._framing_bytes > self._limits.head_bytes_max:
            self._refuse(431, f"the request's head passes the limit of {self._limits.head_bytes_max} bytes")

    def _advance(self) -> None:
        """Handles what waits, one request after the other. A loop: a long pipeline must not nest as deep."""
        if self._advancing:
            return
        self._advancing = True
        while self._active is None and self._write_paused_since_s is None and not self._transport.is_closing():
            if self._pipelined:
                self._active = self._pipelined.popleft()
                self._handler.handle(self._active)
            elif self._unparsed and self._refusal is None:
                data, self._unparsed = self._unparsed, b""
                self._parse(data)
            else:
                self._settle()
                break
        self._advancing = False

    def _settle(self) -> None:
        """Nothing waits any more."""
        if self._refusal is not None:
            self._send_refusal(*self._refusal)
        elif self._leaving:
            self._transport.close()
        else:
            self._resume_reading()

    def _refuse_body(self) -> None:
        self._refuse(
            413,
            f"the body passes the limit of {self._limits.body_bytes_max} bytes; "
            "send fewer rows at once, or raise server.body_bytes_max",
        )

    def _refuse(self, status: int, message: str) -> None:
        """Answers what is no whole request and ends the connection, after the requests before it."""
        if self._refusal is not None or self._transport.is_closing():
            return
        self._refusal = (status, message)
        self._drop_message()
        if self._active is None and not self._pipelined:
            self._send_refusal(status, message)

    def _send_refusal(self, status: int, message: str) -> None:
        """Closing while the client still sends would reset the connection, and the client might never see the
        answer; so what comes is read and thrown away for a moment first.
        """
        if self._linger_since_s is not None:
            return
        self._linger_since_s = self._monotonic()
        body = self._handler.refusal(status, message)
        head = ResponseHead.build(status, _JSON, (("connection", "close"),))
        self._transport.write(b"%b%bcontent-length: %d\r\n\r\n%b" % (head, self._date.line, len(body), body))
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._resume_reading()

    def _drop_message(self) -> None:
        """Forgets the request that is being received."""
        self._budget.give_back(self._body_bytes)
        self._body = b""
        self._body_bytes = 0
        self._started_s = None

    def _discard(self, data: bytes) -> None:
        self._discarded_bytes += len(data)
        if self._discarded_bytes > LINGER_BYTES_MAX:
            self.abort()

    def _pause_reading(self) -> None:
        if not self._reading_paused and not self._transport.is_closing():
            self._reading_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused and not self._transport.is_closing():
            self._reading_paused = False
            self._transport.resume_reading()
