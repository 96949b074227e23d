"""The server under test: the real `penstock run`, its workers, and what it says of itself."""

import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.processes import Service
from penstock.supervision.status import InstanceStatus, WorkerStatus, read_statuses

__all__ = ["Asked", "Server", "ask"]

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
