"""How the server under test is started for a figure."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness.penstock import Server
from benchmarks.harness.processes import Service, free_ports
from benchmarks.protocols.figure import Bench

__all__ = ["Start", "serving"]

APP = Path(__file__).with_name("app.py")


@dataclass(frozen=True, kw_only=True)
class Start:
    """How a server is started; `settings` are `key=value` for --set."""

    app: str
    workers: int = 1
    port: int = 0
    grpc: bool = False
    settings: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


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
