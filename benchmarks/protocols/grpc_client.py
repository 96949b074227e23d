"""A closed-loop gRPC client, as a process of its own: `python -m benchmarks.protocols.grpc_client --help`.

It sends ready-made messages over gRPC's own C library and leaves answers unread, so that it costs as little
as a client in Python can. Prints one JSON object; `cpu_s` tells whether the client itself was the limit.
"""

import argparse
import asyncio
import json
import time
from collections import Counter
from pathlib import Path

import grpc
import grpc.aio

from benchmarks.protocols.v2_messages import INFER_METHOD

__all__ = ["main"]

CALL_S_MAX = 10.0
CHANNELS = 4
OPTIONS = (("grpc.use_local_subchannel_pool", 1),)


class Caller:
    """Keeps calls in flight until a time; counts those answered from `counted_from_s` on, failures always."""

    def __init__(self, messages: list[bytes], pause_s: float, counted_from_s: float, until_s: float) -> None:
        self._messages = messages
        self._pause_s = pause_s
        self._counted_from_s = counted_from_s
        self._until_s = until_s
        self.latencies_us: list[int] = []
        self.failures: Counter[str] = Counter()

    async def run(self, call: grpc.aio.UnaryUnaryMultiCallable, turn: int) -> None:
        while (begun_s := time.monotonic()) < self._until_s:
            try:
                answer = await call(self._messages[turn % len(self._messages)], timeout=CALL_S_MAX)
            except grpc.aio.AioRpcError as error:
                self.failures[error.code().name] += 1
                continue
            ended_s = time.monotonic()
            if not answer:
                self.failures["empty answer"] += 1
            elif self._counted_from_s <= ended_s < self._until_s:
                self.latencies_us.append(round((ended_s - begun_s) * 1e6))
            turn += 1
            if self._pause_s:
                await asyncio.sleep(self._pause_s)


async def measure(options: argparse.Namespace) -> dict[str, object]:
    messages = [file.read_bytes() for file in options.message]
    channels = [grpc.aio.insecure_channel(options.target, options=OPTIONS) for _ in range(CHANNELS)]
    try:
        for channel in channels:
            await asyncio.wait_for(channel.channel_ready(), CALL_S_MAX)
        counted_from_s = time.monotonic() + options.warmup
        caller = Caller(messages, options.pause, counted_from_s, counted_from_s + options.seconds)
        calls = [channel.unary_unary(INFER_METHOD) for channel in channels]
        running = [
            asyncio.ensure_future(caller.run(calls[number % CHANNELS], number))
            for number in range(options.concurrency)
        ]
        await asyncio.sleep(options.warmup)
        cpu_s = time.process_time()
        await asyncio.sleep(options.seconds)
        cpu_s = time.process_time() - cpu_s
        await asyncio.gather(*running)
    finally:
        for channel in channels:
            await channel.close()
    return {
        "answered": len(caller.latencies_us),
        "failures": dict(caller.failures),
        "seconds": options.seconds,
        "cpu_s": cpu_s,
        "latencies_us": sorted(caller.latencies_us),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", help="host:port")
    parser.add_argument("message", type=Path, nargs="+", help="files, each a request's message")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warmup", type=float, default=1.0)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds that each caller waits between calls")
    print(json.dumps(asyncio.run(measure(parser.parse_args()))))


if __name__ == "__main__":
    main()
