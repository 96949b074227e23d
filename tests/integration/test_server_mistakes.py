"""What clients send by mistake or in malice: each gets a clear error, and the server answers on."""

import gzip
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from running_server import BODY_BYTES_MAX, RunningServer, columns, outputs, v2_binary, v2_json
from sample_models import CARRIERS, SampleModel, make_flights

LATE = "/v2/models/late/infer"
ROWS = 3
Message = dict[str, Any]


@pytest.fixture(autouse=True)
def still_answers(client: httpx.Client, late: SampleModel) -> Iterator[None]:
    """After every test here the server gives right answers on a new connection, and has met no fault."""
    yield
    rows = make_flights(5, seed=21)
    given = outputs(client.post(LATE, json=v2_json(columns(rows))))
    assert given["label"].tolist() == late.native.predict(rows).tolist()


def rows() -> pl.DataFrame:
    return make_flights(ROWS, seed=20)


def message() -> Message:
    return v2_json(columns(rows()))


def refused(response: httpx.Response, status: int, *said: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    assert list(answer) == ["error"]
    for each in said:
        assert each in answer["error"]
    assert "Traceback" not in answer["error"]
    assert ".py" not in answer["error"]


def changed(index: int, **fields: Any) -> Message:
    """The message with fields of one input set; None takes a field away."""
    sent = message()
    for name, value in fields.items():
        if value is None:
            del sent["inputs"][index][name]
        else:
            sent["inputs"][index][name] = value
    return sent


def without(index: int) -> Message:
    sent = message()
    del sent["inputs"][index]
    return sent


MISTAKES: dict[str, tuple[Message | list[Any] | str, list[str]]] = {
    "no inputs": ({}, ["inputs"]),
    "list": ([], ["object"]),
    "text": ("late?", ["object"]),
    "inputs null": ({"inputs": None}, ["inputs"]),
    "empty inputs": ({"inputs": []}, ["missing", "'carrier'"]),
    "missing": (without(1), ["missing ['origin']"]),
    "unknown": ({"inputs": [*message()["inputs"], v2_json({"z": np.ones(3)})["inputs"][0]]}, ["unknown ['z']"]),
    "renamed": (changed(0, name="Carrier"), ["missing ['carrier']", "unknown ['Carrier']"]),
    "twice": (changed(1, name="carrier"), ["'carrier' is given twice"]),
    "no name": (changed(0, name=None), ["name"]),
    "no data": (changed(2, data=None), ["'delay' has no data"]),
    "no shape": (changed(2, shape=None), ["shape"]),
    "datatype": (changed(2, datatype="FP64"), ["'delay'", "FP32", "FP64"]),
    "unheard datatype": (changed(2, datatype="FLOAT"), ["'delay'", "FLOAT"]),
    "string for number": (changed(2, data=["a", "b", "c"]), ["'delay'", "expected a number, got 'a'"]),
    "number for string": (changed(0, data=[1, 2, 3]), ["'carrier'", "expected a string, got 1"]),
    "rank": (changed(2, shape=[ROWS, 1, 1, 1, 2], data=[1.0] * 6), ["'delay'", "expected shape [-1]"]),
    "width": (changed(2, shape=[ROWS, 2], data=[1.0] * 6), ["'delay'", "got [3, 2]"]),
    "no rank": (changed(2, shape=[]), ["'delay'", "not a shape"]),
    "negative": (changed(2, shape=[-3]), ["'delay'", "not a shape"]),
    "huge": (changed(2, shape=[10**18]), ["'delay'", "data has 3"]),
    "overflowing": (changed(2, shape=[2**40, 2**40]), ["'delay'"]),
    "fewer": (changed(2, data=[1.0, 2.0]), ["'delay'", "takes 3 elements, data has 2"]),
    "rows differ": (changed(2, shape=[2], data=[1.0, 2.0]), ["'delay' has 2 rows"]),
    "uneven": (changed(2, shape=[ROWS, 1], data=[[1.0], 2.0, [3.0]]), ["'delay'"]),
    "object": (changed(2, data=[{}, {}, {}]), ["'delay'", "expected a number"]),
    "null": (changed(2, data=[1.0, None, 3.0]), ["'delay'", "element 1", "null"]),
    "too large": (changed(2, data=[1.0, 1e300, 3.0]), ["'delay'", "row 1"]),
    "category": (changed(0, data=["AA", "B6", "??"]), ["'carrier', row 2", "'??'", *CARRIERS]),
    "zero rows": (
        v2_json({name: array[:0] for name, array in columns(rows()).items()}),
        ["'carrier' has zero rows"],
    ),
    "unknown output": ({**message(), "outputs": [{"name": "odds"}]}, ["'odds'", "label, probabilities"]),
    "id": ({**message(), "id": 7}, ["id"]),
    "binary flag": ({**message(), "parameters": {"binary_data_output": "yes"}}, ["binary_data_output"]),
    "timeout": ({**message(), "parameters": {"timeout": "soon"}}, ["timeout"]),
    "size without header": (changed(2, data=None, parameters={"binary_data_size": 12}), ["'delay'", "0 bytes"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(client: httpx.Client, mistake: str) -> None:
    sent, said = MISTAKES[mistake]
    refused(client.post(LATE, json=sent), 400, *said)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"nonsense", b"\xff\xfe\x00", b"null", b'{"inputs": [' + b"[" * 20_000, b"[" * 100_000,
        b'{"inputs": 1}', b'{"inputs": [{"name": "\xff"}]}', b"{" + b'"a":{' * 5000, b"\0" * 1000,
    ],
    ids=lambda body: repr(body[:20]),
)  # fmt: skip
def test_a_body_that_is_no_request(client: httpx.Client, body: bytes) -> None:
    refused(client.post(LATE, content=body), 400)


def binary(change: Callable[[Message], None] = lambda head: None, tail: bytes = b"") -> tuple[bytes, Any]:
    body, headers = v2_binary(columns(rows()))
    length = int(headers["inference-header-content-length"])
    head = json.loads(body[:length])
    change(head)
    encoded = json.dumps(head).encode()
    return encoded + body[length:] + tail, headers | {"inference-header-content-length": str(len(encoded))}


def set_size(index: int, size: object) -> Callable[[Message], None]:
    def change(head: Message) -> None:
        head["inputs"][index]["parameters"]["binary_data_size"] = size

    return change


@pytest.mark.parametrize(
    ("body", "headers", "said"),
    [
        (*binary(set_size(2, 11)), ["'delay'", "12 bytes", "binary_data_size is 11"]),
        (*binary(set_size(2, 10**12)), ["'delay'", "bytes left"]),
        (*binary(set_size(2, -1)), ["'delay'", "-1"]),
        (*binary(set_size(2, "12")), ["'delay'", "'12'"]),
        (*binary(set_size(2, True)), ["'delay'", "True"]),
        (*binary(set_size(0, 5)), ["'carrier'"]),
        (*binary(tail=b"surplus"), ["7 bytes more"]),
        (binary()[0][:-1], binary()[1], ["'distance'", "11 bytes left"]),
        (binary()[0], {"inference-header-content-length": "999999"}, ["999999"]),
        (binary()[0], {"inference-header-content-length": "-1"}, ["'-1'"]),
        (binary()[0], {"inference-header-content-length": "x"}, ["'x'"]),
        (binary()[0], {"inference-header-content-length": "9" * 5000}, ["not a number of bytes"]),
        (binary()[0], {"inference-header-content-length": "10"}, ["not JSON"]),
        (binary()[0], {}, ["not JSON"]),
    ],
    ids=["short", "huge", "negative", "text", "flag", "strings", "surplus", "cut", "past", "minus", "word",
         "digits", "early", "none"],
)  # fmt: skip
def test_raw_tensors_that_do_not_fit(
    client: httpx.Client, body: bytes, headers: dict[str, str], said: list[str]
) -> None:
    refused(client.post(LATE, content=body, headers=headers), 400, *said)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_a_linear_model_has_no_place_for(client: httpx.Client, value: float) -> None:
    inputs = columns(rows())
    inputs["delay"] = np.array([1, value, 2], dtype=np.float32)
    body, headers = v2_binary(inputs)
    refused(client.post(LATE, content=body, headers=headers), 400, "'delay', row 1", str(value))


def test_text_that_is_not_utf_8(client: httpx.Client) -> None:
    raw = b"\x02\0\0\0AA\x02\0\0\0B6\x02\0\0\0\xff\xfe"
    body, headers = v2_binary(columns(rows()))
    length = int(headers["inference-header-content-length"])
    head = json.loads(body[:length])
    size = head["inputs"][0]["parameters"]["binary_data_size"]
    head["inputs"][0]["parameters"]["binary_data_size"] = len(raw)
    encoded = json.dumps(head).encode()
    content = encoded + raw + body[length + size :]
    headers["inference-header-content-length"] = str(len(encoded))
    refused(client.post(LATE, content=content, headers=headers), 400, "'carrier', element 2", "UTF-8")


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("POST", "/v2/models/nope/infer", 404, "late, linear"),
        ("POST", "/v2/models/linear/versions/1/infer", 404, "served are: 2"),
        ("POST", "/v2/models/linear/versions/x/infer", 404, "'x'"),
        ("POST", "/v2/models/%2e%2e/infer", 404, "no model"),
        ("POST", "/v2/models//infer", 404, "no model ''"),
        ("GET", "/v2/models/nope", 404, "no model 'nope'"),
        ("GET", "/v2/models/nope/ready", 404, "no model 'nope'"),
        ("GET", "/v2/models/linear/versions/9", 404, "served are: 2"),
        ("GET", "/", 404, "/v2"),
        ("GET", "/favicon.ico", 404, "/v2"),
        ("GET", "/v2/nope", 404, "no such path"),
        ("GET", "/v2/models/late/nope", 404, "no such path"),
        ("GET", "/v2/" + "x" * 5000, 404, "no such path"),
        ("GET", LATE, 405, "POST"),
        ("PUT", LATE, 405, "POST"),
        ("DELETE", "/v2/models/late", 405, "GET"),
        ("POST", "/v2/models/late/ready", 405, "GET"),
        ("POST", "/v2", 405, "GET"),
        ("POST", "/metrics", 405, "GET"),
        ("OPTIONS", "/v2/health/live", 405, "GET"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
def test_wrong_paths_and_methods(client: httpx.Client, method: str, path: str, status: int, said: str) -> None:
    response = client.request(method, path)
    refused(response, status, said)
    allowed = {"GET": "GET, HEAD", "POST": "POST"}
    assert response.headers.get("allow") == (allowed[said] if status == 405 else None)


@pytest.mark.parametrize("timeout", ["0", "-5", "soon", "nan", ""])
def test_a_deadline_that_is_no_number(client: httpx.Client, timeout: str) -> None:
    headers = {"x-request-timeout-ms": timeout}
    refused(client.post(LATE, json=message(), headers=headers), 400, "x-request-timeout-ms")


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"\x1f\x8b\x08\0", 400, "ends early"),
        (gzip.compress(b"{}") + b"more", 400, "goes on"),
        (b"{}", 400, "not gzip"),
        (gzip.compress(b"[" * 900_000), 400, ""),
        (gzip.compress(b" " * 500_000_000, 9), 413, str(BODY_BYTES_MAX)),
    ],
    ids=["cut", "surplus", "plain", "nested", "bomb"],
)
def test_a_compressed_body_that_is_wrong(
    server: RunningServer, client: httpx.Client, content: bytes, status: int, said: str
) -> None:
    memory_bytes = held_bytes(server)
    for _ in range(10):
        refused(client.post(LATE, content=content, headers={"content-encoding": "gzip"}), status, said)
    assert held_bytes(server) - memory_bytes < 50 * BODY_BYTES_MAX


def held_bytes(server: RunningServer) -> int:
    """What the largest of the server's processes holds."""
    return max(int(process.memory_info().rss) for process in server.children())


def test_an_encoding_that_is_not_understood(client: httpx.Client) -> None:
    response = client.post(LATE, content=b"{}", headers={"content-encoding": "br"})
    refused(response, 415, "'br'")
    assert "gzip" in response.headers["accept-encoding"]


def test_many_tiny_tensors(client: httpx.Client) -> None:
    tiny = b'{"name":"a","shape":[1],"datatype":"FP32","data":[0]}'
    sent = b'{"inputs":[' + b",".join([tiny] * (BODY_BYTES_MAX // (len(tiny) + 1) - 1)) + b"]}"
    began_s = time.monotonic()
    refused(client.post(LATE, content=sent), 400, "inputs")
    assert time.monotonic() - began_s < 5
    names = ",".join(f'{{"name":"a{number}"}}' for number in range(40_000))
    asked = json.dumps(message())[:-1] + f', "outputs": [{names}]}}'
    refused(client.post(LATE, content=asked), 400, "unknown output")


def test_bodies_that_come_byte_by_byte_hold_up_nobody(server: RunningServer, client: httpx.Client) -> None:
    head = f"POST {LATE} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n".encode()
    slow = [server.connect() for _ in range(100)]
    try:
        for connection in slow:
            connection.sendall(head)
        for _ in range(5):
            for connection in slow:
                connection.sendall(b" ")
            assert client.post(LATE, json=message()).status_code == 200
    finally:
        for connection in slow:
            connection.close()


def test_sockets_that_are_closed_one_way(server: RunningServer) -> None:
    errors = server.log.count("ERROR")
    whole = json.dumps(message()).encode()
    head = f"POST {LATE} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(whole)}\r\n\r\n".encode()
    for sent in (b"", head, head + whole[:-1], head + whole):
        with server.connect() as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            # It ends, be it with an answer or without: nothing is left hanging.
            answer = read_some(connection)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 "), answer
    assert server.log.count("ERROR") == errors, server.log[-3000:]


def test_a_body_over_the_limit(server: RunningServer, client: httpx.Client) -> None:
    refused(client.post(LATE, content=b" " * (BODY_BYTES_MAX + 1)), 413, str(BODY_BYTES_MAX))
    # It is refused on its announcement, without a byte of it.
    head = f"POST {LATE} HTTP/1.1\r\nhost: x\r\ncontent-length: {10**12}\r\n\r\n"
    assert b" 413 " in exchange(server, head.encode())
    largest = json.dumps(message()).encode().ljust(BODY_BYTES_MAX)
    assert client.post(LATE, content=largest).status_code == 200


def test_a_body_in_chunks_over_the_limit(server: RunningServer) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with server.connect() as connection:
        connection.sendall(f"POST {LATE} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode())
        try:
            for _ in range(4 * BODY_BYTES_MAX // 0x10000):
                connection.sendall(chunk)
        except OSError:
            pass  # it has answered and hung up
        assert b" 413 " in read_some(connection)


def read_some(connection: socket.socket) -> bytes:
    """What the server says until it hangs up or falls silent."""
    connection.settimeout(3)
    answer = b""
    try:
        while received := connection.recv(65536):
            answer += received
            if b"}" in received:
                break
    except OSError:
        pass
    return answer


def exchange(server: RunningServer, sent: bytes) -> bytes:
    with server.connect() as connection:
        connection.sendall(sent)
        return read_some(connection)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(range(256)),
        b"nonsense\r\n\r\n",
        b"\0" * 10_000,
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /v2/models/late/infer HTTP/1.1\r\nhost: x\r\ncontent-length: abc\r\n\r\n",
        b"POST /v2/models/late/infer HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /v2/models/late/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        b"POST /v2/models/late/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
        b"GET /v2 HTTP/1.1\r\n" + b"x: y\r\n" * 10_000 + b"\r\n",
        b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /v2/models/\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
    ids=[
        "tls",
        "text",
        "zeros",
        "version",
        "http2",
        "length",
        "minus",
        "lengths",
        "chunk",
        "headers",
        "path",
        "bytes",
    ],
)
def test_garbage_on_the_socket(server: RunningServer, sent: bytes) -> None:
    try:
        answer = exchange(server, sent)
    except OSError:
        return  # hung up on while still sending
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:300]
    assert b"Traceback" not in answer


@pytest.mark.parametrize("path", [LATE, "/v2/models/nope/infer", "/v2"])
def test_clients_that_hang_up_half_way(server: RunningServer, path: str) -> None:
    errors = server.log.count("ERROR")
    for _ in range(20):
        with server.connect() as connection:
            connection.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{{".encode())
        with server.connect() as connection:
            connection.sendall(
                f"POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{{".encode()
            )
    whole = json.dumps(message()).encode()
    for _ in range(20):
        with server.connect() as connection:
            head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(whole)}\r\n\r\n"
            connection.sendall(head.encode() + whole)
    with server.client() as client:
        client.get("/v2/health/live")
    assert server.log.count("ERROR") == errors, server.log[-3000:]


def test_requests_may_follow_each_other_on_a_connection(server: RunningServer) -> None:
    whole = json.dumps(message()).encode()
    head = f"POST {LATE} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(whole)}\r\n\r\n".encode()
    with server.connect() as connection:
        connection.sendall(3 * (head + whole))
        connection.settimeout(3)
        answer = b""
        while answer.count(b"HTTP/1.1 200") < 3 or not answer.endswith(b"}"):
            answer += connection.recv(65536)
    assert answer.count(b'"model_name":"late"') == 3
