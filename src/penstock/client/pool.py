"""Kept connections to one server, the warmest used first."""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from functools import cache
from urllib.parse import urlsplit

import msgspec

from penstock.client.connection import BrokenOff, Connection, GarbledHttp, HttpResponse
from penstock.core.errors import InvalidInput

__all__ = ["ConnectionPool", "ConnectionSettings", "NotConnected"]

CLOSING_TURNS_MAX = 100


class ConnectionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How servers are connected to.

    `connections_max` is per base URL: calls beyond it wait for one to come free, for as long as they may take.
    `tls` None is what this machine trusts. `idle_s` is best below what the server keeps idle connections for.
    """

    connections_max: int = 256
    connect_timeout_s: float = 2.0
    idle_s: float = 60.0
    answer_bytes_max: int = 1 << 30
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        for name in ("connections_max", "connect_timeout_s", "idle_s", "answer_bytes_max"):
            if not getattr(self, name) > 0:
                raise InvalidInput(f"{name} is {getattr(self, name)!r}", where=name, hint="give more than 0")


class NotConnected(ConnectionError):
    """No connection was made: the server has seen nothing. The text says why."""


class ConnectionPool:
    """Connections to the server of one base URL, in one event loop."""

    def __init__(self, url: str, settings: ConnectionSettings, monotonic: Callable[[], float]) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None, "Endpoints has checked it"
        self._host = parts.hostname
        self._tls = parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._settings = settings
        self._monotonic = monotonic
        self._idle: deque[Connection] = deque()
        self._open: set[Connection] = set()
        self._closed = False
        self._room = asyncio.Semaphore(settings.connections_max)
        self.path = parts.path
        self.authority = parts.netloc

    async def request(self, compose: Callable[[], bytes]) -> HttpResponse:
        """Sends what `compose` makes once there is a connection to send it over; the answer.

        A cancelled request ends its connection. Raises `NotConnected`, `BrokenOff` and `GarbledHttp`.
        """
        if self._closed:
            raise NotConnected("the client was closed")
        async with self._room:
            connection = self._warm() or await self._connect()
            try:
                response = await connection.send(compose())
            except (asyncio.CancelledError, BrokenOff, GarbledHttp):
                connection.abort()
                raise
            if connection.reusable:
                connection.idle_since_s = self._monotonic()
                self._idle.append(connection)
            return response

    async def close(self) -> None:
        """Ends all connections; requests under way fail."""
        self._closed = True
        self._idle.clear()
        for _ in range(CLOSING_TURNS_MAX):
            for connection in self._open:
                connection.fail(BrokenOff("the client was closed"))
            # A transport that was ended says so in a later turn of the loop, which must not be closed before.
            await asyncio.sleep(0)
            if not self._open:
                break

    def drop_idle(self) -> None:
        """After a failure: what was opened to a process that is gone is of no use."""
        while self._idle:
            self._idle.pop().close()

    def _warm(self) -> Connection | None:
        oldest_s = self._monotonic() - self._settings.idle_s
        while self._idle and (self._idle[0].idle_since_s < oldest_s or not self._idle[0].reusable):
            self._idle.popleft().close()
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:
                return connection
            connection.close()
        return None

    async def _connect(self) -> Connection:
        tls = (self._settings.tls or _default_tls()) if self._tls else None
        limit = self._settings.answer_bytes_max
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(body_bytes_max=limit, open_ones=self._open),
                    self._host,
                    self._port,
                    ssl=tls,
                )
        except TimeoutError:
            raise NotConnected(f"no connection within {self._settings.connect_timeout_s:g} s") from None
        except OSError as error:
            raise NotConnected(_told(error)) from None
        if self._closed:
            connection.abort()
        return connection


def _told(error: OSError) -> str:
    """Without the address, which every message names anyway, and without asyncio's words for it."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return error.strerror or str(error) or type(error).__name__


@cache
def _default_tls() -> ssl.SSLContext:
    """Made once: reading a machine's certificates takes tens of milliseconds."""
    return ssl.create_default_context()
