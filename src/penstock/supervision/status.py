"""What `penstock status` shows: asked from the supervisor over a socket in the home folder."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec

from penstock.serving.statistics import DeploymentStatistics
from penstock.supervision.actions import Role
from penstock.supervision.messages import Report
from penstock.supervision.places import WorkerView

__all__ = ["InstanceStatus", "StatusSocket", "WorkerStatus", "read_statuses", "worker_status"]

log = logging.getLogger(__name__)

FOLDER = "run"
ANSWER_TIMEOUT_S = 5.0


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A worker: `state` is starting, serving, draining, or waiting for its next start."""

    number: int
    role: str = Role.SERVE.value
    state: str
    pid: int | None
    up_s: float
    restarts: int
    failures: int
    cause: str
    next_start_s: float
    report: Report | None


class InstanceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A serve instance: its supervisor, its workers, and what these have counted together."""

    pid: int
    app: str
    version: str
    url: str
    grpc_port: int
    ready: bool
    stopping: bool
    started_at: datetime
    workers: tuple[WorkerStatus, ...]
    statistics: tuple[DeploymentStatistics, ...] = ()

    @property
    def streams_ready(self) -> bool:
        """Whether every worker of streams gets on, with all its partitions. True where there are none."""
        return all(
            each.report is not None and each.report.ready
            for each in self.workers
            if each.role == Role.STREAM.value
        )


def worker_status(view: WorkerView, pid: int | None, report: Report | None, now_s: float) -> WorkerStatus:
    """Of a worker as its pool sees it, with the number of its process where there is one."""
    return WorkerStatus(
        number=view.number,
        role=view.role.value,
        state=view.state.value if view.state is not None else "waiting",
        pid=pid,
        up_s=now_s - view.started_s if pid is not None else 0.0,
        restarts=view.restarts,
        failures=view.failures,
        cause=view.cause,
        next_start_s=max(0.0, view.next_start_s - now_s) if pid is None else 0.0,
        report=report,
    )


class StatusSocket:
    """Answers whoever connects with the instance's status; for this user alone."""

    def __init__(self, home: str, status: Callable[[], InstanceStatus]) -> None:
        self._folder = Path(home) / FOLDER
        self._status = status
        self._name = f"{os.getpid()}.sock"
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Where there can be no socket, the log says so, and the server does without."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _short_path(self._folder) as folder:
                (folder / self._name).unlink(missing_ok=True)
                listening.bind(str(folder / self._name))
        except OSError as error:
            listening.close()
            reason = error.strerror or error
            log.warning("`penstock status` will not know of this server: %s: %s", self._folder, reason)
            return
        self._server = await asyncio.start_unix_server(self._answer, sock=listening)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(OSError):
                (self._folder / self._name).unlink(missing_ok=True)
                self._folder.rmdir()  # where it was the last

    async def _answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                writer.write(msgspec.json.encode(self._status()))
                await writer.drain()
        except OSError:
            writer.transport.abort()  # it is gone, or (TimeoutError) does not read
        finally:
            writer.close()


def read_statuses(home: str) -> list[InstanceStatus]:
    """The status of every instance that runs from this home folder. Blocks. Sockets of the dead are removed."""
    found = []
    folder = Path(home) / FOLDER
    for path in sorted(folder.glob("*.sock")):
        content = _read(folder, path.name)
        if content is None:
            path.unlink(missing_ok=True)
        elif content:
            try:
                found.append(msgspec.json.decode(content, type=InstanceStatus))
            except msgspec.DecodeError as error:
                # It ended while it answered, or it is of another release.
                log.warning("what %s says is not understood: %s", path.name, error)
    return found


def _read(folder: Path, name: str) -> bytes | None:
    """What the socket says; empty where it is too slow, None where nobody listens."""
    pieces: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_TIMEOUT_S)
        try:
            with _short_path(folder) as short:
                connection.connect(str(short / name))
            while piece := connection.recv(65536):
                pieces.append(piece)
        except (ConnectionRefusedError, FileNotFoundError):
            return None
        except OSError:
            return b""
    return b"".join(pieces)


class _short_path:  # noqa: N801 - a context manager
    """A name for a folder that is short enough for a socket's address, which has room for about 100 bytes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor = -1

    def __enter__(self) -> Path:
        if not Path("/proc/self/fd").is_dir():
            return self._folder
        self._descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        return Path(f"/proc/self/fd/{self._descriptor}")

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
