"""The gRPC part of a soak: good calls that have to be answered, and bad ones between them."""

import asyncio
import random
import time
from collections import Counter
from typing import Protocol

import numpy as np

from benchmarks.protocols.fuzz_grpc import CLIENT_FAULTS, GRPC_CASES
from benchmarks.protocols.v2_messages import INFER_METHOD, infer_request

__all__ = ["GrpcTraffic"]

PAUSE_S = 0.005
CALL_S_MAX = 10.0
BAD_SHARE = 0.3
FEATURES = 30


class Note(Protocol):
    """Takes what came of a bad request."""

    def __call__(self, case: str, outcome: str, *, expected: bool) -> None: ...


class GrpcTraffic:
    """Calls one after the other on one channel."""

    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self._rng = random.Random(seed)
        self.answered = 0
        self.failures: Counter[str] = Counter()

    async def run(self, until_s: float, note: Note) -> None:
        import grpc.aio

        good = infer_request("late", "x", np.full((1, FEATURES), 0.5, np.float32), raw=True)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self._port}") as channel:
            call = channel.unary_unary(INFER_METHOD)
            while time.monotonic() < until_s:
                if self._rng.random() < BAD_SHARE:
                    case = self._rng.choice(GRPC_CASES)
                    code = await _code(call, case.make(self._rng))
                    note(case.name, code, expected=code in CLIENT_FAULTS or (case.may_pass and code == "OK"))
                elif (code := await _code(call, good)) == "OK":
                    self.answered += 1
                else:
                    self.failures[code] += 1
                await asyncio.sleep(PAUSE_S)


async def _code(call, message: bytes) -> str:  # type: ignore[no-untyped-def]
    import grpc.aio

    try:
        await call(message, timeout=CALL_S_MAX)
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    return "OK"
