"""An HTTP server that answers as a test tells it to: late, in halves, with nonsense."""

import asyncio
import json
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

PATIENCE_S = 20.0
DOUBLE = {
    "name": "double",
    "versions": ["1"],
    "platform": "fake",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
}


@dataclass(frozen=True)
class Asked:
    """A request for an inference, with the monotonic time at which it was there."""

    headers: dict[str, str]
    body: bytes
    at_s: float


@dataclass(frozen=True)
class Reply:
    """These bytes, after a wait; `then` the connection is kept or closed."""

    data: bytes
    wait_s: float = 0.0
    then: str = "keep"


def http(status: int, body: bytes = b"", **headers: str) -> Reply:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return Reply(f"HTTP/1.1 {status} x\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body)


def refusal(status: int, **headers: str) -> Reply:
    return http(status, b'{"error": "not now"}', **headers)


def answer(value: float = 2.0, **headers: str) -> Reply:
    """One row of `double`."""
    output = {"name": "y", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}
    head = json.dumps({"model_name": "double", "model_version": "1", "outputs": [output]}).encode()
    return http(200, head + struct.pack("<f", value), inference_header_content_length=str(len(head)), **headers)


@dataclass
class FakeServer:
    """Metadata and readiness it answers by itself, inferences by `behave`, which gets their number from 0."""

    behave: Callable[[int], Reply]
    metadata: dict[str, Any] = field(default_factory=lambda: dict(DOUBLE))
    ready: bool = True
    asked: list[Asked] = field(default_factory=list)
    hung_up: int = 0
    probes: int = 0
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if "/health/ready" in first or first.split()[1].endswith("/ready"):
            self.probes += 1
            reply = http(200 if self.ready else 503, b"{}")
        elif first.startswith("GET"):
            reply = http(200, json.dumps(self.metadata).encode())
        else:
            self.asked.append(Asked(headers, body, time.monotonic()))
            reply = self.behave(len(self.asked) - 1)
        if reply.wait_s and await self._hangs_up(reader, reply.wait_s):
            self.hung_up += 1
            return False
        writer.write(reply.data)
        await writer.drain()
        return reply.then == "keep"

    async def _hangs_up(self, reader: asyncio.StreamReader, wait_s: float) -> bool:
        """Whether the client goes within the time."""
        try:
            async with asyncio.timeout(wait_s):
                return await reader.read(1) == b""
        except TimeoutError:
            return False


@contextmanager
def faking(behave: Callable[[int], Reply] = lambda number: answer(), port: int = 0) -> Iterator[FakeServer]:
    """A server in a thread; its connections are cut at the end."""
    fake = FakeServer(behave)
    loop = asyncio.new_event_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await fake.serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()

    async def stop(server: asyncio.Server) -> None:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    server = loop.run_until_complete(asyncio.start_server(connected, "127.0.0.1", port))
    fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield fake
    finally:
        asyncio.run_coroutine_threadsafe(stop(server), loop).result(PATIENCE_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_S)
        loop.close()


def eventually(true: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline_s, "it does not come about"
        time.sleep(0.01)
