"""Jobs from end to end over plain sockets: submits, times each acknowledgement, fetches and checks results."""

import asyncio
import json
import socket
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["JobLoad", "Submitted"]

PAUSE_S = 0.02
ANSWER_S_MAX = 60.0


@dataclass
class Submitted:
    """What became of a run. Times are seconds; `lost` are jobs that were acknowledged and have no result,
    `wrong` those with another result than is known to be right.
    """

    acknowledged: int = 0
    refused: int = 0
    lost: int = 0
    wrong: int = 0
    submitting_s: float = 0.0
    in_all_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)

    @property
    def p99_ms(self) -> float:
        return statistics.quantiles(self.latencies_s, n=100)[98] * 1000

    @property
    def p50_ms(self) -> float:
        return statistics.median(self.latencies_s) * 1000


class JobLoad:
    """Requests over so many connections. Each of `bodies` has the answer in `answers` at the same place."""

    def __init__(self, port: int, path: str, bodies: Sequence[bytes], answers: Sequence[float]) -> None:
        self._port = port
        self._path = path
        self._bodies = bodies
        self._answers = answers

    async def run(self, jobs: int, connections: int, *, fetch: bool) -> Submitted:
        """Submits as fast as is answered, all connections at once; then fetches all results, where wanted."""
        seen = Submitted()
        streams = [await self._connect() for _ in range(connections)]
        begun_s = time.perf_counter()
        numbers = iter(range(jobs))
        shares = await asyncio.gather(*(self._submit(stream, numbers, seen) for stream in streams))
        seen.submitting_s = time.perf_counter() - begun_s
        if fetch:
            await asyncio.gather(
                *(self._fetch(stream, share, seen) for stream, share in zip(streams, shares, strict=True))
            )
        seen.in_all_s = time.perf_counter() - begun_s
        for _, writer in streams:
            writer.close()
        return seen

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return reader, writer

    async def _submit(self, stream, numbers, seen: Submitted) -> list[tuple[int, str]]:
        reader, writer = stream
        taken = []
        for number in numbers:
            body = self._bodies[number % len(self._bodies)]
            head = (
                f"POST {self._path} HTTP/1.1\r\nhost: bench\r\nprefer: respond-async\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            sent_s = time.perf_counter()
            writer.write(head.encode() + body)
            status, answer = await _answer(reader)
            seen.latencies_s.append(time.perf_counter() - sent_s)
            if status != 202:
                seen.refused += 1
                continue
            seen.acknowledged += 1
            taken.append((number, json.loads(answer)["id"]))
        return taken

    async def _fetch(self, stream, taken: list[tuple[int, str]], seen: Submitted) -> None:
        reader, writer = stream
        until_s = time.perf_counter() + ANSWER_S_MAX
        for number, name in taken:
            request = f"GET /v2/jobs/{name}/result HTTP/1.1\r\nhost: bench\r\n\r\n".encode()
            while True:
                writer.write(request)
                status, answer = await _answer(reader)
                if status != 409 or time.perf_counter() > until_s:
                    break
                await asyncio.sleep(PAUSE_S)
            if status != 200:
                seen.lost += 1
                continue
            (value, *_) = [each["data"] for each in json.loads(answer)["outputs"] if each["datatype"] == "FP32"]
            seen.wrong += abs(value[-1] - self._answers[number % len(self._answers)]) > 1e-4


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return int(head[9:12]), await reader.readexactly(length)
