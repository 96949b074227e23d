"""The HTTP server of a `serve` process: accepts, and keeps the connections."""

import asyncio
import contextlib
import logging
import resource
import socket
from typing import cast

from penstock.core.clock import Clock
from penstock.core.settings import ServerSettings
from penstock.observe.metrics import MetricSet
from penstock.serving.listening import BACKLOG
from penstock.serving.protocols.http.connection import HttpConnection
from penstock.serving.protocols.http.heads import KnownHeads
from penstock.serving.protocols.http.messages import (
    ConnectionLimits,
    DateLine,
    HttpHandler,
    ReceiveBudget,
    ResponseHead,
    SharedParts,
)

__all__ = ["HttpServer"]

log = logging.getLogger(__name__)

REFUSED_LINGER_S = 1.0
DESCRIPTORS_RESERVED = 128
"""For the registry, runtimes' processes, the log, and connections that are being refused."""
CHECK_EVERY_S = 1.0


class HttpServer:
    """Accepts on a socket that others may accept on too, and hands requests on until it is stopped."""

    def __init__(
        self,
        handler: HttpHandler,
        listener: socket.socket,
        settings: ServerSettings,
        clock: Clock,
        metrics: MetricSet,
    ) -> None:
        self._handler = handler
        self._listener = listener
        self._settings = settings
        self._clock = clock
        self._connections: set[HttpConnection] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        limits = ConnectionLimits(
            head_bytes_max=settings.head_bytes_max,
            body_bytes_max=settings.body_bytes_max,
            receive_timeout_s=settings.receive_timeout_s,
            keep_alive_s=settings.keep_alive_s,
        )
        budget = ReceiveBudget(settings.receiving_bytes_max)
        self._shared = SharedParts(limits, budget, DateLine(clock.now()), KnownHeads())
        self._refused = metrics.counter(
            "penstock_connections_refused_total", "Connections refused at the limit."
        )
        metrics.gauge(
            "penstock_receiving_bytes",
            "Bodies that are received and not answered.",
            lambda: budget.used_bytes,
        )
        metrics.gauge("penstock_connections", "Open connections.", lambda: len(self._connections))
        self._connections_max = settings.connections_max
        self._server: asyncio.Server | None = None
        self._retiring = False
        self._checking: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    async def start(self) -> None:
        """Accepts connections from now on."""
        self._connections_max = _affordable_connections(self._settings.connections_max)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connect, sock=self._listener, backlog=BACKLOG)
        self._check()

    def retire(self) -> None:
        """Goes on, but answers are the last on their connections: clients are to come back elsewhere."""
        self._retiring = True
        for connection in list(self._connections):
            connection.retire()

    async def stop(self, linger_s: float = 0.0) -> None:
        """Accepts nothing more; returns when every request that was received is answered.

        Connections without one are closed once they have lingered: a request may be on its way to them.
        """
        if self._server is None:
            self._listener.close()
            return
        self._server.close()
        self.retire()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(linger_s):
                await self._empty.wait()
        for connection in list(self._connections):
            connection.leave()
        await self._empty.wait()
        self._stop_checking()

    def abort(self) -> None:
        """Closes what is left, answered or not."""
        self._stop_checking()
        for connection in list(self._connections):
            connection.abort()

    def _connect(self) -> asyncio.Protocol:
        if len(self._connections) >= self._connections_max:
            self._refused.value += 1
            return _FullHouse(self._handler, self._shared.date)
        connection = HttpConnection(self._handler, self._shared, self._clock, self._closed)
        self._connections.add(connection)
        if self._retiring:
            connection.retire()
        self._empty.clear()
        return connection

    def _closed(self, connection: HttpConnection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def _check(self) -> None:
        self._checking = asyncio.get_running_loop().call_later(CHECK_EVERY_S, self._check)
        self._shared.date.set(self._clock.now())
        now_s = self._clock.monotonic()
        for connection in list(self._connections):
            connection.check(now_s)

    def _stop_checking(self) -> None:
        if self._checking is not None:
            self._checking.cancel()
            self._checking = None


class _FullHouse(asyncio.Protocol):
    """Tells a client that there are too many connections, and closes."""

    def __init__(self, handler: HttpHandler, date: DateLine) -> None:
        self._handler = handler
        self._date = date
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        lines, body = self._handler.refusal(503, "too many connections; try again later", {})
        further = (("connection", "close"), ("retry-after", "1"), ("x-shed-reason", "connections"))
        head = ResponseHead.build(503, "application/json", further) + lines
        self._transport.write(b"%b%bcontent-length: %d\r\n\r\n%b" % (head, self._date.line, len(body), body))
        asyncio.get_running_loop().call_later(REFUSED_LINGER_S, self._transport.abort)

    def data_received(self, data: bytes) -> None:  # noqa: ARG002 - asyncio's signature
        # Closed before its request was read, the connection would be reset and the answer lost.
        assert self._transport is not None
        self._transport.close()


def _affordable_connections(wanted: int) -> int:
    """As many as there may be file descriptors for, of which some are for other things.

    Without descriptors left, clients would connect and never hear anything; under a limit they are told.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + DESCRIPTORS_RESERVED
    if hard != resource.RLIM_INFINITY:
        needed = min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < needed:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
            soft = needed
    affordable = wanted if soft == resource.RLIM_INFINITY else min(wanted, max(1, soft - DESCRIPTORS_RESERVED))
    if affordable < wanted:
        log.warning(
            "at most %d connections, not %d: the limit of open files is %d (ulimit -n)",
            affordable,
            wanted,
            soft,
        )
    return affordable
