"""Servers started for a benchmark: pinned, logged, watched, and ended with everything they started.

A server may start daemons that leave its process group. All of them inherit a marker in their environment
that is unique to one `Service`, and nothing without that marker is ever signalled.
"""

import ipaddress
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil

from benchmarks.harness.cores import pinned

__all__ = ["Service", "ServiceFailed", "anonymous_bytes", "free_ports"]

MARKER = "BENCHMARK_SERVICE"
STOP_S_MAX = 3.0
KILL_S_MAX = 5.0
LOG_TAIL_LINES = 25


class ServiceFailed(Exception):
    """A server did not start, broke, or answered wrongly; the message ends with the tail of its log."""


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nothing listens on."""
    holders = [socket.socket() for _ in range(count)]
    try:
        for holder in holders:
            holder.bind(("127.0.0.1", 0))
        return [holder.getsockname()[1] for holder in holders]
    finally:
        for holder in holders:
            holder.close()


class Service:
    """One server of a benchmark, as a context: started on entry, ended with all its descendants on exit.

    HOME and TMPDIR are one folder of its own that goes with it, so that nothing is written into the home of
    whoever runs the benchmark; its path is short enough for Unix sockets.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        cores: frozenset[int],
        log: Path,
        folder: Path,
        environment: Mapping[str, str],
    ) -> None:
        self.command = list(command)
        self.log = log
        self.started_s = 0.0
        self._cores = cores
        self._folder = folder
        self._environment = dict(environment)
        self._mark = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch: Path | None = None

    def __enter__(self) -> Self:
        self._scratch = Path(tempfile.mkdtemp(prefix="bench-"))
        own = {"HOME": str(self._scratch), "TMPDIR": str(self._scratch), MARKER: self._mark}
        environment = os.environ | own | self._environment
        self.log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.log.open("wb") as output, pinned(*self._cores):
                self.started_s = time.monotonic()
                self._process = subprocess.Popen(
                    self.command,
                    cwd=self._folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            shutil.rmtree(self._scratch, ignore_errors=True)
            raise ServiceFailed(f"it cannot be started: {error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._stop()
        finally:
            assert self._scratch is not None
            shutil.rmtree(self._scratch, ignore_errors=True)

    @property
    def pid(self) -> int:
        """Of the command itself."""
        assert self._process is not None, "the service is not started"
        return self._process.pid

    def end(self, number: int, *, seconds_max: float) -> int:
        """Signals the command; its exit status. Raises `ServiceFailed` where it does not end in time."""
        assert self._process is not None, "the service is not started"
        self._process.send_signal(number)
        try:
            return self._process.wait(seconds_max)
        except subprocess.TimeoutExpired:
            raise self.failed(f"it had not ended {seconds_max:.0f} s after signal {number}") from None

    def pin(self, core: int) -> None:
        """Hold every thread of it to `core`, and so whatever they start from now on."""
        for process in self.processes():
            try:
                for thread in process.threads():
                    os.sched_setaffinity(thread.id, {core})
            except (psutil.Error, ProcessLookupError):
                continue

    def check_alive(self) -> None:
        """Raise `ServiceFailed` if the command has ended."""
        assert self._process is not None, "the service is not started"
        status = self._process.poll()
        if status is not None:
            raise self.failed(f"it ended with exit status {status}")

    def failed(self, why: str) -> ServiceFailed:
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        tail = "\n".join(f"  | {line}" for line in lines) or "  | (empty)"
        return ServiceFailed(f"{why}\ncommand: {' '.join(self.command)}\nlog: {self.log}\n{tail}")

    def processes(self) -> list[psutil.Process]:
        """Everything alive that this service started, daemons included."""
        found = []
        for process in psutil.process_iter():
            # One that writes its title over its environment is known by its number, if it was started itself.
            own = self._process is not None and process.pid == self._process.pid
            try:
                if own or process.environ().get(MARKER) == self._mark:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def resident_bytes(self) -> int:
        """Resident memory of all its processes together, shared pages counted in each."""
        return sum(_resident_bytes(process) for process in self.processes())

    def worker(self, port: int) -> psutil.Process:
        """The process that answers on `port`; of several that hold the socket, the largest."""
        holders = [
            process for process in self.processes() if any(port == its for _, its in _listening(process))
        ]
        if not holders:
            raise self.failed(f"no process of it listens on port {port}")
        return max(holders, key=_resident_bytes)

    def check_loopback(self) -> None:
        """Raise `ServiceFailed` if anything of it can be reached from another machine."""
        for process in self.processes():
            for address, port in _listening(process):
                if not ipaddress.ip_address(address.removeprefix("::ffff:")).is_loopback:
                    raise self.failed(f"{process.name()} listens on {address}:{port}, which is not loopback")

    def _stop(self) -> None:
        """End the command as Ctrl-C does, so that it ends its children in its own order; kill what is left."""
        assert self._process is not None
        members = self.processes()
        _send([member for member in members if member.pid == self._process.pid], signal.SIGINT)
        psutil.wait_procs(members, timeout=STOP_S_MAX)
        left = self.processes()
        _send(left, signal.SIGKILL)
        psutil.wait_procs(left, timeout=KILL_S_MAX)
        self._process.wait(timeout=KILL_S_MAX)


def _send(processes: Sequence[psutil.Process], signal_number: int) -> None:
    for process in processes:
        try:
            process.send_signal(signal_number)
        except psutil.NoSuchProcess:
            continue


def anonymous_bytes(process: psutil.Process) -> int:
    """Resident memory that it has allocated, without pages of files: those come and go as the kernel likes."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"no RssAnon for process {process.pid}")


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _listening(process: psutil.Process) -> list[tuple[str, int]]:
    try:
        connections = process.net_connections(kind="tcp")
    except psutil.Error:
        return []
    return [(c.laddr.ip, c.laddr.port) for c in connections if c.status == psutil.CONN_LISTEN]
