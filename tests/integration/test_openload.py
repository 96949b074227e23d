"""The open-loop generator against a server whose answers are known: its counts are that server's."""

import asyncio
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from benchmarks.harness.load import Target
from benchmarks.surge.generator import Class, Clients, OpenLoad, Phase, Seen

pytestmark = pytest.mark.alone

SLOW_S = 0.15
CLIENTS = Clients(connections=40, timeout_header_ms=None, classes=())


@dataclass
class Scripted:
    """Answers by path, and counts what it was asked: (path, criticality, attempt)."""

    port: int = 0
    asked: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    clients: set[str] = field(default_factory=set)
    bodies: Counter[bytes] = field(default_factory=Counter)
    _loop: asyncio.AbstractEventLoop | None = None

    def run(self, ready: threading.Event) -> None:
        asyncio.run(self._serve(ready))

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._over.wait()
        server.close()

    def stop(self) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._over.set)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients.add(writer.get_extra_info("peername")[0])
        try:
            while await self._request(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        self.bodies[await reader.readexactly(int(headers.get("Content-Length", 0)))] += 1
        path = lines[0].split()[1]
        key = (path, headers.get("x-criticality", ""), headers.get("x-retry-attempt", ""))
        self.asked[key] += 1
        number = sum(self.asked.values())
        match path:
            case "/mixed":
                third = number % 3 == 0
                writer.write(_answer(503 if third else 200, b"{}"))
            case "/chunked":
                writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                for part in (b"5\r\nhel", b"lo\r\n0\r", b"\n\r\n"):
                    writer.write(part)
                    await asyncio.sleep(0)
            case "/slow":
                await asyncio.sleep(SLOW_S)
                writer.write(_answer(200, b"{}"))
            case "/closing":
                writer.write(_answer(503, b"no", "connection: close"))
                await writer.drain()
                return False
            case "/refusing":
                writer.write(_answer(503, b"no"))
            case "/broken":
                return False
            case "/silent":
                await asyncio.sleep(3600)
            case "/rungs":
                writer.write(_answer(200, b"{}", "X-Penstock-Rung: " + ("constant" if number % 2 else "")))
        await writer.drain()
        return True


def _answer(status: int, body: bytes, header: str = "x: y") -> bytes:
    return f"HTTP/1.1 {status} Any\r\n{header}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


@pytest.fixture
def server() -> Iterator[Scripted]:
    scripted, ready = Scripted(), threading.Event()
    thread = threading.Thread(target=scripted.run, args=(ready,), daemon=True)
    thread.start()
    assert ready.wait(10)
    yield scripted
    scripted.stop()
    thread.join(10)


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> OpenLoad:
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler (cc) for the load generator")
    return OpenLoad.build(tmp_path_factory.mktemp("openload"), core=0)


def drive(
    generator: OpenLoad,
    server: Scripted,
    path: str,
    *phases: Phase,
    clients: Clients = CLIENTS,
    bodies: tuple[Path, ...] = (),
) -> Seen:
    phases = phases or (Phase(name="only", seconds=0.5, rate=400),)
    return generator.run(Target(port=server.port, path=path, bodies=bodies), clients, phases)


def test_statuses_are_those_that_the_server_gave(generator, server):
    total = drive(generator, server, "/mixed").phases[0].total

    asked = server.asked["/mixed", "", ""]
    assert total.sent == asked
    assert total.statuses == {200: asked - asked // 3, 503: asked // 3}
    assert total.refused == asked // 3


def test_arrivals_are_poisson_at_the_rate_and_the_same_for_the_same_seed(generator, server):
    phase = Phase(name="only", seconds=1.0, rate=1000)

    counts = [drive(generator, server, "/mixed", phase).phases[0].total.arrivals for _ in range(2)]

    assert counts[0] == counts[1]
    assert 840 < counts[0] < 1160  # five standard deviations


def test_every_client_has_an_address_and_its_turn(generator, server):
    drive(generator, server, "/mixed")

    assert len(server.clients) == CLIENTS.connections


def test_bodies_go_round(generator, server, tmp_path):
    files = tuple(tmp_path / str(number) for number in range(3))
    for file in files:
        file.write_text(f"body {file.name}")

    total = drive(generator, server, "/mixed", bodies=files).phases[0].total

    assert set(server.bodies) == {b"body 0", b"body 1", b"body 2"}
    assert sum(server.bodies.values()) == total.sent
    assert max(server.bodies.values()) - min(server.bodies.values()) <= 1


def test_chunked_answers_are_read_to_their_end(generator, server):
    total = drive(generator, server, "/chunked").phases[0].total

    assert total.answered == total.sent == server.asked["/chunked", "", ""]


def test_an_answer_after_the_deadline_is_late_not_good(generator, server):
    total = drive(generator, server, "/slow").phases[0].total

    assert (total.good, total.late) == (0, total.sent)
    assert total.p50_ms >= SLOW_S * 1000


def test_what_waits_for_a_connection_counts_from_when_it_was_due(generator, server):
    """Two connections of 150 ms each can carry 13 a second; what waits for over 100 ms is not sent."""
    few = Clients(connections=2, timeout_header_ms=None, classes=())

    total = (
        drive(generator, server, "/slow", Phase(name="only", seconds=1.0, rate=100), clients=few)
        .phases[0]
        .total
    )

    assert total.good == 0
    assert total.unsent > 0
    assert total.sent == server.asked["/slow", "", ""] <= 16
    assert total.max_ms > SLOW_S * 1000 + 50


def test_connections_that_the_server_closes_are_opened_anew_and_nothing_is_lost(generator, server):
    seen = drive(generator, server, "/closing")

    total = seen.phases[0].total
    assert total.statuses == {503: total.sent}
    assert total.sent == server.asked["/closing", "", ""]
    assert seen.connects >= total.sent - CLIENTS.connections


def test_connections_that_break_are_counted(generator, server):
    total = drive(generator, server, "/broken").phases[0].total

    assert total.broken == total.sent == server.asked["/broken", "", ""]


def test_clients_give_up_on_a_silent_server(generator, server):
    patient = Clients(connections=200, give_up_ms=200, timeout_header_ms=None, classes=())

    total = drive(generator, server, "/silent", clients=patient).phases[0].total

    assert total.given_up == total.sent > 0


def test_retries_are_sent_at_once_so_often_and_say_so(generator, server):
    stubborn = Clients(connections=40, timeout_header_ms=None, classes=(), retries=2)

    phase = Phase(name="only", seconds=1.0, rate=60)
    total = drive(generator, server, "/closing", phase, clients=stubborn).phases[0].total

    first, second, third = (server.asked["/closing", "", attempt] for attempt in ("", "1", "2"))
    assert total.arrivals < total.retries <= 2 * total.arrivals
    assert third <= second <= first
    assert first + second + third == total.sent  # what could not be sent in time is retried too


def test_classes_are_mixed_by_weight_and_add_up(generator, server):
    classes = (
        Class(name="FEW", weight=0.2, header="x-criticality: FEW"),
        Class(name="MANY", weight=0.8, header="x-criticality: MANY"),
    )
    mixed = Clients(connections=40, timeout_header_ms=None, classes=classes)

    phase = drive(
        generator, server, "/mixed", Phase(name="only", seconds=1.0, rate=1000), clients=mixed
    ).phases[0]

    few, many = phase.of("FEW"), phase.of("MANY")
    assert few.sent == server.asked["/mixed", "FEW", ""]
    assert many.sent == server.asked["/mixed", "MANY", ""]
    assert few.sent + many.sent == phase.total.sent
    assert 0.14 < few.sent / phase.total.sent < 0.26


def test_rungs_are_counted_where_the_header_is_not_empty(generator, server):
    total = drive(generator, server, "/rungs").phases[0].total

    assert total.rungs == (total.sent + 1) // 2


def test_a_closed_loop_keeps_so_many_in_flight(generator, server):
    seen = drive(generator, server, "/slow", Phase(name="level", seconds=0.9, in_flight=8))

    sent = seen.phases[0].total.sent
    assert 8 * 3 <= sent <= 8 * 7  # 150 ms each: six rounds


def test_a_closed_loop_pauses_after_a_refusal(generator, server):
    seen = drive(generator, server, "/refusing", Phase(name="level", seconds=0.5, in_flight=4))

    assert 4 <= seen.phases[0].total.sent <= 4 * 26  # 20 ms each, at least


def test_phases_and_windows_have_the_same_requests(generator, server):
    phases = (Phase(name="calm", seconds=0.3, rate=100), Phase(name="surge", seconds=0.3, rate=1000))

    seen = drive(generator, server, "/mixed", *phases)

    assert len(seen.windows) == 6
    assert sum(window.attempts for window in seen.windows) == sum(phase.total.attempts for phase in seen.phases)
    assert sum(window.attempts for window in seen.windows[:3]) == seen.phases[0].total.attempts
    assert sum(window.good for window in seen.windows) == sum(phase.total.good for phase in seen.phases)
