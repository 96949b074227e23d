"""The load generator counts what a misbehaving server does to it: each kind of failure, to the last one."""

import json
import os
import shutil
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from benchmarks.harness.load import Load, LoadGenerator, Marks, Pace, Target
from benchmarks.protocols.record import read_record

pytestmark = pytest.mark.alone

CONNECTIONS = 4
PATIENCE_S = 10.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"


class FakeServer:
    """Answers requests without bodies; `behave` is given the number of each, over all connections, and gives
    the answer, or None to close the connection, or an empty one to reset it.
    """

    def __init__(self, behave: Callable[[int], bytes | None]) -> None:
        self._behave = behave
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self.asked = 0
        self.accepted = 0
        self.given: list[bytes | None] = []
        self.port = self._listener.getsockname()[1]

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def close(self) -> None:
        # Closing alone leaves a thread that waits in accept where it is.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE_S)
        with connection:
            try:
                while connection.recv(65536):
                    with self._lock:
                        self.asked += 1
                        answer = self._behave(self.asked)
                        self.given.append(answer)
                    if answer is None:
                        return
                    if not answer:
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        return
                    connection.sendall(answer)
            except OSError:
                return


@contextmanager
def fake(behave: Callable[[int], bytes | None]) -> Iterator[FakeServer]:
    server = FakeServer(behave)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(PATIENCE_S)


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> LoadGenerator:
    if shutil.which("cc") is None or not hasattr(os, "sched_setaffinity"):
        pytest.skip("the load generator needs Linux and a C compiler (cc)")
    return LoadGenerator.build(tmp_path_factory.mktemp("load"), core=min(os.sched_getaffinity(0)))


def run(load: LoadGenerator, server: FakeServer, pace: Pace, record: Path, marks: Marks | None = None) -> Load:
    target = Target(port=server.port, path="/", bodies=(), marks=marks)
    with load.start(target, pace, seconds_max=0.5, record=record) as running:
        return running.wait()


CLOSED_LOOP = Pace(connections=CONNECTIONS)


def test_failures_are_counted_by_kind_and_kept_one_by_one(load: LoadGenerator, tmp_path: Path) -> None:
    def behave(number: int) -> bytes | None:
        return {0: None, 3: b"", 6: BUSY}.get(number % 10, OK)

    with fake(behave) as server:
        seen = run(load, server, CLOSED_LOOP, tmp_path / "record")
        record = read_record(tmp_path / "record")
    # What was in flight at the end is given by the server, and not seen any more.
    given = {None: seen.closed, b"": seen.reset, BUSY: seen.statuses["503"], OK: seen.answered}
    for answer, counted in given.items():
        assert counted <= server.given.count(answer) <= counted + CONNECTIONS, answer
    assert seen.failed == seen.closed + seen.reset + seen.statuses["503"]
    assert seen.early == seen.refused == seen.hung == 0
    kinds = [failure.kind for failure in record.failures]
    assert kinds.count("closed") == seen.closed
    assert kinds.count("reset") == seen.reset
    assert kinds.count("status") == seen.statuses["503"]
    assert sum(record.good) == seen.answered
    assert all(record.start_s <= each.at_s <= record.start_s + 1 for each in record.failures)
    assert all(each.opened_s <= each.begun_s <= each.at_s for each in record.failures)


def test_versions_that_are_mixed_are_seen(load: LoadGenerator, tmp_path: Path) -> None:
    def behave(number: int) -> bytes:
        said = {
            "model_version": "1" if number < 40 else "2",
            "data": [2 if number == 20 or number >= 40 else 1],
        }
        body = json.dumps(said if number != 30 else {}).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    marks = Marks(version='"model_version": "', output='"data": [')
    with fake(behave) as server:
        before_s = time.monotonic()
        seen = run(load, server, CLOSED_LOOP, tmp_path / "record", marks)
    assert (seen.mixed, seen.unread) == (1, 1)
    assert seen.failed == 2
    assert set(seen.versions) == {1, 2}
    assert seen.versions[1].answers == 38
    first, second = seen.versions[1], seen.versions[2]
    assert before_s < first.first_s <= first.last_s
    assert second.first_s <= second.last_s <= time.monotonic()


def test_an_open_loop_sends_what_is_due(load: LoadGenerator, tmp_path: Path) -> None:
    with fake(lambda _: OK) as server:
        seen = run(load, server, Pace(connections=CONNECTIONS, rate=200), tmp_path / "record")
    assert seen.answered + seen.overdue == pytest.approx(100, abs=8)
    assert seen.failed == 0


def test_an_open_loop_counts_waiting_as_latency(load: LoadGenerator, tmp_path: Path) -> None:
    """A server that stands still for a while delays all that is due meanwhile, not only what it was asked."""

    def behave(number: int) -> bytes:
        if number == 20:
            time.sleep(0.2)
        return OK

    with fake(behave) as server:
        seen = run(load, server, Pace(connections=1, rate=200), tmp_path / "record")
    assert seen.max_us > 190_000
    # Of 100 requests, the forty that came due within those 200 ms have waited.
    assert seen.p50_us < seen.p99_us
    assert seen.p99_us > 100_000


def test_connections_are_renewed(load: LoadGenerator, tmp_path: Path) -> None:
    with fake(lambda _: OK) as server:
        seen = run(load, server, Pace(connections=1, renew_after=5), tmp_path / "record")
    assert seen.failed == 0
    assert server.accepted == pytest.approx(seen.answered / 5, abs=2)


def test_requests_that_hang_are_failures(load: LoadGenerator, tmp_path: Path) -> None:
    def behave(number: int) -> bytes:
        if number == 5:
            return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"  # the rest never comes
        return OK

    target_s = 1.5
    with fake(behave) as server:
        target = Target(port=server.port, path="/", bodies=())
        with load.start(target, CLOSED_LOOP, seconds_max=target_s, record=tmp_path / "record") as running:
            seen = running.wait()
    assert seen.hung == 1
    assert seen.failed == 1


def test_it_ends_when_it_is_told(load: LoadGenerator) -> None:
    with fake(lambda _: OK) as server:
        begun_s = time.monotonic()
        with load.start(Target(port=server.port, path="/", bodies=()), CLOSED_LOOP, seconds_max=60) as running:
            time.sleep(0.2)
            seen = running.finish()
        assert time.monotonic() - begun_s < 10
    assert seen.answered > 0
    assert seen.seconds < 10
