"""A V2 server with a known capacity: one request after the other, each for a fixed time; it may refuse.

`python drill_server.py SERVICE_MS WAIT_MS_MAX` prints its port. A service time of 0 answers at once; a longest
wait of 0 refuses nothing. Half of the refusals say `queue`, half `deadline`; every 10th answer comes from the
rung `cached`. What stood in the requests' headers, and `answered` with 200, is counted at GET /seen.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

METADATA = {
    "name": "double",
    "versions": ["1"],
    "platform": "fake",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
}


def http(status: int, body: bytes, *headers: str) -> bytes:
    lines = "".join(f"{header}\r\n" for header in headers)
    return f"HTTP/1.1 {status} x\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body


class Backend:
    """The queue that all connections share."""

    def __init__(self, service_s: float, wait_s_max: float) -> None:
        self.service_s, self.wait_s_max = service_s, wait_s_max
        self.free_s = 0.0
        self.asked = 0
        self.seen: Counter[str] = Counter()

    def take(self) -> tuple[float, bytes]:
        """When the answer is due (a monotonic time), and the answer."""
        now_s = time.monotonic()
        self.asked += 1
        starts_s = max(self.free_s, now_s)
        if self.wait_s_max and starts_s - now_s > self.wait_s_max:
            reason = "queue" if self.asked % 2 else "deadline"
            self.seen[f"refused={reason}"] += 1
            return now_s, http(503, b"{}", f"X-Shed-Reason: {reason}", "retry-after: 1")
        self.free_s = starts_s + self.service_s
        self.seen["answered"] += 1
        rung = ["x-penstock-rung: cached"] if self.asked % 10 == 0 else []
        return self.free_s, http(200, b'{"outputs": []}', *rung)


class Session(asyncio.Protocol):
    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, rest = self.received.partition(b"\r\n\r\n")
        if not found:
            return
        if head.startswith(b"GET"):
            self.received = rest
            told = self.backend.seen if b"/seen" in head.split(b"\r\n")[0] else METADATA
            self.transport.write(http(200, json.dumps(told).encode()))
            return
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if len(rest) < int(fields[b"content-length"]):
            return
        self.received = b""
        for name in (b"x-criticality", b"x-api-key", b"x-request-timeout-ms", b"x-retry-attempt"):
            if name in fields:
                self.backend.seen[f"{name.decode()}={fields[name].decode()}"] += 1
        due_s, answer = self.backend.take()
        wait_s = due_s - time.monotonic()
        if wait_s <= 0:
            self.transport.write(answer)
        else:
            asyncio.get_running_loop().call_later(wait_s, self.transport.write, answer)


async def serve(service_s: float, wait_s_max: float) -> None:
    backend = Backend(service_s, wait_s_max)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Session(backend), "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


@contextmanager
def running_backend(*, service_ms: float, wait_ms_max: float = 0.0) -> Iterator[int]:
    """Its port."""
    command = [sys.executable, str(Path(__file__)), str(service_ms), str(wait_ms_max)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(float(sys.argv[1]) / 1e3, float(sys.argv[2]) / 1e3))
