"""Sends one webhook: one connection, to an address that was looked at, and one answer of which little is read.

Source: RFC 9112, for as much of it as a single request takes.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from urllib.parse import urlsplit

from penstock.serving.jobs.webhook_names import Names, NotFoundName
from penstock.serving.jobs.webhook_urls import Address, Network, forbidden, parse_address, port_of

__all__ = ["WebhookFailed", "WebhookSender"]

ANSWER_BYTES_MAX = 64 * 1024
BODY_TIMEOUT_S = 0.5
ADDRESSES_MAX = 4
NAME_SHARE = 0.5
"""Of the time that a webhook may take, what its host's name may."""
GONE = 410
NO_CONTENT = b"204"


class WebhookFailed(Exception):
    """It was not told. `final`: nor would it be another time."""

    def __init__(self, said: str, *, final: bool = False) -> None:
        super().__init__(said)
        self.final = final


class WebhookSender:
    """Sends to hosts whose addresses are public, or in `allowed`. Redirects are not followed."""

    def __init__(self, allowed: Sequence[Network], timeout_s: float, names: Names) -> None:
        self._allowed = tuple(allowed)
        self._names = names
        self.timeout_s = timeout_s
        self._tls: ssl.SSLContext | None = None

    async def send(self, url: str, headers: Mapping[str, str], body: bytes, owner: str = "") -> None:
        """Raises `WebhookFailed` for every answer but 2xx, and for none in time. `owner` is whose it is."""
        try:
            async with asyncio.timeout(self.timeout_s):
                status = await self._exchange(url, headers, body, owner)
        except TimeoutError:
            raise WebhookFailed(f"no answer within {self.timeout_s:g} s") from None
        except (OSError, ssl.SSLError) as error:
            raise WebhookFailed(f"{type(error).__name__}: {error}") from None
        if 300 <= status < 400:
            raise WebhookFailed(f"it answered {status}: redirects are not followed")
        if not 200 <= status < 300:
            raise WebhookFailed(f"it answered {status}", final=status == GONE)

    async def _exchange(self, url: str, headers: Mapping[str, str], body: bytes, owner: str) -> int:
        parts = urlsplit(url)
        host, port = parts.hostname or "", port_of(parts)
        tls = await self._context() if parts.scheme == "https" else None
        addresses = await self._addresses(host, port, owner)
        reader, writer = await self._connect(addresses, port, host, tls)
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
        self, addresses: Sequence[Address], port: int, host: str, tls: ssl.SSLContext | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To the first that takes it. Each has a share of the time, so that one that takes nothing, and says
        nothing, does not keep the others from it.
        """
        failure: OSError | None = None
        share_s = self.timeout_s / (len(addresses) + 1)
        for number, address in enumerate(addresses, 1):
            try:
                async with asyncio.timeout(share_s if number < len(addresses) else None):
                    return await asyncio.open_connection(
                        str(address),
                        port,
                        limit=ANSWER_BYTES_MAX,
                        ssl=tls,
                        server_hostname=host if tls is not None else None,
                    )
            except OSError as error:  # a TimeoutError is one
                failure = error
        assert failure is not None, "a name has an address, or is an error"
        raise failure

    async def _addresses(self, host: str, port: int, owner: str) -> list[Address]:
        """All of a host's, or none: a name that also points inside is not to be trusted at all."""
        literal = parse_address(host)
        if literal is not None:
            addresses = [literal]
        else:
            try:
                addresses = await self._names.addresses(host, port, owner, NAME_SHARE * self.timeout_s)
            except NotFoundName as missed:
                raise WebhookFailed(str(missed), final=missed.final) from None
        for address in addresses:
            reason = forbidden(address, self._allowed)
            if reason is not None:
                raise WebhookFailed(f"{host} is {reason}" if literal is None else reason, final=True)
        return _in_turns(addresses)[:ADDRESSES_MAX]

    async def _context(self) -> ssl.SSLContext:
        """Made in a thread: all certificates of the machine are read for it."""
        if self._tls is None:
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        return self._tls


def _in_turns(addresses: Sequence[Address]) -> list[Address]:
    """One of either version after the other, as they are sorted: where one version goes nowhere, the other is
    tried second.
    """
    first = [address for address in addresses if address.version == addresses[0].version]
    second = [address for address in addresses if address.version != addresses[0].version]
    return [each for pair in zip_longest(first, second) for each in pair if each is not None]


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
        body_bytes = ANSWER_BYTES_MAX
        while line.strip():
            left_bytes -= len(line)
            if left_bytes <= 0:
                raise WebhookFailed(f"the head of its answer has more than {ANSWER_BYTES_MAX} bytes")
            line = await _line(reader)
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length" and value.strip().isdigit():
                body_bytes = min(int(value.strip()[:18]), ANSWER_BYTES_MAX)
    if code != NO_CONTENT:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):  # a TimeoutError is an OSError
            async with asyncio.timeout(BODY_TIMEOUT_S):
                await reader.readexactly(body_bytes)
    return int(code)


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError:
        raise WebhookFailed("it hung up before it had answered") from None
    except asyncio.LimitOverrunError:
        raise WebhookFailed(f"a line of its answer has more than {ANSWER_BYTES_MAX} bytes") from None
