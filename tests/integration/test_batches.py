"""Batches of rows, streamed in and out of the real HTTP server."""

import contextlib
import gzip
import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest
from plane_server import MODELS, PATIENCE_S, PlaneServer, plane_server

from penstock.core.tensors import Tensors

LINES = "application/x-ndjson"
ARROW = "application/vnd.apache.arrow.stream"
BLOCKED_S = 1.0


_opened: "list[Duplex]" = []


class Duplex:
    """A client that reads its answer while it still sends, as batches without end need."""

    response: http.client.HTTPResponse | None = None

    def __init__(self, server: PlaneServer, path: str, content_type: str = LINES, **headers: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
        self.connection.putrequest("POST", path)
        self.connection.putheader("content-type", content_type)
        self.connection.putheader("transfer-encoding", "chunked")
        for name, value in headers.items():
            self.connection.putheader(name, value)
        self.connection.endheaders()
        _opened.append(self)

    def send(self, piece: bytes) -> None:
        self.connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))

    def end(self) -> None:
        self.connection.send(b"0\r\n\r\n")

    def answer(self) -> http.client.HTTPResponse:
        self.response = self.connection.getresponse()
        return self.response

    def close(self) -> None:
        if self.response is not None:
            self.response.close()
        self.connection.close()


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Every client is gone when its test is."""
    yield
    while _opened:
        _opened.pop().close()


@pytest.fixture(scope="module")
def server() -> Iterator[PlaneServer]:
    with plane_server(*MODELS) as running:
        yield running


@pytest.fixture
def undisturbed() -> Iterator[PlaneServer]:
    """A server of `sum` whose queue holds nothing of other tests."""
    with plane_server("sum") as running:
        yield running


def whole(
    server: PlaneServer, path: str, pieces: Iterable[bytes], content_type: str = LINES, **headers: str
) -> Any:
    """Sends all of it while the answer is read; status, headers and the answer."""
    duplex = Duplex(server, path, content_type, **headers)

    def send() -> None:
        with contextlib.suppress(OSError):  # refused from its head, it is not read
            for piece in pieces:
                duplex.send(piece)
            duplex.end()

    sending = threading.Thread(target=send)
    sending.start()
    answer = duplex.answer()
    content = answer.read()
    sending.join(PATIENCE_S)
    return answer.status, answer.headers, content


def arrow(*frames: pl.DataFrame) -> bytes:
    """One stream of a record batch for each frame."""
    content = b""
    for index, frame in enumerate(frames):
        buffer = io.BytesIO()
        frame.write_ipc_stream(buffer, compat_level=pl.CompatLevel.oldest())
        raw = buffer.getvalue().removesuffix(b"\xff\xff\xff\xff\0\0\0\0")
        if index:
            schema = io.BytesIO()
            frame.clear().write_ipc_stream(schema, compat_level=pl.CompatLevel.oldest())
            (length,) = np.frombuffer(raw[4:8], dtype="<i4")
            raw = raw[8 + int(length) :]
        content += raw
    return content + b"\xff\xff\xff\xff\0\0\0\0"


def test_each_line_gives_one_line_in_order(server: PlaneServer) -> None:
    rows = [[float(index), 1.0, 2.0] for index in range(5000)]
    lines = [
        json.dumps(row if index % 2 else dict(zip("abc", row, strict=True))) for index, row in enumerate(rows)
    ]
    bad = {7: "nonsense", 300: "", 301: "[1, 2]", 4999: '{"a": 1}', 2000: '[1, 2, "x"]', 2001: "[1, 2, null]"}
    for index, line in bad.items():
        lines[index] = line
    content = "\n".join(lines).encode()
    pieces = [content[start : start + 997] for start in range(0, len(content), 997)]
    status, headers, answer = whole(server, "/models/sum/invocations", pieces)
    assert (status, headers["content-type"]) == (200, LINES)
    assert (headers["x-penstock-model"], headers["x-penstock-version"]) == ("sum", "1")
    answers = [json.loads(line) for line in answer.decode().removesuffix("\n").split("\n")]
    assert len(answers) == len(rows)
    for index, (row, given) in enumerate(zip(rows, answers, strict=True)):
        if index in bad:
            assert given["line"] == index + 1
            assert given["error"]
        else:
            assert given == {"y": sum(row)}
    assert answers[2000]["fields"] == [{"column": "x[2]", "expected": "a number", "got": "'x'"}]


def test_records_of_columns(server: PlaneServer) -> None:
    rows = [
        {"distance": 1.5, "carrier": "AA", "stops": 1},
        {"stops": 0, "carrier": "Zürich Air", "distance": None},
        {"distance": 1, "carrier": "QQ", "stops": 1},
    ]
    content = "".join(json.dumps(row) + "\r\n" for row in rows).encode()
    for content_type in (LINES, "application/jsonlines", "application/jsonl; charset=utf-8"):
        status, _, answer = whole(server, "/models/fare/versions/1/invocations", [content], content_type)
        assert status == 200
        first, second, third = map(json.loads, answer.splitlines())
        assert first == {"fare": 104.0, "label": "AA!", "parts": [1.5, 104.0]}
        assert second == {"fare": None, "label": "Zürich Air!", "parts": [None, None]}
        assert third["line"] == 3
        assert [each["column"] for each in third["fields"]] == ["carrier"]


def test_what_the_model_refuses_costs_only_its_own_line(server: PlaneServer) -> None:
    content = b"".join(b"%d\n" % value for value in (1, 101, 2))
    _, _, answer = whole(server, "/models/picky/invocations", [content])
    assert [json.loads(line) for line in answer.splitlines()] == [
        {"y": 2},
        {"error": "x is above 100", "line": 2},
        {"y": 4},
    ]


def test_paths_may_be_percent_encoded(server: PlaneServer) -> None:
    status, _, answer = whole(server, "/models/s%75m/invocations", [b"[1,2,3]\n"])
    assert (status, b"error" in answer) == (200, False)


def test_no_lines_give_none(server: PlaneServer) -> None:
    status, _, answer = whole(server, "/models/sum/invocations", [])
    assert (status, answer) == (200, b"")


def test_a_line_too_long_is_told(server: PlaneServer) -> None:
    pieces = [b"[1, 2, 3]\n", *([b" " * 1_000_000] * 5), b"[1, 2, 3]\n[4, 5, 6]"]
    _, _, answer = whole(server, "/models/sum/invocations", pieces)
    first, second, third = map(json.loads, answer.splitlines())
    assert (first, third) == ({"y": 6.0}, {"y": 15.0})
    assert second["line"] == 2
    assert "4194304 bytes" in second["error"]


def test_arrow_in_and_out(server: PlaneServer) -> None:
    random = np.random.default_rng(1)
    frames = [
        pl.DataFrame(
            {
                "stops": random.integers(0, 5, rows),
                "distance": random.uniform(0, 100, rows).astype(np.float32),
                "carrier": random.choice(["AA", "B6", "Zürich Air"], rows),
            }
        )
        for rows in (1000, 1, 300)
    ]
    content = arrow(*frames)
    pieces = [content[start : start + 1000] for start in range(0, len(content), 1000)]
    status, headers, answer = whole(server, "/models/fare/invocations", pieces, ARROW)
    assert (status, headers["content-type"]) == (200, ARROW)
    given = pl.read_ipc_stream(answer)
    together = pl.concat(frames)
    fare = (
        together["distance"] * 2 + 100 * (together["carrier"] == "AA").cast(pl.Float32) + together["stops"]
    ).cast(pl.Float32)
    assert np.allclose(given["fare"].to_numpy(), fare.to_numpy())
    assert given["label"].to_list() == [f"{carrier}!" for carrier in together["carrier"]]
    assert given.schema["parts"] == pl.Array(pl.Float32, 2)
    assert np.array_equal(given["parts"].to_numpy()[:, 0], together["distance"].to_numpy())


def test_accept_names_the_other_form(server: PlaneServer) -> None:
    frame = pl.DataFrame({"a": [1.0, 4.0], "b": [2.0, 5.0], "c": [3, 6]})
    _, headers, answer = whole(server, "/models/sum/invocations", [arrow(frame)], ARROW, accept=LINES)
    assert headers["content-type"] == LINES
    assert answer == b'{"y":6.0}\n{"y":15.0}\n'
    _, headers, answer = whole(server, "/models/sum/invocations", [b"[1,2,3]\n[4,5,6]"], accept=ARROW)
    assert headers["content-type"] == ARROW
    assert pl.read_ipc_stream(answer)["y"].to_list() == [6.0, 15.0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (arrow(pl.DataFrame({"a": ["x"], "b": [1.0], "c": [1.0]})), "column 'a': expected FP32, got"),
        (arrow(pl.DataFrame({"a": [1.0], "b": [1.0]})), "got a frame of 2 columns"),
        (
            arrow(pl.DataFrame({"a": [1.0], "b": [1.0], "c": [None]}, schema_overrides={"c": pl.Float32})),
            "missing",
        ),
        (b"not Arrow, is it", "continuation marker"),
        (b"", "the body is empty"),
    ],
)
def test_arrow_that_does_not_fit_is_refused(server: PlaneServer, content: bytes, said: str) -> None:
    status, headers, answer = whole(server, "/models/sum/invocations", [content] if content else [], ARROW)
    assert (status, headers["content-type"]) == (400, "application/json")
    assert said in json.loads(answer)["error"]


def test_a_stream_that_breaks_breaks_its_answer(server: PlaneServer) -> None:
    """Once the answer has begun there is no status to tell it with, and it must not look whole."""
    duplex = Duplex(server, "/models/sum/invocations", ARROW)
    content = arrow(pl.DataFrame({"a": [1.0], "b": [1.0], "c": [1.0]}))
    duplex.send(content[:-8])
    answer = duplex.answer()
    assert answer.status == 200
    assert answer.read(8)[:4] == b"\xff\xff\xff\xff"
    duplex.send(b"nonsense")
    with pytest.raises(http.client.IncompleteRead):
        answer.read()


def test_answers_come_while_the_batch_is_still_sent(server: PlaneServer) -> None:
    duplex = Duplex(server, "/models/sum/invocations")
    duplex.send(b"[1, 2, 3]\n[4,")
    answer = duplex.answer()
    assert answer.readline() == b'{"y":6.0}\n'
    duplex.send(b"5, 6]\n")
    assert answer.readline() == b'{"y":15.0}\n'
    duplex.end()
    assert answer.read() == b""


def test_a_connection_serves_on_after_a_batch(server: PlaneServer) -> None:
    duplex = Duplex(server, "/models/sum/invocations")
    duplex.send(b"[1, 2, 3]\n")
    duplex.end()
    assert duplex.answer().read() == b'{"y":6.0}\n'
    duplex.connection.request("GET", "/models/sum/ping")
    assert duplex.connection.getresponse().status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"accept": "text/csv"}, 415), ({"content-encoding": "br"}, 415), ({"x-request-timeout-ms": "0"}, 400)],
)
def test_what_is_asked_for_wrongly_is_told(server: PlaneServer, headers: dict[str, str], status: int) -> None:
    given, _, answer = whole(server, "/models/sum/invocations", [b"[1, 2, 3]\n"], **headers)
    assert given == status
    assert json.loads(answer)["error"]


def test_a_compressed_batch(server: PlaneServer) -> None:
    content = gzip.compress(b"[1, 2, 3]\n" * 10_000)
    pieces = [content[start : start + 7] for start in range(0, len(content), 7)]
    status, _, answer = whole(server, "/models/sum/invocations", pieces, **{"content-encoding": "gzip"})
    assert (status, answer) == (200, b'{"y":6.0}\n' * 10_000)


def test_a_compressed_batch_that_is_cut(server: PlaneServer) -> None:
    content = gzip.compress(b"[1, 2, 3]\n" * 10)[:-12]
    try:
        status, _, answer = whole(server, "/models/sum/invocations", [content], **{"content-encoding": "gzip"})
    except http.client.IncompleteRead:
        return  # the first lines were answered before the cut was met: the answer breaks off too
    assert status == 400
    assert "gzip" in json.loads(answer)["error"]


def test_an_unknown_model(server: PlaneServer) -> None:
    status, _, answer = whole(server, "/models/nosuch/invocations", [b"1\n"])
    assert status == 404
    assert "nosuch" in json.loads(answer)["error"]


def test_a_client_that_does_not_read_is_not_read(server: PlaneServer) -> None:
    """What it may send is what the buffers on the way hold, and no more."""
    duplex = Duplex(server, "/models/sum/invocations")
    piece = b"[1, 2, 3]\n" * 20_000
    duplex.connection.sock.settimeout(BLOCKED_S)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < 1000:
            duplex.send(piece)
            sent += 1
    assert sent < 200
    duplex.close()


def test_a_model_that_is_slow_slows_the_client(undisturbed: PlaneServer) -> None:
    """A few chunks are in flight, and no more is read while they are."""
    server = undisturbed
    runtime = server.runtimes["sum", "1"]
    runtime.gate.clear()
    duplex = Duplex(server, "/models/sum/invocations")
    piece = b"[1, 2, 3]\n" * 20_000
    duplex.connection.sock.settimeout(BLOCKED_S)
    sent = 0
    try:
        with contextlib.suppress(TimeoutError):
            while sent < 1000:
                duplex.send(piece)
                sent += 1
        assert sent < 200
        wait_for(lambda: queued(server, "sum") >= 3 * 64)
        assert queued(server, "sum") < 4 * 64  # of the one that runs a part may wait
    finally:
        duplex.close()
        runtime.gate.set()


def test_rows_of_arrow_are_counted_over_its_batches(server: PlaneServer) -> None:
    frame = pl.DataFrame({"x": [*range(70), 101]})
    _, _, answer = whole(server, "/models/picky/invocations", [arrow(frame, frame)], ARROW, accept=LINES)
    answers = [json.loads(line) for line in answer.splitlines()]
    assert answers[:70] == answers[71:141] == [{"y": 2 * x} for x in range(70)]
    assert (answers[70]["line"], answers[141]["line"]) == (71, 142)


def test_a_client_that_hangs_up_costs_no_more(undisturbed: PlaneServer) -> None:
    server = undisturbed
    runtime = server.runtimes["sum", "1"]
    runtime.gate.clear()
    try:
        duplex = Duplex(server, "/models/sum/invocations")
        duplex.send(b"[1, 2, 3]\n" * 2000)
        wait_for(lambda: 3 * 64 <= queued(server, "sum") < 4 * 64)  # one more runs, perhaps in part
        before = len(runtime.rows)
        duplex.close()
        wait_for(lambda: queued(server, "sum") == 0, PATIENCE_S / 3)  # long before they expire
    finally:
        runtime.gate.set()
    with server.client() as client:
        assert client.post("/models/sum/invocations", json={"instances": [[1, 2, 3]]}).status_code == 200
    # At most the chunk that was running when it hung up, and the request just made.
    assert len(runtime.rows) - before <= 2


def test_interactive_requests_go_first() -> None:
    with plane_server("sum") as server, server.client() as client:
        runtime = server.runtimes["sum", "1"]
        sums, behave = [], runtime.behave

        def recorded(tensors: Tensors) -> Tensors:
            sums.append(tensors["x"].sum(axis=1).tolist())
            return behave(tensors)

        runtime.behave = recorded
        runtime.gate.clear()
        duplex = Duplex(server, "/models/sum/invocations")
        duplex.send(b"[1, 2, 3]\n" * 64 * 4)
        wait_for(lambda: queued(server, "sum") >= 128)
        answers = []
        asking = threading.Thread(
            target=lambda: answers.append(
                client.post("/models/sum/invocations", json={"instances": [[4, 5, 6]]})
            )
        )
        rows = queued(server, "sum")
        asking.start()
        wait_for(lambda: queued(server, "sum") == rows + 1)
        runtime.gate.set()
        asking.join(PATIENCE_S)
        duplex.end()
        assert len(duplex.answer().read().splitlines()) == 256
        assert answers[0].status_code == 200
        # One chunk was running already; the one row of the request was first in what ran next.
        assert sums[1][0] == 15.0, sums


def test_a_full_queue_is_waited_out() -> None:
    with plane_server() as server, server.client() as client:
        runtime = server.add("sum", batching={"queue_rows_max": 64})
        runtime.gate.clear()
        duplex = Duplex(server, "/models/sum/invocations")
        duplex.send(b"[1, 2, 3]\n" * 64 * 6)
        duplex.end()
        wait_for(lambda: refusals(server, "sum") > 0)
        runtime.gate.set()
        assert duplex.answer().read() == b'{"y":6.0}\n' * 64 * 6
        assert client.get("/models/sum/ping").status_code == 200


def test_one_version_answers_all_of_a_batch() -> None:
    with plane_server("sum") as server:
        server.add("sum", "2").behave = lambda tensors: {"y": np.zeros(len(tensors["x"]), dtype=np.float32)}
        duplex = Duplex(server, "/models/sum/invocations")
        duplex.send(b"[1, 2, 3]\n")
        answer = duplex.answer()
        assert answer.headers["x-penstock-version"] == "1"
        assert answer.readline() == b'{"y":6.0}\n'
        server.loop.call_soon_threadsafe(server.plane.route, "sum", "2")
        with server.client() as client:
            body = {"instances": [[1, 2, 3]]}
            wait_for(lambda: client.post("/models/sum/invocations", json=body).json() == {"predictions": [0.0]})
        duplex.send(b"[1, 2, 3]\n")
        duplex.end()
        assert answer.read() == b'{"y":6.0}\n'


@pytest.mark.parametrize("form", [LINES, ARROW])
def test_a_version_that_goes_ends_the_batch(form: str) -> None:
    with plane_server("sum") as server:
        duplex = Duplex(server, "/models/sum/invocations", accept=form)
        duplex.send(b"[1, 2, 3]\n")
        answer = duplex.answer()
        assert answer.status == 200
        if form == LINES:
            assert answer.readline() == b'{"y":6.0}\n'
        else:
            assert answer.read(8)
        server.remove("sum", "1")
        duplex.send(b"[1, 2, 3]\n[1, 2, 3]\n")
        if form == LINES:
            (line,) = answer.read().splitlines()
            told = json.loads(line)
            assert told["line"] == 2
            assert "version 1 of 'sum' is not served any more" in told["error"]
        else:
            with pytest.raises(http.client.IncompleteRead):
                answer.read()


def test_a_deadline_is_of_a_chunk(server: PlaneServer) -> None:
    runtime = server.runtimes["sum", "1"]
    duplex = Duplex(server, "/models/sum/invocations", **{"x-request-timeout-ms": "500"})
    runtime.gate.clear()
    try:
        duplex.send(b"[1, 2, 3]\n")
        answer = duplex.answer()
        assert json.loads(answer.readline())["line"] == 1
    finally:
        runtime.gate.set()
    for _ in range(3):
        duplex.send(b"[1, 2, 3]\n")
        assert answer.readline() == b'{"y":6.0}\n'
    duplex.end()


def test_a_body_that_breaks_off_before_the_answer(server: PlaneServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as raw:
        head = "POST /models/sum/invocations HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n"
        raw.sendall(f"{head}transfer-encoding: chunked\r\n\r\nzz\r\n".encode())
        assert raw.recv(100).startswith(b"HTTP/1.1 400 ")


def queued(server: PlaneServer, model: str) -> int:
    deployment = server.plane.default(model)
    return 0 if deployment is None else deployment.dispatcher_statistics().queue.rows


def refusals(server: PlaneServer, model: str) -> int:
    deployment = server.plane.default(model)
    if deployment is None:
        return 0
    early = sum(deployment.admission_statistics().refused.values())
    return early + deployment.dispatcher_statistics().queue.refused


def wait_for(condition: Any, patience_s: float = PATIENCE_S) -> None:
    until_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < until_s, "it did not come to pass"
        time.sleep(0.005)
