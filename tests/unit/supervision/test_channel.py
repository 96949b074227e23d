"""Messages over a socket pair."""

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any

import msgspec
import pytest

from penstock.supervision import channel as channel_module
from penstock.supervision.channel import Channel


class Note(msgspec.Struct, frozen=True):
    text: str


Ends = tuple[Channel[Note, Note], Channel[Note, Note]]


async def ends() -> Ends:
    decoder = msgspec.msgpack.Decoder(Note)
    one, other = socket.socketpair()
    return await Channel.open(one, decoder), await Channel.open(other, decoder)


def run(test: Coroutine[Any, Any, None]) -> None:
    async def guarded() -> None:
        async with asyncio.timeout(10.0):
            await test

    asyncio.run(guarded())


def test_messages_arrive_whole_and_in_order() -> None:
    async def life() -> None:
        one, other = await ends()
        notes = [Note(""), Note("ü" * 100), Note("x" * 5_000_000), Note("last")]
        for note in notes:
            one.send(note)
        other.send(Note("back"))
        assert [await other.receive() for _ in notes] == notes
        assert await one.receive() == Note("back")
        one.close()
        assert await other.receive() is None
        other.send(Note("to nobody"))
        await other.flush()
        other.close()
        other.send(Note("to nobody"))

    run(life())


@pytest.mark.parametrize("content", [b"", b"\x05", b"\x05\0\0\0", b"\x05\0\0\0ab"])
def test_an_end_midway(content: bytes) -> None:
    async def life() -> None:
        raw, other = socket.socketpair()
        channel: Channel[Note, Note] = await Channel.open(other, msgspec.msgpack.Decoder(Note))
        raw.sendall(content)
        raw.close()
        assert await channel.receive() is None
        channel.close()

    run(life())


def test_what_is_no_message_here_ends_the_conversation() -> None:
    async def life() -> None:
        raw, other = socket.socketpair()
        channel: Channel[Note, Note] = await Channel.open(other, msgspec.msgpack.Decoder(Note))
        content = msgspec.msgpack.encode({"another": "release"})
        raw.sendall(len(content).to_bytes(4, "little") + content)
        assert await channel.receive() is None
        channel.close()
        raw.close()

    run(life())


def test_who_reads_nothing_costs_a_bounded_amount_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "BUFFERED_BYTES_MAX", 1_000_000)

    async def life() -> None:
        one, other = await ends()
        for number in range(1000):
            one.send(Note(f"{number} {'x' * 10_000}"))
        assert one._writer.transport.get_write_buffer_size() < 1_020_000
        one.send(Note("dropped"))
        first = [await other.receive() for _ in range(50)]
        assert [int(note.text.split()[0]) for note in first if note is not None] == list(range(50))
        one.close()
        rest = []
        while (note := await other.receive()) is not None:
            rest.append(note)
        assert all(len(note.text) > 10_000 for note in rest), "messages are dropped whole"
        other.close()

    run(life())
