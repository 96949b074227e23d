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
ATTEMPTS_MAX = 10
PATH = "/v2/models/late/infer"


@dataclass
class Replayed:
    """The probability of being late for each flight, and each request's seconds from sending to answer.

    `refused` counts requests that the server put off, as a machine with much else to do may have it: they were
    asked again when it had said.
    """

    probabilities: list[float]
    latencies_s: list[float]
    refused: int
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
    replayed = Replayed(probabilities=[0.0] * len(flights), latencies_s=[], refused=0, seconds=0.0)
    started = time.perf_counter()
    async with asyncio.TaskGroup() as connections:
        for _ in range(CONNECTIONS):
            connections.create_task(_send(bodies, url, replayed, advance))
    replayed.seconds = time.perf_counter() - started
    return replayed


async def _send(
    bodies: Iterator[tuple[int, bytes]], url: str, replayed: Replayed, advance: Callable[[int], None]
) -> None:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: {address.netloc}\r\ncontent-type: application/json\r\ncontent-length: "
    )
    for index, body in bodies:
        for attempt in range(ATTEMPTS_MAX):
            sent = time.perf_counter()
            writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
            status, headers, answer = await _answer(reader)
            if " 503 " not in status or attempt + 1 == ATTEMPTS_MAX:
                break
            replayed.refused += 1
            await asyncio.sleep(float(headers["retry-after"]))
        if " 200 " not in status:
            raise SystemExit(f"the server answered {status}: {answer.decode()}")
        replayed.latencies_s.append(time.perf_counter() - sent)
        outputs = {output["name"]: output["data"] for output in msgspec.json.decode(answer)["outputs"]}
        replayed.probabilities[index] = outputs["probabilities"][1]
        advance(1)
    writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    """The status line, the headers by their lower-case names, and the body."""
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return status, headers, await reader.readexactly(int(headers["content-length"]))


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
