"""How a connection ends while its client may still be sending."""

import asyncio

__all__ = ["LINGER_BYTES_MAX", "LINGER_S", "Lingering"]

LINGER_S = 5.0
LINGER_BYTES_MAX = 256 * 1024 * 1024


class Lingering:
    """Closing while the client still sends would reset the connection, and the client might never see the
    answer; so what comes is read and thrown away for a moment first.
    """

    __slots__ = ("_bytes", "_since_s")

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._bytes = 0

    @property
    def begun(self) -> bool:
        return self._since_s is not None

    def begin(self, transport: asyncio.Transport, now_s: float) -> None:
        """The last answer was sent."""
        self._since_s = now_s
        if transport.can_write_eof():
            transport.write_eof()

    def enough(self, data: bytes) -> bool:
        """Throws away what came after the last request; True: it will not end."""
        self._bytes += len(data)
        return self._bytes > LINGER_BYTES_MAX

    def over(self, now_s: float) -> bool:
        """Whether the moment is over."""
        return self._since_s is not None and now_s - self._since_s > LINGER_S
