"""Bad input over HTTP, each kind with the answers that are right for it.

Every case is one exchange on a connection of its own, bounded in bytes and time. The outcome is the status of
the first answer, or `closed` where the connection ended without one.
"""

import asyncio
import contextlib
import gzip
import json
import random
import socket
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["HTTP_CASES", "Case", "Wire", "exchange"]

EXCHANGE_S_MAX = 20.0
ANSWER_BYTES_MAX = 1 << 22
INFER = "/v2/models/late/infer"
INVOCATIONS = "/models/late/invocations"
FEATURES = 30
BOMB_BYTES = 64 << 20

BAD = frozenset({"400"})
BAD_OR_CLOSED = frozenset({"400", "408", "closed"})
ANY_4XX = frozenset({"400", "404", "405", "408", "411", "413", "414", "415", "422", "431"})
GOOD = frozenset({"200"})


@dataclass(frozen=True, kw_only=True)
class Wire:
    """What is sent, with a pause after each piece; and how the sending ends."""

    pieces: Sequence[bytes]
    pause_s: float = 0.0
    half_close: bool = False
    reset: bool = False


@dataclass(frozen=True, kw_only=True)
class Case:
    """A kind of input, and what may come of it."""

    name: str
    make: Callable[[random.Random], Wire]
    expected: frozenset[str]


async def exchange(port: int, wire: Wire) -> str:
    """Sends it and reads until the server closes. `timeout`: it never did; `refused`: nobody listens."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return "refused"
    try:
        async with asyncio.timeout(EXCHANGE_S_MAX):
            return await _talk(reader, writer, wire)
    except TimeoutError:
        return "timeout"
    finally:
        writer.transport.abort()


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wire: Wire) -> str:
    # A server that has heard enough answers and closes; what it said is read whether or not it took all.
    with contextlib.suppress(OSError):
        for piece in wire.pieces:
            if reader.at_eof():
                break
            writer.write(piece)
            await writer.drain()
            if wire.pause_s:
                await asyncio.sleep(wire.pause_s)
        if wire.reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return "closed"
        if wire.half_close:
            writer.write_eof()
    answer = b""
    with contextlib.suppress(OSError):
        while len(answer) < ANSWER_BYTES_MAX and (piece := await reader.read(65536)):
            answer += piece
    line = answer.split(b"\r\n", 1)[0].split(b" ")
    return line[1].decode(errors="replace") if len(line) > 1 and line[0].startswith(b"HTTP/") else "closed"


def request(
    body: bytes, headers: Mapping[str, str] | None = None, *, path: str = INFER, length: int | None = None
) -> bytes:
    """A POST; `length` is what it says of the body's length, where that is not true."""
    said = {"Host": "x", "Connection": "close", "Content-Type": "application/json"} | dict(headers or {})
    said["Content-Length"] = str(len(body) if length is None else length)
    head = "".join(f"{name}: {value}\r\n" for name, value in said.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": "FP32", "shape": [1, FEATURES], "data": [0.5] * FEATURES} | changes


def infer(*tensors: Any, **further: Any) -> bytes:
    return json.dumps({"inputs": list(tensors), **further}).encode()


def _wire(body: bytes, headers: Mapping[str, str] | None = None, **how: Any) -> Callable[[random.Random], Wire]:
    sent = request(body, headers, **how)
    return lambda _: Wire(pieces=[sent])


def _mutated(form: Callable[[], tuple[bytes, str]]) -> Callable[[random.Random], Wire]:
    """A good body with some of its bytes changed, left out, or said twice."""

    def make(rng: random.Random) -> Wire:
        body, path = form()
        content = bytearray(body)
        for _ in range(rng.randint(1, 8)):
            at = rng.randrange(len(content))
            match rng.randrange(3):
                case 0:
                    content[at] = rng.randrange(256)
                case 1:
                    del content[at : at + rng.randint(1, 16)]
                    content = content or bytearray(b"{")
                case _:
                    content[at:at] = content[at : at + rng.randint(1, 16)]
        return Wire(pieces=[request(bytes(content), path=path)])

    return make


def _random_bytes(rng: random.Random) -> Wire:
    return Wire(pieces=[rng.randbytes(rng.randint(1, 4096))], half_close=True)


def _random_body(rng: random.Random) -> Wire:
    return Wire(pieces=[request(rng.randbytes(rng.randint(1, 4096)))])


def _random_binary(rng: random.Random) -> Wire:
    """A binary request that lies about where its head ends, or how long its tensors are."""
    data = rng.randbytes(FEATURES * 4)
    size = rng.choice([0, 1, len(data) - 1, len(data) + 1, -1, 2**31, 2**63, 2**70])
    head = infer({**tensor(), "data": None, "parameters": {"binary_data_size": size}})
    length = rng.choice([len(head), len(head) - 1, len(head) + 1, 0, -1, 2**40, 2**70])
    return Wire(pieces=[request(head + data, {"Inference-Header-Content-Length": str(length)})])


def _lying_length(rng: random.Random) -> Wire:
    body = infer(tensor())
    return Wire(pieces=[request(body, length=len(body) + rng.randint(1, 10_000))], half_close=True)


def _lying_shape(rng: random.Random) -> Wire:
    shape = rng.choice(
        [[1, 29], [2, 30], [0, 30], [-1, 30], [1, 2**31], [2**32, 2**32], [2**63, 30], [30], [1, 30, 1]]
    )
    return Wire(pieces=[request(infer(tensor(shape=shape)))])


def _slow(rng: random.Random) -> Wire:
    sent = request(infer(tensor()))
    stop = rng.randint(10, 60)
    return Wire(pieces=[sent[at : at + 1] for at in range(stop)], pause_s=0.1, half_close=True)


def _reset_midway(rng: random.Random) -> Wire:
    sent = request(infer(tensor()))
    return Wire(pieces=[sent[: rng.randrange(1, len(sent))]], reset=True)


def _hung_up(_: random.Random) -> Wire:
    return Wire(pieces=[request(infer(tensor()))], reset=True)


def _header_flood(rng: random.Random) -> Wire:
    lines = b"".join(b"x-%d: %s\r\n" % (number, b"v" * rng.randint(1, 64)) for number in range(3000))
    return Wire(pieces=[b"GET /v2 HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n"])


def _chunked(rng: random.Random) -> Wire:
    size = rng.choice([b"-1", b"zz", b"ffffffffffffffffffff", b"", b"10000000"])
    head = (
        b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        % INFER.encode()
    )
    return Wire(pieces=[head + size + b"\r\nabc\r\n"], half_close=True)


def _two_lengths(_: random.Random) -> Wire:
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    return Wire(pieces=[head % INFER.encode()], half_close=True)


def _deep(rng: random.Random) -> Wire:
    depth = rng.choice([100, 2000, 100_000])
    return Wire(pieces=[request(b'{"inputs": ' + b"[" * depth + b"]" * depth + b"}")])


def _nothing_but_open(_: random.Random) -> Wire:
    return Wire(pieces=[], half_close=True)


def _good_half_closed(_: random.Random) -> Wire:
    return Wire(pieces=[request(infer(tensor()))], half_close=True)


def _invocation() -> tuple[bytes, str]:
    return json.dumps({"instances": [[0.5] * FEATURES]}).encode(), INVOCATIONS


def _rows(form: object) -> Callable[[random.Random], Wire]:
    return _wire(json.dumps(form).encode(), path=INVOCATIONS)


def _random_lines(rng: random.Random) -> Wire:
    """A batch of lines, good and bad ones."""
    good = json.dumps({"x": [0.5] * FEATURES}).encode()
    bad = [rng.randbytes(rng.randint(0, 80)).replace(b"\n", b" ") for _ in range(20)]
    lines = [good if rng.random() < 0.5 else each for each in bad]
    return Wire(pieces=[request(b"\n".join(lines), {"Content-Type": "application/x-ndjson"}, path=INVOCATIONS)])


def _random_arrow(rng: random.Random) -> Wire:
    """Bytes behind the beginning of an Arrow stream, with a length that may be anything."""
    length = rng.choice([b"\x10\x00\x00\x00", rng.randbytes(4), b"\xff\xff\xff\x7f"])
    content = b"\xff\xff\xff\xff" + length + rng.randbytes(rng.randint(0, 2000))
    arrow = {"Content-Type": "application/vnd.apache.arrow.stream"}
    return Wire(pieces=[request(content, arrow, path=INVOCATIONS)])


LYING_SPLIT = {"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}
GZIP, DEFLATE = {"Content-Encoding": "gzip"}, {"Content-Encoding": "deflate"}
BOMB, DEFLATE_BOMB = gzip.compress(bytes(BOMB_BYTES), 1), zlib.compress(bytes(BOMB_BYTES), 1)
TINY = [{"name": f"t{number}", "datatype": "FP32", "shape": [0], "data": []} for number in range(20_000)]

HTTP_CASES: tuple[Case, ...] = (
    Case(name="deflate bomb", make=_wire(DEFLATE_BOMB, DEFLATE), expected=frozenset({"413", "400"})),
    Case(name="rows: no form", make=_rows({}), expected=ANY_4XX),
    Case(name="rows: two forms", make=_rows({"instances": [], "inputs": []}), expected=ANY_4XX),
    Case(name="rows: too narrow", make=_rows({"instances": [[1.0]]}), expected=ANY_4XX),
    Case(name="rows: text", make=_rows({"instances": [["a"] * FEATURES]}), expected=ANY_4XX),
    Case(name="rows: lying columns", make=_rows(LYING_SPLIT), expected=ANY_4XX),
    Case(name="rows: random lines", make=_random_lines, expected=ANY_4XX | GOOD),
    Case(name="rows: random Arrow", make=_random_arrow, expected=ANY_4XX | GOOD),
    Case(name="malformed JSON", make=_wire(b'{"inputs": [}'), expected=BAD),
    Case(name="no JSON", make=_wire(b"\xff\xfe\x00"), expected=BAD),
    Case(name="empty body", make=_wire(b""), expected=BAD),
    Case(name="invalid UTF-8", make=_wire(infer(tensor()).replace(b'"x"', b'"\xc3\x28"')), expected=BAD),
    Case(name="deep nesting", make=_deep, expected=BAD),
    Case(name="two tensors of one name", make=_wire(infer(tensor(), tensor())), expected=BAD),
    Case(name="unknown tensor", make=_wire(infer(tensor(name="y"))), expected=BAD),
    Case(name="unknown datatype", make=_wire(infer(tensor(datatype="FP31"))), expected=BAD),
    Case(name="text for numbers", make=_wire(infer(tensor(data=["a"] * FEATURES))), expected=BAD),
    Case(name="lying shape", make=_lying_shape, expected=BAD | GOOD),
    Case(name="20,000 tiny tensors", make=_wire(infer(*TINY)), expected=BAD),
    Case(
        name="wrong parameters",
        make=_wire(infer(tensor(), parameters={"timeout": "soon"})),
        expected=BAD | GOOD,
    ),
    Case(name="unknown output", make=_wire(infer(tensor(), outputs=[{"name": "?"}])), expected=BAD),
    Case(name="lying binary lengths", make=_random_binary, expected=BAD | GOOD),
    Case(name="lying content length", make=_lying_length, expected=BAD_OR_CLOSED),
    Case(name="random bytes", make=_random_bytes, expected=BAD_OR_CLOSED),
    Case(name="random body", make=_random_body, expected=BAD),
    Case(name="mutated request", make=_mutated(lambda: (infer(tensor()), INFER)), expected=BAD | GOOD),
    Case(name="mutated invocation", make=_mutated(_invocation), expected=ANY_4XX | GOOD),
    Case(name="compressed bomb", make=_wire(BOMB, GZIP), expected=frozenset({"413", "400"})),
    Case(name="broken gzip", make=_wire(b"\x1f\x8b" + b"x" * 100, GZIP), expected=BAD),
    Case(name="cut deflate", make=_wire(zlib.compress(infer(tensor()))[:-9], DEFLATE), expected=BAD),
    Case(
        name="unknown encoding",
        make=_wire(infer(tensor()), {"Content-Encoding": "lzw"}),
        expected=frozenset({"415"}),
    ),
    Case(
        name="wrong content type",
        make=_wire(infer(tensor()), {"Content-Type": "image/png"}),
        expected=ANY_4XX | GOOD,
    ),
    Case(name="header flood", make=_header_flood, expected=frozenset({"431", "400"})),
    Case(name="broken chunks", make=_chunked, expected=BAD_OR_CLOSED | {"413"}),
    Case(name="two lengths", make=_two_lengths, expected=BAD_OR_CLOSED),
    Case(name="slow loris", make=_slow, expected=BAD_OR_CLOSED),
    Case(name="reset in mid-request", make=_reset_midway, expected=frozenset({"closed"})),
    Case(name="hung up before the answer", make=_hung_up, expected=frozenset({"closed"})),
    Case(name="opened and closed", make=_nothing_but_open, expected=BAD_OR_CLOSED),
    # A client that closes its side counts as gone, unless the answer was quicker.
    Case(name="half-closed, but whole", make=_good_half_closed, expected=GOOD | {"closed"}),
    Case(
        name="no such model",
        make=_wire(infer(tensor()), path="/v2/models/none/infer"),
        expected=frozenset({"404"}),
    ),
    Case(
        name="no such version",
        make=_wire(infer(tensor()), path="/v2/models/late/versions/-9e9/infer"),
        expected=ANY_4XX,
    ),
    Case(name="path outside", make=_wire(b"{}", path="/v2/models/../../etc/passwd"), expected=ANY_4XX),
    Case(name="long path", make=_wire(b"{}", path="/" + "a" * 20_000), expected=ANY_4XX),
)
