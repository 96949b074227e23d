"""One HTTP/1.1 connection: bytes to requests, answers to bytes.

`RequestReceiver` puts requests together. Decided here is in which order they are answered, when a slow or
silent client is let go, and that one that never reads holds up nobody but itself. Sources: RFC 9110, RFC 9112.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

from penstock.core.clock import Clock
from penstock.serving.protocols.http.answering import StreamedAnswer
from penstock.serving.protocols.http.lingering import Lingering
from penstock.serving.protocols.http.messages import (
    BodyStream,
    BrokenBody,
    HttpHandler,
    HttpHungUp,
    HttpRequest,
    Refusal,
    ResponseHead,
    SharedParts,
    peer_address,
)
from penstock.serving.protocols.http.receiving import RequestReceiver

__all__ = ["HttpConnection"]

PIPELINED_REQUESTS_MAX = 8
"""With more than these waiting, a connection is not read, and what was read waits unparsed."""
PARSED_BYTES_MAX = 16 * 1024
"""At a time; all requests in them may come on top."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_SILENCE: tuple[int, str, dict[bytes, bytes]] = (0, "", {})
"""A refusal that says nothing more: the last answer was sent, or a handler is to send it."""


class HttpConnection(asyncio.Protocol):
    """The protocol object of one connection. `on_closed` is told when it is gone."""

    __slots__ = (
        "_active", "_advancing", "_budget", "_date", "_handler", "_idle_since_s",
        "_leaving", "_limits", "_lingering", "_monotonic", "_on_closed", "_pipelined",
        "_reading_paused", "_receiver", "_refusal", "_retired", "_streamed", "_transport", "_unparsed",
        "_write_paused_since_s", "peer",
    )  # fmt: skip

    def __init__(
        self,
        handler: HttpHandler,
        shared: SharedParts,
        clock: Clock,
        on_closed: "Callable[[HttpConnection], object]",
    ) -> None:
        self._handler = handler
        self._limits = shared.limits
        self._budget = shared.budget
        self._monotonic = clock.monotonic
        self._date = shared.date
        self._on_closed = on_closed
        self._receiver = RequestReceiver(self, handler, shared, clock.monotonic)
        self._transport: asyncio.Transport
        self.peer = b""
        self._active: HttpRequest | None = None
        self._streamed: StreamedAnswer | None = None
        """The answer to the active request, where it was begun and not finished."""
        self._pipelined: deque[HttpRequest] = deque()
        self._unparsed = b""
        self._advancing = False
        self._lingering = Lingering()
        self._idle_since_s = self._monotonic()
        self._retired = False
        self._leaving = False
        self._refusal: tuple[int, str, dict[bytes, bytes]] | None = None
        """What ends the connection once the requests before it are answered, and the headers it came with."""
        self._reading_paused = False
        self._write_paused_since_s: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.peer = peer_address(transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._on_closed(self)
        active, self._active = self._active, None
        streamed, self._streamed = self._streamed, None
        for request in (*self._pipelined, *([active] if active is not None else [])):
            self._budget.give_back(len(request.body))
            if request.body_stream is not None:
                request.body_stream.discard("the client hung up")
        self._receiver.stop()
        self._pipelined.clear()
        self._unparsed = b""
        if active is not None and active.on_abandoned is not None:
            active.on_abandoned()
        if streamed is not None:
            # After the handler was told, so that one that is cancelled for it sees nothing but that.
            streamed.lose()

    def eof_received(self) -> bool:
        """Ends the connection: a client that closes its side has hung up.

        It might also have closed one direction only and wait for its answer. HTTP clients do not, and work
        for those that are gone is what a server under pressure can least afford.
        """
        return False

    def data_received(self, data: bytes) -> None:
        if (
            self._active is None
            and self._refusal is None
            and self._write_paused_since_s is None
            and not (self._pipelined or self._unparsed)
            and self._receiver.take_known(data)
        ):
            return
        if self._refusal is not None:
            if self._lingering.enough(data):
                self.abort()
        elif self._unparsed or self._full():
            self._unparsed += data
        else:
            self._parse(data)

    def pause_writing(self) -> None:
        self._write_paused_since_s = self._monotonic()
        self._pause_reading()
        if self._streamed is not None:
            self._streamed.pause()

    def resume_writing(self) -> None:
        self._write_paused_since_s = None
        if self._streamed is not None:
            self._streamed.resume()
        self._advance()

    def received(self, request: HttpRequest) -> None:
        if self._active is None and not self._pipelined and self._write_paused_since_s is None:
            self._active = request
            self._handler.handle(request)
        else:
            self._pipelined.append(request)

    def turn_away(self, refusal: Refusal, now_s: float) -> bool:
        """Only while nothing else is under way."""
        if self._retired:
            return False
        self._transport.write(refusal.whole(self._date.line))
        self._idle_since_s = now_s
        return True

    def refuse(self, status: int, message: str) -> None:
        """Answers what is no whole request and ends the connection, after the requests before it.

        One whose body was a stream may be in its handler's hands. That hears of it and answers.
        """
        if self._refusal is not None or self._transport.is_closing():
            return
        headers = self._receiver.headers
        self._refusal = (status, message, headers)
        stream = self._receiver.stop()
        if stream is not None:
            self._unparsed = b""
            if self._active is not None and self._active.body_stream is stream:
                self._refusal = _SILENCE
                stream.fail(BrokenBody(message, status=status))
                return
            stream.discard(message)
            self._pipelined.pop()
        if self._active is None and not self._pipelined:
            self._send_refusal(status, message, headers)

    def tell_to_continue(self) -> None:
        """Only where nothing before it is still to be answered; the client goes on by itself otherwise."""
        if self._active is None and self._refusal is None and not self._pipelined:
            self._transport.write(_CONTINUE)

    def body_wanted(self, stream: BodyStream) -> None:
        if stream.continue_wanted:
            stream.continue_wanted = False
            stream.moved_s = self._monotonic()
            if self._streamed is None:
                self._transport.write(_CONTINUE)
        if self._reading_paused:
            stream.moved_s = self._monotonic()
            self._advance()

    def send_answer(self, request: HttpRequest, head: bytes, body: bytes) -> None:
        """Sends the answer to the request that is being handled; one that was abandoned goes nowhere."""
        if request is not self._active:
            return
        if self._streamed is not None:
            self.abort_answer(request)
            return
        self._active = None
        self._budget.give_back(len(request.body))
        if request.body_stream is not None:
            self._drop_stream(request)
        length = b"content-length: %d\r\n" % len(body)
        if request.method == b"HEAD":
            body = b""
        if not request.keep_alive or (self._retired and not self._more):
            self._transport.write(b"%b%b%bconnection: close\r\n\r\n%b" % (head, self._date.line, length, body))
            self._end(request)
            return
        self._transport.write(b"%b%b%b\r\n%b" % (head, self._date.line, length, body))
        self._idle_since_s = self._monotonic()
        if self._pipelined or self._unparsed or self._reading_paused or self._refusal is not None:
            self._advance()

    def begin_answer(self, request: HttpRequest, head: bytes) -> None:
        if request is not self._active:
            return
        assert self._streamed is None, "an answer begins once"
        if self._retired and not self._more:
            request.keep_alive = False
        self._streamed = StreamedAnswer(
            self._transport, chunks=request.head.chunks, bodiless=request.method == b"HEAD"
        )
        if self._write_paused_since_s is not None:
            self._streamed.pause()
        self._streamed.begin(head + self._date.line, close=not request.keep_alive)

    async def send_piece(self, request: HttpRequest, piece: bytes) -> None:
        if request is not self._active or self._streamed is None:
            raise HttpHungUp("the client hung up before its answer was whole")
        await self._streamed.send(piece)

    def finish_answer(self, request: HttpRequest) -> None:
        if request is not self._active:
            return
        assert self._streamed is not None, "an answer begins before it is finished"
        self._streamed.end()
        self._streamed = self._active = None
        self._budget.give_back(len(request.body))
        if request.body_stream is not None:
            self._drop_stream(request)
        if not request.keep_alive or (self._retired and not self._more):
            self._end(request)
        else:
            self._idle_since_s = self._monotonic()
            self._advance()

    def abort_answer(self, request: HttpRequest) -> None:
        if request is not self._active:
            return
        self._refusal = _SILENCE
        self._receiver.stop()
        streamed = self._streamed
        self._streamed = self._active = None
        self._budget.give_back(len(request.body))
        if request.body_stream is not None:
            self._drop_stream(request)
        if streamed is not None:
            streamed.break_off()
        else:
            self._transport.abort()

    def replace_body(self, request: HttpRequest, body: bytes) -> bool:
        # Of one that was abandoned the body was given back; whatever comes of it goes nowhere.
        if request is self._active:
            if not self._budget.take(len(body) - len(request.body)):
                return False
            request.body = body
        return True

    def retire(self) -> None:
        """From now on every answer ends the connection. One that is idle stays open until `leave`: a load
        balancer that keeps it might be sending a request on it just now.
        """
        self._retired = True

    def leave(self) -> None:
        """Closes once what was received, or begun to be, is answered; at once where nothing is."""
        self._retired = self._leaving = True
        if self._active is None and not self._more and self._receiver.started_s is None:
            self._transport.close()

    def abort(self) -> None:
        """At once."""
        self._transport.abort()

    def check(self, now_s: float) -> None:  # noqa: C901 - one case after the other
        """Lets go of a client that is too slow, or idle for too long."""
        if self._lingering.begun:
            if self._lingering.over(now_s):
                self.abort()
        elif self._write_paused_since_s is not None:
            if now_s - self._write_paused_since_s > self._limits.receive_timeout_s:
                self.abort()
        elif self._receiver.stream is not None:
            if (
                not self._reading_paused
                and self._receiver.stream.silent_s(now_s) > self._limits.receive_timeout_s
            ):
                self.refuse(408, f"no more of the body arrived within {self._limits.receive_timeout_s:g} s")
        elif self._active is not None or self._more:
            pass
        elif self._receiver.started_s is not None:
            if now_s - self._receiver.started_s > self._limits.receive_timeout_s:
                self.refuse(408, f"the request did not arrive within {self._limits.receive_timeout_s:g} s")
        elif now_s - self._idle_since_s > self._limits.keep_alive_s:
            self._transport.close()

    @property
    def _more(self) -> bool:
        return bool(self._pipelined or self._unparsed)

    def _drop_stream(self, request: HttpRequest) -> None:
        """What is left of a body whose request is answered goes nowhere, and nothing may come after it."""
        stream = request.body_stream
        assert stream is not None
        stream.discard("the request was answered already")
        if not stream.ended:
            request.keep_alive = False
            self._unparsed = b""

    def _end(self, request: HttpRequest) -> None:
        """The last answer was sent."""
        self._refusal = _SILENCE
        self._receiver.stop()
        if request.body_stream is not None and not request.body_stream.ended:
            self._linger()
        else:
            self._transport.close()

    def _full(self) -> bool:
        if self._write_paused_since_s is not None or len(self._pipelined) >= PIPELINED_REQUESTS_MAX:
            return True
        stream = self._receiver.stream
        return stream is not None and stream.full

    def _parse(self, data: bytes) -> None:
        """Parses piece by piece, until there is more to answer than may wait."""
        receiver = self._receiver
        for start in range(0, len(data), PARSED_BYTES_MAX):
            piece = data[start : start + PARSED_BYTES_MAX] if len(data) > PARSED_BYTES_MAX else data
            if not receiver.feed(piece):
                # The request was handed on already, and a server may ignore an offer to speak something else.
                # What follows on this connection is not for us, so it ends with that answer.
                self.leave()
            if self._refusal is not None or self._transport.is_closing():
                return
            if self._full():
                self._unparsed = data[start + PARSED_BYTES_MAX :]
                self._pause_reading()
                return

    def _advance(self) -> None:
        """Goes on with what waits, one after the other. A loop: a long pipeline must not nest as deep."""
        if self._advancing:
            return
        self._advancing = True
        while self._write_paused_since_s is None and not self._transport.is_closing():
            if self._active is None and self._pipelined:
                self._active = self._pipelined.popleft()
                self._handler.handle(self._active)
            elif self._unparsed and self._refusal is None and not self._full():
                data, self._unparsed = self._unparsed, b""
                self._parse(data)
            else:
                self._settle()
                break
        self._advancing = False

    def _settle(self) -> None:
        """Nothing can go on by itself any more."""
        if self._active is not None:
            if not self._full() and self._refusal is None:
                self._resume_reading()
        elif self._refusal is not None:
            self._send_refusal(*self._refusal)
        elif self._leaving and self._receiver.started_s is None:
            self._transport.close()
        else:
            self._resume_reading()

    def _send_refusal(self, status: int, message: str, headers: dict[bytes, bytes]) -> None:
        if self._lingering.begun:
            return
        lines, body = self._handler.refusal(status, message, headers)
        head = ResponseHead.build(status, "application/json", (("connection", "close"),)) + lines
        self._transport.write(b"%b%bcontent-length: %d\r\n\r\n%b" % (head, self._date.line, len(body), body))
        self._linger()

    def _linger(self) -> None:
        self._lingering.begin(self._transport, self._monotonic())
        self._resume_reading()

    def _pause_reading(self) -> None:
        if not self._reading_paused and not self._transport.is_closing():
            self._reading_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused and not self._transport.is_closing():
            self._reading_paused = False
            self._transport.resume_reading()
