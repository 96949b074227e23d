"""The server under test: the real `penstock run`, its workers, and what it says of itself."""

import http.client
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness.processes import Service, free_ports
from benchmarks.protocols.figure import Bench
from penstock.supervision.status import InstanceStatus, WorkerStatus, read_statuses

__all__ = ["Asked", "Server", "Start", "ask", "serving"]

APP = Path(__file__).with_name("app.py")
START_S_MAX = 60.0
POLL_S = 0.02
ANSWER_S_MAX = 10.0


@dataclass(frozen=True, kw_only=True)
class Asked:
    """An answer: status, headers in lower case, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def ask(port: int, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Asked:
    """One request on a connection of its own. Raises `OSError` and `HTTPException` where there is no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S_MAX)
    try:
        connection.request("GET" if body is None else "POST", path, body, dict(headers or {}))
        response = connection.getresponse()
        received = {name.lower(): value for name, value in response.getheaders()}
        return Asked(status=response.status, headers=received, body=response.read())
    finally:
        connection.close()


@dataclass(frozen=True, kw_only=True)
class Start:
    """How a server is started; `settings` are `key=value` for --set."""

    app: str
    workers: int = 1
    port: int = 0
    grpc: bool = False
    settings: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


class Server:
    """A running instance."""

    def __init__(self, service: Service, *, home: Path, port: int, grpc_port: int, workers: int) -> None:
        self.service = service
        self.port = port
        self.grpc_port = grpc_port
        self._home = home
        self._workers = workers

    def status(self) -> InstanceStatus | None:
        """What `penstock status` shows of it; None while it says nothing."""
        pid = self.service.pid
        return next((each for each in read_statuses(str(self._home)) if each.pid == pid), None)

    def serving_workers(self) -> list[WorkerStatus]:
        """The workers that answer, with their models loaded."""
        status = self.status()
        return (
            [] if status is None else [each for each in status.workers if each.state == "serving" and each.pid]
        )

    def wait_until_ready(self, seconds_max: float = START_S_MAX) -> None:
        """Until it answers that it is ready, with all of its workers."""
        until_s = time.monotonic() + seconds_max
        while time.monotonic() < until_s:
            self.service.check_alive()
            if len(self.serving_workers()) == self._workers and self.is_ready():
                return
            time.sleep(POLL_S)
        raise self.service.failed(f"it was not ready within {seconds_max:.0f} s")

    def is_ready(self) -> bool:
        try:
            return ask(self.port, "/v2/health/ready").status == 200
        except (OSError, http.client.HTTPException):
            return False

    def pids(self) -> dict[str, int]:
        """The supervisor and each worker."""
        found = {f"worker {each.number}": each.pid for each in self.serving_workers() if each.pid is not None}
        return {"supervisor": self.service.pid, **found}


@contextmanager
def serving(bench: Bench, name: str, start: Start) -> Iterator[Server]:
    """A server that is ready; `name` is that of its log. Ended with all of its processes."""
    with Service(
        _command(start),
        cores=frozenset({bench.cores.server}) if start.workers == 1 else bench.wide,
        log=bench.folder / "log" / f"protocols-{name}.log",
        folder=APP.parent,
        environment={"PENSTOCK_HOME": str(bench.home), "OMP_NUM_THREADS": "1", **start.environment},
    ) as service:
        port, grpc_port = _ports(service.command)
        server = Server(service, home=bench.home, port=port, grpc_port=grpc_port, workers=start.workers)
        server.wait_until_ready()
        yield server


def _command(start: Start) -> list[str]:
    port, grpc_port = free_ports(2)
    penstock = str(Path(sys.executable).with_name("penstock"))
    command = [penstock, "run", f"{APP}:{start.app}", "--workers", str(start.workers)]
    command += ["--port", str(start.port or port), "--grpc-port", str(grpc_port if start.grpc else -1)]
    for setting in start.settings:
        command += ["--set", setting]
    return command


def _ports(command: Sequence[str]) -> tuple[int, int]:
    return int(command[command.index("--port") + 1]), int(command[command.index("--grpc-port") + 1])
