"""Sends one webhook: one connection, to an address that was looked at, and one answer of which little is read.

Source: RFC 9112, for as much of it as a single request takes.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from penstock.serving.jobs.webhook_urls import Address, Network, forbidden, parse_address, port_of

__all__ = ["WebhookFailed", "WebhookSender"]

ANSWER_BYTES_MAX = 64 * 1024
BODY_TIMEOUT_S = 0.5
ADDRESSES_MAX = 4
GONE = 410


class WebhookFailed(Exception):
    """It was not told. `final`: nor would it be another time."""

    def __init__(self, said: str, *, final: bool = False) -> None:
        super().__init__(said)
        self.final = final


class WebhookSender:
    """Sends to hosts whose addresses are public, or in `allowed`. Redirects are not followed."""

    def __init__(self, allowed: Sequence[Network], timeout_s: float) -> None:
        self._allowed = tuple(allowed)
        self.timeout_s = timeout_s
        self._tls: ssl.SSLContext | None = None

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> None:
        """Raises `WebhookFailed` for every answer but 2xx, and for none in time."""
        try:
            async with asyncio.timeout(self.timeout_s):
                status = await self._exchange(url, headers, body)
        except TimeoutError:
            raise WebhookFailed(f"no answer within {self.timeout_s:g} s") from None
        except (OSError, ssl.SSLError) as error:
            raise WebhookFailed(f"{type(error).__name__}: {error}") from None
        if 300 <= status < 400:
            raise WebhookFailed(f"it answered {status}: redirects are not followed")
        if not 200 <= status < 300:
            raise WebhookFailed(f"it answered {status}", final=status == GONE)

    async def _exchange(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        parts = urlsplit(url)
        host = parts.hostname or ""
        reader, writer = await self._connect(host, port_of(parts), tls=parts.scheme == "https")
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            lines = [f"POST {path} HTTP/1.1", f"host: {parts.netloc}", "connection: close"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            lines += ["content-type: application/json", f"content-length: {len(body)}", "", ""]
            writer.write("\r\n".join(lines).encode("ascii") + body)
            await writer.drain()
            return await _status(reader)
        finally:
            writer.transport.abort()

    async def _connect(
        self, host: str, port: int, *, tls: bool
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        failure: OSError | None = None
        for address in await self._addresses(host, port):
            try:
                return await asyncio.open_connection(
                    str(address),
                    port,
                    limit=ANSWER_BYTES_MAX,
                    ssl=self._context() if tls else None,
                    server_hostname=host if tls else None,
                )
            except OSError as error:
                failure = error
        assert failure is not None, "a name has an address, or is an error"
        raise failure

    async def _addresses(self, host: str, port: int) -> list[Address]:
        """All of a host's, or none: a name that also points inside is not to be trusted at all."""
        literal = parse_address(host)
        addresses = [literal] if literal is not None else await _resolved(host, port)
        for address in addresses:
            reason = forbidden(address, self._allowed)
            if reason is not None:
                raise WebhookFailed(f"{host} is {reason}" if literal is None else reason, final=True)
        return addresses[:ADDRESSES_MAX]

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls


async def _resolved(host: str, port: int) -> list[Address]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise WebhookFailed(f"{host} has no address: {error.strerror}") from None
    except UnicodeError:
        raise WebhookFailed(f"{host} cannot be a name", final=True) from None
    addresses = {address: None for *_, place in found if (address := parse_address(str(place[0]))) is not None}
    if not addresses:
        raise WebhookFailed(f"{host} has no address")
    return list(addresses)


async def _status(reader: asyncio.StreamReader) -> int:
    """The answer's status. Its body is read as far as it is short, so that its sender sees no reset."""
    left_bytes = ANSWER_BYTES_MAX
    code = b""
    while not code or code.startswith(b"1"):
        line = await _line(reader)
        version, _, rest = line.partition(b" ")
        code = rest[:3]
        if not version.startswith(b"HTTP/1.") or not code.isdigit():
            raise WebhookFailed(f"what it answered is not HTTP: {line[:40]!r}")
        while line.strip():
            left_bytes -= len(line)
            if left_bytes <= 0:
                raise WebhookFailed(f"the head of its answer has more than {ANSWER_BYTES_MAX} bytes")
            line = await _line(reader)
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):  # a TimeoutError is an OSError
        async with asyncio.timeout(BODY_TIMEOUT_S):
            await reader.readexactly(ANSWER_BYTES_MAX)
    return int(code)


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError:
        raise WebhookFailed("it hung up before it had answered") from None
    except asyncio.LimitOverrunError:
        raise WebhookFailed(f"a line of its answer has more than {ANSWER_BYTES_MAX} bytes") from None
