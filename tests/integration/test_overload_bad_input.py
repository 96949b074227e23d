"""The real server under what no well-behaved client sends, while it is asked for more than it can do: a clear
answer, memory that stays where it was, and back to normal.
"""

import json
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator

import grpc
import numpy as np
import psutil
import pytest
from command_line import PATIENCE_S, CommandLine
from grpc_serving import MESSAGES, raw_call, status_of
from running_server import RunningServer, running, v2_json
from test_overload import APP, PATH, Flood

pytestmark = pytest.mark.alone

BODY = v2_json({"x": np.array([1], dtype=np.float32)})
CONTENT = json.dumps(BODY).encode()
RECEIVE_TIMEOUT_S = 2
IDLE_CONNECTIONS = 2_000
STALLED = 200
ROOM_BYTES = 40 * 1024 * 1024
ANSWER_BYTES = 16_384
"""More than an answer has, which comes in one piece."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    commands = CommandLine(tmp_path_factory.mktemp("bad-input"))
    with running(
        commands, APP, "--grpc-port", "0", "--set", f"server.receive_timeout_s={RECEIVE_TIMEOUT_S}"
    ) as started:
        wait_until_normal(started)
        yield started


@pytest.fixture
def watched(server: RunningServer) -> Iterator[RunningServer]:
    """The server, which must be as it was afterwards: answering, of the same processes, without an error."""
    family = {each.pid for each in server.children()}
    before_bytes = memory_bytes(server)
    errors = server.log.count("ERROR")
    yield server
    wait_until_normal(server)
    assert {each.pid for each in server.children()} == family
    assert memory_bytes(server) - before_bytes < ROOM_BYTES
    assert server.log.count("ERROR") == errors, server.log[-3000:]


def worker(server: RunningServer) -> psutil.Process:
    """The process that answers."""
    return psutil.Process(server.process.pid).children()[0]


def memory_bytes(server: RunningServer) -> int:
    return int(worker(server).memory_info().rss)


def wait_until_normal(server: RunningServer) -> None:
    """Ten answers in a row; so many also teach it how long a run takes."""
    deadline_s = time.monotonic() + PATIENCE_S
    in_a_row = 0
    with server.client() as client:
        while in_a_row < 10:
            in_a_row = in_a_row + 1 if client.post(PATH, json=BODY).status_code == 200 else 0
            assert time.monotonic() < deadline_s, "it did not come back to normal"


def wait_until_counted(flood: Flood, counts: dict[int, int]) -> None:
    """So many answers of each status."""
    deadline_s = time.monotonic() + PATIENCE_S
    while any(flood.statuses[status] < count for status, count in counts.items()):
        assert time.monotonic() < deadline_s, flood.statuses
        time.sleep(0.02)


def message(content: bytes, *headers: bytes, length: int | None = None) -> bytes:
    lines = (b"POST %b HTTP/1.1" % PATH.encode(), b"host: x", *headers)
    head = b"".join(b"%b\r\n" % line for line in lines)
    return b"%bcontent-length: %d\r\n\r\n%b" % (head, len(content) if length is None else length, content)


def answers_of(connection: socket.socket, silence_s: float = 0.5) -> list[bytes]:
    """The status lines of what the server says, from its first word until it hangs up or falls silent."""
    connection.settimeout(PATIENCE_S)
    said = b""
    try:
        while received := connection.recv(65_536):
            said += received
            connection.settimeout(silence_s)
    except OSError:
        pass
    return re.findall(rb"HTTP/1\.1 \d+", said)


@pytest.fixture
def opened(watched: RunningServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{watched.grpc_port}") as channel:
        yield channel


def grpc_message(**parameters: dict[str, float | str]) -> bytes:
    request = MESSAGES.ModelInferRequest(model_name="slow")
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1])
    tensor.contents.fp32_contents.append(1.0)
    for name, value in parameters.items():
        for kind, given in value.items():
            setattr(request.parameters[name], kind, given)
    content: bytes = request.SerializeToString()
    return content


@pytest.mark.parametrize(
    ("timeout", "status"),
    [
        ("nan", 400),
        ("-inf", 400),
        ("", 400),
        ("1,5", 400),
        ("-0.0", 400),
        ("9" * 400, 200),
        ("inf", 200),
        ("1e-300", 504),
    ],
)
def test_absurd_deadlines(watched: RunningServer, opened: grpc.Channel, timeout: str, status: int) -> None:
    with watched.client() as client:
        answer = client.post(PATH, json=BODY, headers={"x-request-timeout-ms": timeout})
    assert answer.status_code == status, answer.text
    code = code_of(opened, grpc_message(), ("x-request-timeout-ms", timeout))
    assert code == {400: "INVALID_ARGUMENT", 200: "OK", 504: "DEADLINE_EXCEEDED"}[status]


@pytest.mark.parametrize(
    ("parameters", "status", "said"),
    [
        ('{"timeout": -1}', 400, "timeout"),
        ('{"timeout": "soon"}', 400, "timeout"),
        ('{"timeout": true}', 400, "timeout"),
        ('{"timeout": 1%s}' % ("0" * 300), 200, ""),
        ('{"timeout": 31536000000000000}', 200, ""),
        ('{"timeout": 1}', 504, "deadline"),
        ('{"priority": -1}', 400, "priority"),
        ('{"priority": 1.5}', 400, "priority"),
        ('{"priority": 18446744073709551615}', 200, ""),
    ],
)
def test_absurd_parameters(watched: RunningServer, parameters: str, status: int, said: str) -> None:
    content = CONTENT[:-1] + b', "parameters": %b}' % parameters.encode()
    with watched.client() as client:
        answer = client.post(PATH, content=content)
    assert answer.status_code == status, answer.text
    assert said in answer.text


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"timeout": {"int64_param": -1}}, "INVALID_ARGUMENT"),
        ({"timeout": {"double_param": float("nan")}}, "INVALID_ARGUMENT"),
        ({"timeout": {"double_param": float("inf")}}, "OK"),
        ({"timeout": {"int64_param": 2**62}}, "OK"),
        ({"timeout": {"string_param": "soon"}}, "INVALID_ARGUMENT"),
        ({"priority": {"int64_param": -(2**63)}}, "INVALID_ARGUMENT"),
        ({"priority": {"int64_param": 2**62}}, "OK"),
    ],
)
def test_absurd_parameters_over_grpc(
    opened: grpc.Channel, parameters: dict[str, dict[str, float | str]], code: str
) -> None:
    assert code_of(opened, grpc_message(**parameters)) == code


def code_of(opened: grpc.Channel, content: bytes, *metadata: tuple[str, str]) -> str:
    try:
        raw_call(opened)(content, metadata=metadata, timeout=PATIENCE_S)
    except grpc.RpcError as error:
        return status_of(error)[0]
    return "OK"


def test_an_unknown_criticality_over_grpc(opened: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        raw_call(opened)(grpc_message(), metadata=(("x-criticality", "urgent"),), timeout=PATIENCE_S)
    code, text = status_of(caught.value)
    assert (code, "CRITICAL_PLUS" in text) == ("INVALID_ARGUMENT", True)


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"x-criticality: SHEDDABLE\n x-injected: 1", 400),
        (b"x-criticality: SHEDDABLE\0", 400),
        (b"x-criticality : 4", 400),
        (b"x-criticality: a\xff\xfe", 400),
        (b"transfer-encoding: chunked", 400),
        (b"content-length: 0", 400),
        (b"x-api-key: " + b"k" * 8_000, 200),
        (b"x-api-key: \xff\xfe", 200),
    ],
)
def test_headers_that_bring_more_than_they_say(watched: RunningServer, header: bytes, status: int) -> None:
    """However often they come: a head that is known is no way around what parsing refuses."""
    for _ in range(3):
        with watched.connect() as connection:
            connection.sendall(message(CONTENT, header))
            assert answers_of(connection) == [b"HTTP/1.1 %d" % status]


def test_a_body_is_never_taken_for_a_request(watched: RunningServer) -> None:
    """Its bytes are a head that the server knows by then, and the piece in which it comes begins with them."""
    inner = message(CONTENT)
    with watched.connect() as connection:
        for _ in range(4):
            connection.sendall(inner)
            assert answers_of(connection, 0.2) == [b"HTTP/1.1 200"]
        connection.sendall(message(b"", length=len(inner)))
        time.sleep(0.1)
        connection.sendall(inner)
        assert answers_of(connection) == [b"HTTP/1.1 400"]
        connection.sendall(inner)
        assert answers_of(connection) == [b"HTTP/1.1 200"]


def test_what_one_says_is_never_another_s(watched: RunningServer) -> None:
    """One connection's head that is known, and one that differs from it in a single byte."""
    with watched.connect() as one, watched.connect() as other:
        for _ in range(4):
            one.sendall(message(CONTENT, b"x-request-timeout-ms: 1e4"))
            other.sendall(message(CONTENT, b"x-request-timeout-ms: 1x4"))
            assert answers_of(one, 0.2) == [b"HTTP/1.1 200"]
            assert answers_of(other, 0.2) == [b"HTTP/1.1 400"]


def test_half_a_body_and_then_nothing(watched: RunningServer) -> None:
    stalled = [watched.connect() for _ in range(STALLED)]
    try:
        for connection in stalled:
            connection.sendall(message(CONTENT[:10], length=1_000_000))
        wait_until_normal(watched)  # nobody waits for them
        for connection in stalled:
            connection.settimeout(10 * RECEIVE_TIMEOUT_S)
            assert connection.recv(ANSWER_BYTES).startswith(b"HTTP/1.1 408 ")
    finally:
        for connection in stalled:
            connection.close()


def test_half_a_body_while_it_sheds(watched: RunningServer) -> None:
    """Those who are refused by their heads are told so; none of them is left without an answer."""
    with Flood(watched, 20, {}):
        time.sleep(0.5)
        stalled = [watched.connect() for _ in range(50)]
        try:
            for connection in stalled:
                connection.sendall(message(CONTENT[:10], length=1_000_000))
            for connection in stalled:
                connection.settimeout(10 * RECEIVE_TIMEOUT_S)
                assert re.match(rb"HTTP/1.1 (408|503) ", connection.recv(ANSWER_BYTES))
        finally:
            for connection in stalled:
                connection.close()


def test_clients_that_never_read(watched: RunningServer) -> None:
    """Thousands of requests each; the server stops to read, then hangs up, and holds none of it."""
    greedy = [watched.connect() for _ in range(5)]
    requests = b"GET /v2/models/slow HTTP/1.1\r\nhost: x\r\n\r\n" * 400
    before_bytes = memory_bytes(watched)
    try:
        for connection in greedy:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.setblocking(False)
        hung_up: set[int] = set()
        sent = Counter[int]()
        deadline_s = time.monotonic() + 10 * RECEIVE_TIMEOUT_S
        with watched.client() as client:
            while len(hung_up) < len(greedy):
                assert time.monotonic() < deadline_s, f"{len(hung_up)} were hung up on, after {sent}"
                for number, connection in enumerate(greedy):
                    if number in hung_up:
                        continue
                    try:
                        sent[number] += connection.send(requests)
                    except BlockingIOError:
                        pass
                    except OSError:
                        hung_up.add(number)
                assert client.post(PATH, json=BODY).status_code in (200, 503)
                assert memory_bytes(watched) - before_bytes < ROOM_BYTES
        assert min(sent.values()) > len(requests)
    finally:
        for connection in greedy:
            connection.close()


@pytest.mark.usefixtures("many_files")
def test_a_surge_beside_thousands_of_idle_connections(watched: RunningServer) -> None:
    idle = [watched.connect() for _ in range(IDLE_CONNECTIONS)]
    try:
        with Flood(watched, 20, {}) as flood:
            wait_until_counted(flood, {200: 20, 503: 20})
        assert set(flood.statuses) == {200, 503}
        wait_until_normal(watched)
        for connection in idle[::100]:
            connection.sendall(message(CONTENT))
            connection.settimeout(PATIENCE_S)
            assert connection.recv(ANSWER_BYTES).startswith(b"HTTP/1.1 200")
    finally:
        for connection in idle:
            connection.close()


def test_a_process_that_was_put_to_sleep(watched: RunningServer, opened: grpc.Channel) -> None:
    """For it the clock jumps: what had come meanwhile is late, and what comes next is not."""
    asleep = worker(watched)
    code_of(opened, grpc_message())
    with Flood(watched, 5, {}) as flood:
        time.sleep(0.3)
        asleep.send_signal(signal.SIGSTOP)
        try:
            time.sleep(3)
        finally:
            asleep.send_signal(signal.SIGCONT)
        time.sleep(0.2)
        wait_until_counted(flood, {200: flood.statuses[200] + 10})
    # A caller whose head was read before and whose body after: that took longer than a body may.
    assert flood.statuses.pop(408, 0) <= 5
    assert set(flood.statuses) <= {200, 503}
    assert code_of(opened, grpc_message()) == "OK"
