"""Replays flights as requests, a flight each, over a number of connections; measures what comes back."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec
import polars as pl
from examples.flights.data import FEATURES, TEXT_FEATURES

CONNECTIONS = 32
PATH = "/v2/models/late/infer"


@dataclass
class Replayed:
    """The probability of being late for each flight, and each request's seconds from sending to answer."""

    probabilities: list[float]
    latencies_s: list[float]
    seconds: float

    @property
    def requests_per_s(self) -> float:
        return len(self.probabilities) / self.seconds

    def latency_ms(self, quantile: float) -> float:
        ordered = sorted(self.latencies_s)
        return 1000 * ordered[int(quantile * (len(ordered) - 1))]


async def replay(flights: pl.DataFrame, url: str, advance: Callable[[int], None]) -> Replayed:
    """Sends every flight, in order, as soon as a connection is free. `advance` is told of each answer."""
    bodies = enumerate(_bodies(flights))
    answers = [0.0] * len(flights)
    latencies_s: list[float] = []
    started = time.perf_counter()
    async with asyncio.TaskGroup() as connections:
        for _ in range(CONNECTIONS):
            connections.create_task(_send(bodies, url, answers, latencies_s, advance))
    return Replayed(answers, latencies_s, time.perf_counter() - started)


async def _send(
    bodies: Iterator[tuple[int, bytes]],
    url: str,
    answers: list[float],
    latencies_s: list[float],
    advance: Callable[[int], None],
) -> None:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: {address.netloc}\r\ncontent-type: application/json\r\ncontent-length: "
    )
    for index, body in bodies:
        sent = time.perf_counter()
        writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
        answer = await _answer(reader)
        latencies_s.append(time.perf_counter() - sent)
        outputs = {output["name"]: output["data"] for output in answer["outputs"]}
        answers[index] = outputs["probabilities"][1]
        advance(1)
    writer.close()


async def _answer(reader: asyncio.StreamReader) -> dict:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next(
        int(line.partition(":")[2]) for line in head.splitlines() if line.lower().startswith("content-length:")
    )
    body = await reader.readexactly(length)
    if " 200 " not in head.splitlines()[0]:
        raise SystemExit(f"the server answered {head.splitlines()[0]}: {body.decode()}")
    return msgspec.json.decode(body)


def _bodies(flights: pl.DataFrame) -> Iterator[bytes]:
    for row in flights.select(FEATURES).iter_rows(named=True):
        inputs = [
            {
                "name": name,
                "datatype": "BYTES" if name in TEXT_FEATURES else "FP32",
                "shape": [1],
                "data": [value],
            }
            for name, value in row.items()
        ]
        yield msgspec.json.encode({"inputs": inputs})
