"""Messages over a socket between two processes: a length in four bytes, then MessagePack."""

import asyncio
import contextlib
import socket
import struct
from typing import Generic, TypeVar

import msgspec

__all__ = ["Channel"]

MESSAGE_BYTES_MAX = 256 * 1024 * 1024
_LENGTH = struct.Struct("<I")
_encode = msgspec.msgpack.Encoder().encode

Incoming = TypeVar("Incoming")
Outgoing = TypeVar("Outgoing")


class Channel(Generic[Outgoing, Incoming]):
    """One end. What is sent after the other end has gone is dropped."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        decoder: "msgspec.msgpack.Decoder[Incoming]",
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = decoder

    @classmethod
    async def open(
        cls, connected: socket.socket, decoder: "msgspec.msgpack.Decoder[Incoming]"
    ) -> "Channel[Outgoing, Incoming]":
        """A channel over one end of a socket pair, which it owns from now on."""
        return cls(*await asyncio.open_connection(sock=connected), decoder)

    def send(self, message: Outgoing) -> None:
        if not self._writer.is_closing():
            content = _encode(message)
            self._writer.write(_LENGTH.pack(len(content)) + content)

    async def receive(self) -> Incoming | None:
        """The next message; None when the other end has gone."""
        try:
            (size,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            assert size <= MESSAGE_BYTES_MAX, "no message is that large"
            return self._decoder.decode(await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, OSError):
            return None

    async def flush(self) -> None:
        """Returns when what was sent has left this process."""
        with contextlib.suppress(OSError):
            await self._writer.drain()

    def close(self) -> None:
        self._writer.close()
