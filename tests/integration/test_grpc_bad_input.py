"""What no well-behaved client sends over gRPC: a clear answer, bounded memory, and the server goes on."""

import resource
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator

import grpc
import pytest
from grpc_serving import (
    MESSAGE_BYTES_MAX,
    MESSAGES,
    PATIENCE_S,
    SERVICE,
    Serving,
    channel,
    infer,
    infer_request,
    numbers,
    raw_call,
    serving,
    status_of,
)

from penstock.core.memory import resident_bytes
from penstock.serving.protocols.grpc.wire import field

DEADLINE_S = RECEIVE_TIMEOUT_S = 2.5
BOMB_BYTES = 60_000_000
"""Compressed it fits in the window that a stream begins with."""
ROOM_BYTES = 30_000_000


@pytest.fixture(scope="module")
def served() -> Iterator[Serving]:
    with serving(receive_timeout_s=RECEIVE_TIMEOUT_S) as found:
        yield found


@pytest.fixture
def opened(served: Serving) -> Iterator[grpc.Channel]:
    with channel(served) as found:
        yield found
        assert numbers(infer(found, infer_request((1, 2)))) == [[2, 4]]  # it goes on
    assert served.do(lambda: served.server._receiver.used_bytes) == 0


def refusal(opened: grpc.Channel, message: bytes, method: str = "ModelInfer") -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        raw_call(opened, method)(message, timeout=PATIENCE_S)
    return status_of(caught.value)


@pytest.mark.parametrize("method", ["ModelInfer", "ModelMetadata", "RepositoryModelLoad"])
def test_garbage(opened: grpc.Channel, method: str) -> None:
    code, text = refusal(opened, b"\xff\xfe\xfd", method)
    assert (code, f"not a {method}Request" in text) == ("INVALID_ARGUMENT", True)


def test_large_garbage(opened: grpc.Channel) -> None:
    code, text = refusal(opened, b"\xff" * 100_000)
    assert (code, "not protobuf" in text) == ("INVALID_ARGUMENT", True)


def test_names_that_are_no_text(opened: grpc.Channel) -> None:
    assert refusal(opened, field(1, b"\xff\xfe"))[0] == "INVALID_ARGUMENT"


@pytest.mark.parametrize("shape", [[2**62, 4], [2**63 - 1, 2**63 - 1], [-(2**63), 2], [0, 2**62], [1] * 100])
def test_shapes_that_lie(opened: grpc.Channel, shape: list[int]) -> None:
    message = infer_request((1, 2))
    message.inputs[0].shape[:] = shape
    assert refusal(opened, message.SerializeToString())[0] == "INVALID_ARGUMENT"


@pytest.mark.parametrize("number", [5, 6, 7], ids=["inputs", "outputs", "raw"])
def test_a_million_tiny_tensors(opened: grpc.Channel, number: int) -> None:
    before_bytes = resident_bytes()
    code, text = refusal(opened, field(1, b"late") + field(number, b"") * (MESSAGE_BYTES_MAX // 2 - 10))
    assert (code, "more than" in text) == ("RESOURCE_EXHAUSTED", True)
    assert resident_bytes() - before_bytes < ROOM_BYTES


def test_many_elements_of_nothing(opened: grpc.Channel) -> None:
    message = MESSAGES.ModelInferRequest(model_name="words")
    message.inputs.add(name="t", datatype="BYTES", shape=[1]).contents.bytes_contents.extend([b""] * 400_000)
    code, text = refusal(opened, message.SerializeToString())
    assert (code, "bytes_contents has 400000" in text) == ("INVALID_ARGUMENT", True)


def test_messages_over_the_limit(opened: grpc.Channel) -> None:
    code, text = refusal(opened, b"\0" * (MESSAGE_BYTES_MAX + 1))
    assert code == "RESOURCE_EXHAUSTED"
    assert "larger than max" in text


def test_messages_over_the_limit_end_a_stream(opened: grpc.Channel) -> None:
    requests = iter([infer_request((1, 1)).SerializeToString(), b"\0" * (MESSAGE_BYTES_MAX + 1)])
    with pytest.raises(grpc.RpcError) as caught:
        list(opened.stream_stream(SERVICE + "ModelStreamInfer")(requests, timeout=PATIENCE_S))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    "method",
    [
        "/inference.GRPCInferenceService/Nothing",
        "/inference.GRPCInferenceService/SystemSharedMemoryStatus",
        "/inference.GRPCInferenceService/CudaSharedMemoryRegister",
        "/inference.GRPCInferenceService/TraceSetting",
        "/inference.GRPCInferenceService/LogSettings",
        "/other.Service/ModelInfer",
        "/",
        "/" + "x" * 5000,
    ],
)
def test_methods_that_are_not_served(opened: grpc.Channel, method: str) -> None:
    code, text = refusal(opened, b"", method)
    assert (code, "is not served here" in text) == ("UNIMPLEMENTED", True)
    assert len(text) < 500


def test_no_message_at_all(opened: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        opened.stream_unary(SERVICE + "ModelInfer")(iter(()), timeout=PATIENCE_S)
    code, text = status_of(caught.value)
    assert (code, "without a message" in text) == ("INVALID_ARGUMENT", True)


def test_a_message_that_never_comes(served: Serving, opened: grpc.Channel) -> None:
    def nothing() -> Iterator[bytes]:
        done.wait(PATIENCE_S)
        yield from ()

    done = threading.Event()
    try:
        with pytest.raises(grpc.RpcError) as caught:
            opened.stream_unary(SERVICE + "ModelInfer")(nothing(), timeout=PATIENCE_S)
    finally:
        done.set()
    code, text = status_of(caught.value)
    assert (code, "did not arrive within 2.5 s" in text) == ("DEADLINE_EXCEEDED", True)


def test_a_message_that_took_most_of_its_time_to_come_has_the_rest(opened: grpc.Channel) -> None:
    """The time that it took does not count twice."""

    def late() -> Iterator[bytes]:
        time.sleep(0.6 * DEADLINE_S)
        yield infer_request((1, 2)).SerializeToString()

    raw = opened.stream_unary(SERVICE + "ModelInfer")(late(), timeout=DEADLINE_S)
    assert numbers(MESSAGES.ModelInferResponse.FromString(raw)) == [[2, 4]]


def test_too_much_at_once_is_refused() -> None:
    with serving(receiving_bytes_max=100) as served, channel(served) as opened:
        with pytest.raises(grpc.RpcError) as caught:
            infer(opened, infer_request(*[(1, 2)] * 20))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert dict(caught.value.trailing_metadata())["x-shed-reason"] == "receiving_bytes"
        assert numbers(infer(opened, infer_request((1, 2)))) == [[2, 4]]


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def headers(*further: tuple[bytes, bytes]) -> bytes:
    """A block of headers for ModelInfer, all literal."""
    fields = (
        *((b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"here")),
        *((b":path", b"/inference.GRPCInferenceService/ModelInfer"), (b"te", b"trailers")),
        (b"content-type", b"application/grpc"),
        *further,
    )
    return b"".join(b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in fields)


def answer_to(served: Serving, message: bytes, *further: tuple[bytes, bytes], flag: int) -> bytes:
    """What comes back, as it is, for one message sent frame by frame."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_S) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
        body = bytes([flag]) + struct.pack(">I", len(message)) + message
        pieces = [body[start : start + 16_384] for start in range(0, len(body), 16_384)]
        connection.sendall(frame(1, 4, 1, headers(*further)))
        for index, piece in enumerate(pieces):
            connection.sendall(frame(0, int(index == len(pieces) - 1), 1, piece))
        received = b""
        while b"grpc-status" not in received:
            read = connection.recv(65_536)
            if not read:
                break
            received += read
        return received


def test_unknown_encodings(served: Serving, opened: grpc.Channel) -> None:
    sent = infer_request((1, 2)).SerializeToString()
    received = answer_to(served, sent, (b"grpc-encoding", b"zstd"), flag=1)
    # gRPC itself takes it for a broken header: INTERNAL.
    assert b"grpc-status\x0213" in received
    assert b"grpc-encoding" in received


def bomb_of(size_bytes: int) -> bytes:
    """So many zeros compressed, made without ever holding them."""
    compressor = zlib.compressobj(9, wbits=31)
    piece = b"\0" * 1_000_000
    pieces = [compressor.compress(piece) for _ in range(size_bytes // len(piece))]
    return b"".join((*pieces, compressor.flush()))


def peak_bytes() -> int:
    """The most that this process has ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_compressed_bombs(served: Serving, opened: grpc.Channel) -> None:
    bomb = bomb_of(BOMB_BYTES)
    assert len(bomb) < MESSAGE_BYTES_MAX
    before_bytes = peak_bytes()
    received = answer_to(served, bomb, (b"grpc-encoding", b"gzip"), flag=1)
    assert b"grpc-status\x018" in received
    assert b"larger than max" in received
    assert peak_bytes() - before_bytes < ROOM_BYTES


def test_half_a_call_and_hang_up(served: Serving, opened: grpc.Channel) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_S) as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
            connection.sendall(frame(1, 4, 1, headers()) + frame(0, 0, 1, b"\0\0\0\1\0half"))


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"\0" * 100, b"\xff" * 5000])
def test_what_is_no_http2(served: Serving, opened: grpc.Channel, said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_S) as connection:
        connection.sendall(said)
        while connection.recv(65_536):
            pass
