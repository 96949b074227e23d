"""Streamed bodies and answers over real sockets: whatever their size, what is held is bounded."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import uvloop
from command_line import PATIENCE_S

from penstock.core.clock import SystemClock
from penstock.serving.protocols.http.connection import HttpConnection
from penstock.serving.protocols.http.heads import KnownHeads, RequestHead
from penstock.serving.protocols.http.messages import (
    ConnectionLimits,
    DateLine,
    HttpHungUp,
    HttpRequest,
    ReceiveBudget,
    ResponseHead,
    SharedParts,
)

LIMITS = ConnectionLimits(head_bytes_max=10_000, body_bytes_max=1000, receive_timeout_s=30, keep_alive_s=60)
HEAD = ResponseHead.build(200, "application/octet-stream")
PIECE = bytes(range(256)) * 256
HELD_BYTES_MAX = 1024 * 1024


class Streams:
    """Echoes what comes under `/echo`, counts it under `/count`, and sends without end under `/endless`."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self.budget = ReceiveBudget(10**9)
        self.held_bytes = 0
        self.sent_bytes = 0
        self.abandoned = threading.Event()

    def meet(self, head, arrived_s, sink):
        return None

    def wants_stream(self, head: RequestHead) -> bool:
        return head.method == b"POST"

    def handle(self, request: HttpRequest) -> None:
        answer = {b"/echo": self.echo, b"/count": self.count, b"/endless": self.endless}[request.target]
        task = asyncio.get_running_loop().create_task(answer(request))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        request.on_abandoned = self.abandoned.set

    def refusal(self, status: int, message: str, headers: dict[bytes, bytes]) -> tuple[bytes, bytes]:
        return b"", message.encode()

    async def read(self, request: HttpRequest) -> bytes:
        assert request.body_stream is not None
        piece = await request.body_stream.read()
        self.held_bytes = max(self.held_bytes, self.budget.used_bytes + len(piece))
        return piece

    async def echo(self, request: HttpRequest) -> None:
        request.begin(HEAD)
        while piece := await self.read(request):
            await request.send(piece)
        request.finish()

    async def count(self, request: HttpRequest) -> None:
        total = 0
        while piece := await self.read(request):
            total += len(piece)
            await asyncio.sleep(0.001)  # slower than it comes
        request.respond(HEAD, b"%d" % total)

    async def endless(self, request: HttpRequest) -> None:
        request.begin(HEAD)
        try:
            while True:
                await request.send(PIECE)
                self.sent_bytes += len(PIECE)
        except HttpHungUp:
            pass


@pytest.fixture(params=["asyncio", "uvloop"])
def served(request: pytest.FixtureRequest) -> Iterator[tuple[Streams, int]]:
    """A server in a thread, and its port."""
    streams = Streams()
    loop = uvloop.new_event_loop() if request.param == "uvloop" else asyncio.new_event_loop()
    shared = SharedParts(LIMITS, streams.budget, DateLine(datetime.now(UTC)), KnownHeads())

    def connect() -> HttpConnection:
        return HttpConnection(streams, shared, SystemClock(), lambda _: None)

    server: Any = loop.run_until_complete(loop.create_server(connect, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield streams, server.sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(loop.stop)
    thread.join(PATIENCE_S)
    server.close()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def post(port: int, path: str, pieces: Iterator[bytes]) -> bytes:
    answer = httpx.post(f"http://127.0.0.1:{port}{path}", content=pieces, timeout=PATIENCE_S, trust_env=False)
    assert answer.status_code == 200
    return answer.content


def test_a_large_body_is_read_in_bounded_memory(served: tuple[Streams, int]) -> None:
    streams, port = served
    assert post(port, "/count", (PIECE for _ in range(1000))) == b"%d" % (1000 * len(PIECE))
    assert streams.held_bytes < HELD_BYTES_MAX
    assert streams.budget.used_bytes == 0


def test_an_echo_is_exact_and_bounded(served: tuple[Streams, int]) -> None:
    streams, port = served
    count = 500
    received = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        connection.sendall(b"POST /echo HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % (count * len(PIECE)))
        sender = threading.Thread(target=lambda: [connection.sendall(PIECE) for _ in range(count)])
        sender.start()
        while part := connection.recv(1 << 20):
            received += part
        sender.join(PATIENCE_S)
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert body == PIECE * count
    assert streams.held_bytes < HELD_BYTES_MAX


def test_a_client_that_does_not_read_gets_no_more_than_buffers_hold(served: tuple[Streams, int]) -> None:
    streams, port = served
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.sendall(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n")
        assert connection.recv(100)
        before = -1
        while streams.sent_bytes != before:
            before = streams.sent_bytes
            threading.Event().wait(0.3)
        assert streams.sent_bytes < 32 * 1024 * 1024
        assert not streams.abandoned.is_set()
    assert streams.abandoned.wait(PATIENCE_S)
