"""An answer that is sent piece by piece. Sources: RFC 9112, sections 6.1 and 7.1."""

import asyncio

from penstock.serving.protocols.http.messages import HttpHungUp

__all__ = ["StreamedAnswer"]


class StreamedAnswer:
    """Frames the pieces of one answer, and holds its sender back while the client does not read."""

    __slots__ = ("_bodiless", "_chunks", "_gone", "_paused", "_room", "_transport")

    def __init__(self, transport: asyncio.WriteTransport, *, chunks: bool, bodiless: bool) -> None:
        self._transport = transport
        self._chunks = chunks
        """Whether pieces are framed; an answer to HTTP/1.0 ends where its connection does."""
        self._bodiless = bodiless
        """Whether the request was HEAD."""
        self._paused = False
        self._gone = False
        self._room: asyncio.Future[None] | None = None

    def begin(self, head: bytes, *, close: bool) -> None:
        framing = b"transfer-encoding: chunked\r\n" if self._chunks else b""
        closing = b"connection: close\r\n" if close else b""
        self._transport.write(b"%b%b%b\r\n" % (head, framing, closing))

    async def send(self, piece: bytes) -> None:
        """Raises `HttpHungUp` where nobody is there to read."""
        if self._gone:
            raise _hung_up()
        # A chunk of no bytes would end the answer.
        if piece and not self._bodiless:
            self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunks else piece)
        if self._paused:
            assert self._room is None, "an answer has one sender"
            self._room = asyncio.get_running_loop().create_future()
            try:
                await self._room
            finally:
                self._room = None

    def end(self) -> None:
        if self._chunks and not self._bodiless:
            self._transport.write(b"0\r\n\r\n")

    def break_off(self) -> None:
        """Ends the connection without an end of the answer.

        Chunks that were sent still arrive, and a missing last one tells. Without chunks only a reset does.
        """
        if self._chunks:
            self._transport.close()
        else:
            self._transport.abort()

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def lose(self) -> None:
        """The client is gone."""
        self._gone = True
        if self._room is not None and not self._room.done():
            self._room.set_exception(_hung_up())


def _hung_up() -> HttpHungUp:
    return HttpHungUp("the client hung up before its answer was whole")
