"""Replays what happened, faster: events into their topics, and a request for each departure."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import msgspec
import numpy as np
import polars as pl
from examples.flights.data import Events
from examples.flights.train import NUMBERS, TEXTS

from penstock.log.port import Log, Producer
from penstock.log.records import Records, TopicPartition

CONNECTIONS = 16
ATTEMPTS_MAX = 10
STEP_S = 0.05
PATH = "/v2/models/late/infer"


@dataclass
class Replayed:
    """By flight the probability of being late that its request was answered with; each request's seconds from
    sending to answer.

    `refused` counts requests that the server put off, as a machine with much else to do may have it: they were
    asked again when it had said.
    """

    probabilities: dict[str, float] = field(default_factory=dict)
    latencies_s: list[float] = field(default_factory=list)
    refused: int = 0
    seconds: float = 0.0

    @property
    def requests_per_s(self) -> float:
        return len(self.latencies_s) / self.seconds

    def latency_ms(self, quantile: float) -> float:
        ordered = sorted(self.latencies_s)
        return 1000 * ordered[int(quantile * (len(ordered) - 1))]


async def replay(
    events: Events, log: Log, url: str, speed: float, advance: Callable[[int, int], None]
) -> Replayed:
    """Everything in the order in which it happened, `speed` times as fast. `advance` is told of each step: how
    many departures there were, and the time then.
    """
    replayed = Replayed()
    asked: asyncio.Queue[dict[str, object]] = asyncio.Queue(maxsize=10_000)
    producer = log.producer()
    started = time.perf_counter()
    async with asyncio.TaskGroup() as connections:
        askers = [connections.create_task(_ask(asked, url, replayed)) for _ in range(CONNECTIONS)]
        for now_ms, step in _steps(events, speed):
            await _sleep_until(started + (now_ms - _begin_ms(events)) / 1000 / speed)
            await _produce(producer, step)
            for departure in step.departures.iter_rows(named=True):
                await asked.put(departure)
            advance(step.departures.height, now_ms)
        await asked.join()
        for asker in askers:
            asker.cancel()
    replayed.seconds = time.perf_counter() - started
    producer.close()
    return replayed


def _steps(events: Events, speed: float) -> Iterator[tuple[int, Events]]:
    """What happens within each step of real time."""
    begin_ms = _begin_ms(events)
    end_ms = int(events.departures["departed_at"].max()) + 1  # type: ignore[arg-type]
    step_ms = max(1, int(STEP_S * 1000 * speed))
    for from_ms in range(begin_ms, end_ms, step_ms):
        yield from_ms + step_ms, events.within(from_ms, from_ms + step_ms)


def _begin_ms(events: Events) -> int:
    return int(events.weather["observed_at"].min())  # type: ignore[arg-type]


async def _sleep_until(at: float) -> None:
    await asyncio.sleep(max(0.0, at - time.perf_counter()))


async def _produce(producer: Producer, step: Events) -> None:
    appended = []
    for topic in ("weather", "departures", "arrivals"):
        frame: pl.DataFrame = getattr(step, topic)
        if frame.height:
            values = frame.write_ndjson().encode().splitlines()
            records = Records(values=values, times_ms=np.zeros(len(values), np.int64))
            appended.append(asyncio.wrap_future(producer.append(TopicPartition(topic, 0), records)))
    await asyncio.gather(*appended)


async def _ask(asked: asyncio.Queue[dict[str, object]], url: str, replayed: Replayed) -> None:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: {address.netloc}\r\ncontent-type: application/json\r\ncontent-length: "
    )
    try:
        while True:
            departure = await asked.get()
            body = _body(departure)
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
            replayed.probabilities[str(departure["flight"])] = outputs["probabilities"][1]
            asked.task_done()
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    """The status line, the headers by their lower-case names, and the body."""
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return status, headers, await reader.readexactly(int(headers["content-length"]))


def _body(departure: dict[str, object]) -> bytes:
    inputs = [
        {"name": name, "datatype": datatype, "shape": [1], "data": [departure[name]]}
        for datatype, names in (("BYTES", TEXTS), ("FP32", NUMBERS))
        for name in names
    ]
    return msgspec.json.encode({"id": departure["flight"], "inputs": inputs})


def read_all(log: Log, topic: str) -> pl.DataFrame:
    """The rows of a topic of one partition, as they stand."""
    parts, offset = [], 0
    while True:
        fetched = log.admin.read(TopicPartition(topic, 0), offset, records_max=50_000)
        if not len(fetched.records):
            return pl.concat(parts) if parts else pl.DataFrame()
        parts.append(pl.DataFrame([msgspec.json.decode(value) for value in fetched.records.values]))
        offset = fetched.next_offset
