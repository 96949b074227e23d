"""A closed-loop gRPC client for measuring servers: so many calls are open at any time.

It speaks just enough HTTP/2 for one method over one connection, with headers that are written once. What a call
costs it is a fraction of what it costs gRPC's own Python client, which would then be what is measured.

    python benchmarks/load/grpc_closedloop.py HOST:PORT /package.Service/Method REQUEST_FILE CALLS SECONDS

REQUEST_FILE holds one serialized message. Prints calls a second, the median and the 99th percentile in ms.
"""

import socket
import struct
import sys
import time
from pathlib import Path

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
WINDOW_BYTES = 2**30
RECEIVED_BYTES_MAX = 1 << 20


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header that goes into no table (RFC 7541, 6.2.2), both parts shorter than 127 bytes."""
    assert len(name) < 127
    assert len(value) < 127
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


class Connection:
    """One connection with `calls` calls open."""

    def __init__(self, address: str, method: str, message: bytes) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        headers = ((":method", "POST"), (":scheme", "http"), (":path", method), (":authority", address))
        headers += (("content-type", "application/grpc"), ("te", "trailers"))
        self._head = b"".join(literal(name.encode(), value.encode()) for name, value in headers)
        self._body = b"\x00" + struct.pack(">I", len(message)) + message
        self._received = b""
        self._stream = 1
        self.started: dict[int, float] = {}
        self.seconds: list[float] = []
        self.answered: set[int] = set()
        self.failed = 0
        settings = frame(SETTINGS, 0, 0, struct.pack(">HI", 4, WINDOW_BYTES))
        window = frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WINDOW_BYTES))
        self._socket.sendall(PREFACE + settings + window)

    def run(self, calls: int, seconds: float) -> float:
        """How long it took; `seconds` are the calls' times afterwards."""
        began_s = time.perf_counter()
        end_s = began_s + seconds
        self._socket.sendall(b"".join(self._call(began_s) for _ in range(calls)))
        while self.started:
            received = self._socket.recv(RECEIVED_BYTES_MAX)
            if not received:
                raise SystemExit("the server hung up")
            ended, control = self._take(received)
            now_s = time.perf_counter()
            sent = [control]
            for stream in ended:
                self.seconds.append(now_s - self.started.pop(stream))
                if stream in self.answered:
                    self.answered.discard(stream)
                else:
                    self.failed += 1
                if now_s < end_s:
                    sent.append(self._call(now_s))
            self._socket.sendall(b"".join(sent))
        return time.perf_counter() - began_s

    def _call(self, now_s: float) -> bytes:
        stream = self._stream
        self._stream += 2
        self.started[stream] = now_s
        headers = frame(HEADERS, END_HEADERS, stream, self._head)
        return headers + frame(DATA, END_STREAM, stream, self._body)

    def _take(self, received: bytes) -> tuple[list[int], bytes]:
        """The streams that have ended, and what the connection itself wants answered."""
        data = self._received + received
        offset = 0
        ended: list[int] = []
        control = b""
        data_bytes = 0
        while offset + 9 <= len(data):
            sized, flags, stream = struct.unpack_from(">IBI", data, offset)
            size, kind = sized >> 8, sized & 0xFF
            if offset + 9 + size > len(data):
                break
            if kind == DATA:
                data_bytes += size
                self.answered.add(stream)
            if kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM):
                if stream in self.started:
                    ended.append(stream)
            elif kind == PING and not flags & ACK:
                control += frame(PING, ACK, 0, data[offset + 9 : offset + 9 + size])
            elif kind == SETTINGS and not flags & ACK:
                control += frame(SETTINGS, ACK, 0, b"")
            elif kind == GOAWAY:
                raise SystemExit(f"the server ends the connection: {data[offset + 17 : offset + 9 + size]!r}")
            offset += 9 + size
        if data_bytes:
            control += frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", data_bytes))
        self._received = data[offset:]
        return ended, control


def main() -> None:
    address, method, file, calls, seconds = sys.argv[1:]
    connection = Connection(address, method, Path(file).read_bytes())
    took_s = connection.run(int(calls), float(seconds))
    times = sorted(connection.seconds)
    answered = len(times) - connection.failed
    median, tail = times[len(times) // 2], times[int(len(times) * 0.99)]
    print(
        f"{answered / took_s:.0f} calls/s, {median * 1000:.2f} ms median, {tail * 1000:.2f} ms p99, "
        f"{connection.failed} failed"
    )


if __name__ == "__main__":
    main()
