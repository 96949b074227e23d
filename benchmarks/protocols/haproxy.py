"""HAProxy in front of two instances, as one would set it up: what it does is in `CONFIGURATION`, all of it."""

import csv
import io
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness.processes import Service, free_ports

__all__ = ["CONFIGURATION", "NOTICE_S", "PLACES", "Haproxy", "haproxy"]

# Health is asked every 100 ms: two bad answers in a row take a server out, two good ones put it back.
# Connections to servers are kept and reused. A request is tried anew, on the other server, only where no
# connection could be made: HAProxy's default (`retry-on conn-failure`), written down. One that was sent and got
# no answer is a 502 that the client sees, and so is counted.
CONFIGURATION = """\
global
    maxconn 4096
    nbthread 1
    stats socket {socket} mode 600 level admin
defaults
    mode http
    timeout connect 1s
    timeout check 2s
    timeout client 30s
    timeout server 30s
    option http-keep-alive
    http-reuse safe
    retries 3
    option redispatch 1
    retry-on conn-failure
frontend clients
    bind 127.0.0.1:{port}
    default_backend instances
backend instances
    balance roundrobin
    option httpchk GET /v2/health/ready
    http-check expect status 200
    default-server check inter 100ms fall 2 rise 2
{servers}"""
NOTICE_S = 0.2
"""Two intervals between checks; how long their answers take comes on top."""
PLACES = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin"
UP_S_MAX = 30.0
POLL_S = 0.02
ANSWER_BYTES_MAX = 1 << 20


class Haproxy:
    """A running HAProxy that listens on `port`."""

    def __init__(self, service: Service, port: int, control: Path) -> None:
        self.service = service
        self.port = port
        self._control = control

    def statuses(self) -> dict[str, str]:
        """`UP` or `DOWN`, or on its way, by server."""
        rows = self._stats()
        return {
            row["svname"]: row["status"]
            for row in rows
            if row["pxname"] == "instances" and row["svname"] != "BACKEND"
        }

    def counts(self) -> dict[str, int]:
        """Retries and redispatches of the backend: what it did so that clients did not see a failure."""
        (backend,) = [
            row for row in self._stats() if row["pxname"] == "instances" and row["svname"] == "BACKEND"
        ]
        return {name: int(backend[name] or 0) for name in ("wretr", "wredis", "econ", "eresp", "hrsp_5xx")}

    def wait_until(self, name: str, status: str, seconds_max: float = UP_S_MAX) -> None:
        until_s = time.monotonic() + seconds_max
        while time.monotonic() < until_s:
            self.service.check_alive()
            if self.statuses().get(name) == status:
                return
            time.sleep(POLL_S)
        raise self.service.failed(f"{name} was not {status} within {seconds_max:.0f} s: {self.statuses()}")

    def _stats(self) -> list[dict[str, str]]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(5.0)
            connection.connect(str(self._control))
            connection.sendall(b"show stat\n")
            pieces = []
            while piece := connection.recv(65536):
                pieces.append(piece)
        return list(csv.DictReader(io.StringIO(b"".join(pieces).decode().removeprefix("# "))))


@contextmanager
def haproxy(servers: Mapping[str, int], *, folder: Path, log: Path, cores: frozenset[int]) -> Iterator[Haproxy]:
    """HAProxy in front of servers (ports by name). Raises `LookupError` where it is not installed."""
    binary = shutil.which("haproxy", path=PLACES)
    if binary is None:
        raise LookupError("haproxy is not installed\nhint: apt-get install haproxy")
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    control = folder / "haproxy.sock"
    control.unlink(missing_ok=True)
    lines = [f"    server {name} 127.0.0.1:{its}" for name, its in servers.items()]
    file = folder / "haproxy.cfg"
    file.write_text(CONFIGURATION.format(socket=control, port=port, servers="\n".join(lines) + "\n"))
    with Service(
        [binary, "-f", str(file), "-db"], cores=cores, log=log, folder=folder, environment={}
    ) as service:
        until_s = time.monotonic() + 5.0
        while not control.exists() and time.monotonic() < until_s:
            service.check_alive()
            time.sleep(POLL_S)
        yield Haproxy(service, port, control)
