"""Messages over a socket between two processes: a length in four bytes, then MessagePack."""

import asyncio
import contextlib
import logging
import socket
import struct
from typing import Generic, TypeVar

import msgspec

__all__ = ["Channel"]

log = logging.getLogger(__name__)

BUFFERED_BYTES_MAX = 16 * 1024 * 1024
MESSAGE_BYTES_MAX = 256 * 1024 * 1024
_LENGTH = struct.Struct("<I")
_encode = msgspec.msgpack.Encoder().encode

Incoming = TypeVar("Incoming")
Outgoing = TypeVar("Outgoing")


class Channel(Generic[Outgoing, Incoming]):
    """One end. What is sent after the other end has gone is dropped.

    So is what is sent while the other end reads nothing and `BUFFERED_BYTES_MAX` wait for it already: a process
    that hangs must not cost this one its memory.
    """

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
        buffered_bytes = self._writer.transport.get_write_buffer_size()
        if not self._writer.is_closing() and buffered_bytes < BUFFERED_BYTES_MAX:
            content = _encode(message)
            assert len(content) <= MESSAGE_BYTES_MAX, "no message is that large"
            self._writer.write(_LENGTH.pack(len(content)) + content)

    async def receive(self) -> Incoming | None:
        """The next message; None when the other end has gone, or says what is no message here."""
        try:
            (size,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            assert size <= MESSAGE_BYTES_MAX, "no message is that large"
            return self._decoder.decode(await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, OSError):
            return None
        except msgspec.DecodeError as error:
            # A process of another release, installed while this one ran.
            log.error("a message of the other process is not understood: %s", error)
            return None

    async def flush(self) -> None:
        """Returns when what was sent has left this process."""
        with contextlib.suppress(OSError):
            await self._writer.drain()

    def close(self) -> None:
        self._writer.close()
