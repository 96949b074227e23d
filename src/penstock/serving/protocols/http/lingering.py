"""How a connection ends while its client may still be sending."""

import asyncio

__all__ = ["LINGER_BYTES_MAX", "LINGER_S", "Lingering"]

LINGER_S = 5.0
LINGER_BYTES_MAX = 256 * 1024 * 1024


class Lingering:
    """Closing while the client still sends would reset the connection, and the client might never see the
    answer; so what comes is read and thrown away for a moment first.
    """

    __slots__ = ("_bytes", "_since_s", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._since_s: float | None = None
        self._bytes = 0

    @property
    def begun(self) -> bool:
        return self._since_s is not None

    def begin(self, now_s: float) -> None:
        """The last answer was sent."""
        self._since_s = now_s
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def discard(self, data: bytes) -> None:
        """Throws away what came after the last request."""
        self._bytes += len(data)
        if self._bytes > LINGER_BYTES_MAX:
            self._transport.abort()

    def check(self, now_s: float) -> None:
        """Closes once the moment is over."""
        if self._since_s is not None and now_s - self._since_s > LINGER_S:
            self._transport.abort()
