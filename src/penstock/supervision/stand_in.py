"""Answers 503 while no worker does: a client is told at once, rather than left to wait in the backlog."""

import asyncio
import logging
import socket
from typing import cast

from penstock.serving.listening import BACKLOG

__all__ = ["StandIn"]

log = logging.getLogger(__name__)

CONNECTIONS_MAX = 256
"""Well below the usual 1024 descriptors of a process: starting workers takes some."""
PATIENCE_S = 5.0
HEAD_BYTES_MAX = 64 * 1024
_BODY = b'{"error":"no process of this server can answer at the moment; `penstock status` says why"}'
_ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 2\r\n"
    b"x-shed-reason: workers_down\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
)


class StandIn:
    """Accepts in the workers' place, on the socket that they share, between `start` and `stop`."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Transport] = set()

    @property
    def stands(self) -> bool:
        return self._server is not None

    async def start(self) -> None:
        """Nothing where it stands. Without descriptors it does not stand, and may be asked again."""
        if self._server is not None:
            return
        try:
            listener = self._listener.dup()
        except OSError as error:
            log.warning("nobody answers, and clients cannot be told: %s", error.strerror)
            return
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Refusal(self._connections), sock=listener, backlog=BACKLOG
        )

    def stop(self) -> None:
        """Accepts nothing more; who is being told is told to the end."""
        if self._server is not None:
            self._server.close()
            self._server = None


class _Refusal(asyncio.Protocol):
    """Waits for the head of a request, so that the client has finished speaking, and refuses it."""

    def __init__(self, connections: set[asyncio.Transport]) -> None:
        self._connections = connections
        self._transport: asyncio.Transport
        self._timeout: asyncio.TimerHandle
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self._transport)
        self._timeout = asyncio.get_running_loop().call_later(PATIENCE_S, self._transport.abort)
        if len(self._connections) > CONNECTIONS_MAX:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._head += data
        if b"\r\n\r\n" in self._head or len(self._head) > HEAD_BYTES_MAX:
            self._transport.write(_ANSWER)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._timeout.cancel()
        self._connections.discard(self._transport)
