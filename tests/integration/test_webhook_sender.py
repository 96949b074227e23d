"""One webhook, to servers that behave in ways of their own."""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from penstock.core.clock import SystemClock
from penstock.serving.jobs import webhook_sender
from penstock.serving.jobs.webhook_names import Names
from penstock.serving.jobs.webhook_sender import WebhookFailed, WebhookSender

ALLOWED = [ipaddress.ip_network("127.0.0.0/8")]
Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def sender(timeout_s: float = 10.0, **hosts: list[str]) -> WebhookSender:
    def look_up(host: str, port: int):
        return [ipaddress.ip_address(each) for each in hosts[host.partition(".")[0]]]

    return WebhookSender(ALLOWED, timeout_s, Names(SystemClock(), look_up))


@asynccontextmanager
async def serving(answering: Answering, address: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """The port of a server, all of whose connections are through when this ends."""
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        with suppress(OSError):
            await answering(reader, writer)
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(connected, address, port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        if connections:
            await asyncio.wait(connections)


def sent(answering: Answering, webhook: WebhookSender, host: str) -> None:
    async def sending() -> None:
        async with serving(answering) as port:
            await webhook.send(f"http://{host}:{port}/", {}, b"{}")

    asyncio.run(sending())


def saying(answer: bytes, hold: bool = False) -> Answering:
    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(answer)
        if hold:  # as servers do that pay no heed to connection: close
            await reader.read()

    return answering


def test_an_address_that_takes_nothing_leaves_time_for_the_next() -> None:
    # Its backlog is full, and it drops what comes.
    full = socket.create_server(("127.0.0.3", 0), backlog=0)
    waiting = []
    for _ in range(4):
        waiting.append(socket.socket())
        waiting[-1].setblocking(False)
        waiting[-1].connect_ex(full.getsockname())

    async def sending() -> None:
        port = full.getsockname()[1]
        async with serving(saying(b"HTTP/1.1 200 OK\r\n\r\n"), port=port):
            await sender(3.0, two=["127.0.0.3", "127.0.0.1"]).send(f"http://two.example:{port}/", {}, b"{}")

    try:
        asyncio.run(sending())
    finally:
        for each in (full, *waiting):
            each.close()


def test_an_answer_ends_where_its_length_says(monkeypatch: pytest.MonkeyPatch) -> None:
    # Were it waited for the end of the connection, it would be for longer than a webhook may take.
    monkeypatch.setattr(webhook_sender, "BODY_TIMEOUT_S", 60.0)
    for answer in (
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 202 Accepted\r\ncontent-length:  2\r\n\r\nok",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ):
        sent(saying(answer, hold=True), sender(), "127.0.0.1")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", "it answered 500"),
        (b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\n\r\n", "redirects are not followed"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "is not HTTP"),
        (b"", "hung up"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000 + b"\r\n", "more than 65536 bytes"),
        (b"HTTP/1.1 200 OK\r\na: " + b"b" * 70_000 + b"\r\n\r\n", "more than 65536 bytes"),
    ],
)
def test_answers_that_are_none(answer: bytes, said: str) -> None:
    with pytest.raises(WebhookFailed, match=said):
        sent(saying(answer), sender(), "127.0.0.1")


def test_a_name_of_which_one_address_is_inside_is_not_told() -> None:
    with pytest.raises(WebhookFailed, match=r"two.example is 10.0.0.1 is not on the public internet") as caught:
        sent(saying(b"HTTP/1.1 200 OK\r\n\r\n"), sender(two=["127.0.0.1", "10.0.0.1"]), "two.example")
    assert caught.value.final


def test_a_body_has_a_bound_whatever_its_length_says() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999999999999999\r\n\r\n" + b"x" * 200_000
    sent(saying(answer), sender(), "127.0.0.1")
