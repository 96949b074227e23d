"""A connection that sends one request at a time and reads of the answer what a drill wants to know of it."""

import asyncio
from typing import Any, Protocol, cast

import httptools

__all__ = ["Connection", "Flight", "Listener"]

_REASON = b"x-shed-reason"
_RUNG = b"x-penstock-rung"


class Flight:
    """A request on its way. `over` is set once its outcome is counted."""

    __slots__ = ("attempt", "connection", "intended_s", "kind", "lateness_s", "over")

    def __init__(self, intended_s: float, lateness_s: float, kind: int, attempt: int) -> None:
        self.intended_s = intended_s
        self.lateness_s = lateness_s
        self.kind = kind
        self.attempt = attempt
        self.over = False
        self.connection: Connection | None = None


class Listener(Protocol):
    """Who is told of what happens on connections."""

    def answered(self, flight: Flight, status: int, reason: bytes, rung: bytes) -> None: ...

    def freed(self, connection: "Connection") -> None: ...

    def broken(self, flight: Flight) -> None: ...

    def lost(self) -> None: ...


class Connection(asyncio.Protocol):
    """Keep-alive. One parser reads all its answers: a connection that carried nonsense is closed."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._parser: Any = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._flight: Flight | None = None
        self._reason = b""
        self._rung = b""
        self.closed = False

    def send(self, flight: Flight, request: bytes) -> None:
        assert self._flight is None, "a connection has one request at a time"
        assert self._transport is not None
        self._flight = flight
        flight.connection = self
        self._transport.write(request)

    def abort(self) -> None:
        """Ends it at once; of the request on it nothing more is told."""
        self._flight = None
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._break()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio calls it so
        self.closed = True
        flight, self._flight = self._flight, None
        # The parser knows its connection, and the connection its parser.
        self._parser = None
        if flight is not None:
            self._listener.broken(flight)
        self._listener.lost()

    # What httptools calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        # Lengths first: of some ten headers, these two are wanted.
        if len(name) == 13 and name.lower() == _REASON:
            self._reason = value
        elif len(name) == 15 and name.lower() == _RUNG:
            self._rung = value

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return
        flight, self._flight = self._flight, None
        reason, self._reason = self._reason, b""
        rung, self._rung = self._rung, b""
        if flight is None:
            # An answer that nobody asked for.
            self._break()
            return
        if not self._parser.should_keep_alive():
            self.closed = True
            if self._transport is not None:
                self._transport.close()
        self._listener.answered(flight, status, reason, rung)
        if not self.closed:
            self._listener.freed(self)

    def _break(self) -> None:
        flight = self._flight
        self.abort()
        if flight is not None:
            self._listener.broken(flight)
