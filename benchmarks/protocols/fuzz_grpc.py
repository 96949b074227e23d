"""Bad input over gRPC: bytes that are no HTTP/2, frames that are no gRPC, messages that are no request."""

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.protocols.fuzz import Wire
from benchmarks.protocols.v2_messages import infer_request

__all__ = ["CLIENT_FAULTS", "GRPC_CASES", "WIRES", "GrpcCase"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAMES_MAX = 50
FRAME_TYPES = 12
FEATURES = 30

CLIENT_FAULTS = frozenset(
    {"INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED", "OUT_OF_RANGE"}
)
"""Codes that say that the request was at fault. INTERNAL and UNKNOWN say that the server was."""


@dataclass(frozen=True, kw_only=True)
class GrpcCase:
    """A message for ModelInfer; `OK` too is right where `may_pass`."""

    name: str
    make: Callable[[random.Random], bytes]
    may_pass: bool = False


def _garbage(rng: random.Random) -> bytes:
    return rng.randbytes(rng.randint(1, 2000))


def _mutated(rng: random.Random) -> bytes:
    content = bytearray(_good())
    for _ in range(rng.randint(1, 8)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content)


def _cut(rng: random.Random) -> bytes:
    good = _good()
    return good[: rng.randrange(len(good))]


def _good(model: str = "late", name: str = "x") -> bytes:
    import numpy as np

    return infer_request(model, name, np.full((1, FEATURES), 0.5, np.float32), raw=True)


def _wrong_width(rng: random.Random) -> bytes:
    import numpy as np

    return infer_request(
        "late", "x", np.zeros((1, rng.choice([1, 29, 31, 1000])), np.float32), raw=rng.random() < 0.5
    )


GRPC_CASES: tuple[GrpcCase, ...] = (
    GrpcCase(name="gRPC: garbage", make=_garbage),
    GrpcCase(name="gRPC: mutated request", make=_mutated, may_pass=True),
    GrpcCase(name="gRPC: cut request", make=_cut),
    GrpcCase(name="gRPC: empty message", make=lambda _: b""),
    GrpcCase(name="gRPC: wrong width", make=_wrong_width),
    GrpcCase(name="gRPC: no such model", make=lambda _: _good(model="none")),
    GrpcCase(name="gRPC: no such tensor", make=lambda _: _good(name="?")),
)


def _no_http2(rng: random.Random) -> Wire:
    return Wire(pieces=[rng.randbytes(rng.randint(1, 4096))], half_close=True)


def _random_frames(rng: random.Random) -> Wire:
    """The preface and empty settings, then frames of random types, flags, streams and content."""
    frames = [PREFACE, _frame(4, 0, 0, b"")]
    for _ in range(rng.randint(1, FRAMES_MAX)):
        content = rng.randbytes(rng.choice([0, 4, 8, rng.randint(0, 500)]))
        frames.append(_frame(rng.randrange(FRAME_TYPES), rng.randrange(256), rng.randrange(8), content))
    return Wire(pieces=frames, half_close=True)


def _plain_http(_: random.Random) -> Wire:
    return Wire(pieces=[b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"], half_close=True)


def _cut_frame(rng: random.Random) -> Wire:
    whole = PREFACE + _frame(4, 0, 0, b"") + _frame(1, 4, 1, rng.randbytes(40))
    return Wire(pieces=[whole[: rng.randrange(1, len(whole))]], reset=rng.random() < 0.5, half_close=True)


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, stream) + content


WIRES: dict[str, Callable[[random.Random], Wire]] = {
    "gRPC port: no HTTP/2": _no_http2,
    "gRPC port: random frames": _random_frames,
    "gRPC port: plain HTTP/1": _plain_http,
    "gRPC port: cut frame": _cut_frame,
}
"""What comes of them is a closed connection, at most after some frames."""
