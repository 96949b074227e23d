"""One connection to a server, for one request at a time. Bytes are parsed by httptools (llhttp).

Source: RFC 9112.
"""

import asyncio
from typing import Any, NamedTuple, cast

import httptools

from penstock.core.errors import shown

__all__ = ["BrokenOff", "Connection", "GarbledHttp", "HttpResponse"]

HEAD_BYTES_MAX = 64 * 1024


class BrokenOff(ConnectionError):
    """The connection ended before the answer was whole."""


class GarbledHttp(ValueError):
    """What came is no HTTP answer, or passes a limit."""


class HttpResponse(NamedTuple):
    """`headers` by their names in lower case; of one that came several times, the last."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Connection(asyncio.Protocol):
    """Sends a request and gathers its answer. Whoever gives up on an answer has to `abort` the connection."""

    def __init__(self, *, body_bytes_max: int, open_ones: "set[Connection]") -> None:
        """It is in `open_ones` for as long as it is open."""
        self._body_bytes_max = body_bytes_max
        self._open_ones = open_ones
        self._parser: Any = None
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[HttpResponse] | None = None
        self._lost = False
        self._reset()
        self.idle_since_s = 0.0
        """Monotonic; kept by the pool."""

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent over it."""
        return self._answer is None and not self._lost and self._parser is not None

    def send(self, request: bytes) -> "asyncio.Future[HttpResponse]":
        """The answer: raises `BrokenOff` or `GarbledHttp`."""
        assert self._answer is None, "a connection has one request at a time"
        answer = asyncio.get_running_loop().create_future()
        if self._lost or self._transport is None:
            answer.set_exception(BrokenOff("the connection was closed"))
            return answer
        self._reset()
        self._parser = httptools.HttpResponseParser(self)
        self._answer = answer
        self._transport.write(request)
        return answer

    def close(self) -> None:
        self._lost = True
        if self._transport is not None:
            self._transport.close()

    def fail(self, error: Exception) -> None:
        """Ends it, and the request that it has with this error."""
        answer, self._answer = self._answer, None
        self.abort()
        if answer is not None and not answer.done():
            answer.set_exception(error)

    def abort(self) -> None:
        """Ends it without waiting for anything: the server sees that nobody wants the answer."""
        self._lost = True
        self._answer = None
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._open_ones.add(self)

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            # Nothing was asked: what comes belongs to no request, and would be taken for the next one's answer.
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            told = error if isinstance(error, httptools.HttpParserError) else "it changes the protocol"
            cause = error.__context__ if isinstance(error.__context__, GarbledHttp) else None
            self.fail(cause or GarbledHttp(f"it is not HTTP: {told}; it begins with {shown(data[:40])}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._open_ones.discard(self)
        if self._answer is None:
            return
        if exc is None and self._until_close and self._status:
            self._complete(reusable=False)
            return
        told = f"{type(exc).__name__}: {exc}" if exc is not None else "closed by the server"
        when = "in the middle of the answer" if self._status else "before an answer"
        self.fail(BrokenOff(f"the connection broke off {when} ({told})"))

    # What httptools calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > HEAD_BYTES_MAX:
            raise GarbledHttp(f"the head of the answer has more than {HEAD_BYTES_MAX} bytes")
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        length = self._headers.get(b"content-length")
        self._until_close = length is None and b"transfer-encoding" not in self._headers

    def on_body(self, piece: bytes) -> None:
        self._body_bytes += len(piece)
        if self._body_bytes > self._body_bytes_max:
            raise GarbledHttp(f"the answer has more than {self._body_bytes_max} bytes")
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        if 100 <= self._status < 200:
            self._reset()
            return
        self._complete(reusable=self._parser.should_keep_alive())

    def _complete(self, *, reusable: bool) -> None:
        answer, self._answer = self._answer, None
        if answer is None:
            # A second answer in the same bytes.
            self.close()
            return
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        if not reusable:
            self.close()
        if not answer.done():
            answer.set_result(HttpResponse(self._status, self._headers, body))

    def _reset(self) -> None:
        self._status = 0
        self._headers: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []
        self._head_bytes = 0
        self._body_bytes = 0
        self._until_close = False
