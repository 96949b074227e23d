"""Runs a model that holds the GIL in a process of its own, over shared memory."""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from multiprocessing.connection import Connection

import msgspec

from penstock.core.backoff import RestartBackoff
from penstock.core.calling import inherited_criticality, inherited_deadline_s
from penstock.core.clock import Clock
from penstock.core.errors import DeadlineExceeded, ModelFailed, PenstockError, Refused
from penstock.core.memory import resident_bytes
from penstock.core.signature import Signature
from penstock.core.tensors import Tensors
from penstock.models.runtimes.arena import Arena
from penstock.models.runtimes.worker import Answer, Failure, Loaded, Run, WorkerReply

__all__ = ["ProcessRuntime", "WorkerCommand", "WorkerGroup"]

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 2.0
# Numerical libraries start a thread for each core unless told; next to a server they would starve it.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")

_encode_run = msgspec.msgpack.Encoder().encode
_reply_decoder: msgspec.msgpack.Decoder[WorkerReply] = msgspec.msgpack.Decoder(WorkerReply)


class WorkerCommand(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker loads: `loader` ("module:function") called with `arguments` (plain values)."""

    model: str
    loader: str
    arguments: dict[str, object]
    threads: int = 1
    start_timeout_s: float = 60.0
    niceness: int = 0
    """How far the process stands back behind others, in steps of nice(1)."""


class WorkerGroup:
    """The workers of some runtimes, to be ended by another thread while theirs wait for them to load."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._ended = False

    def end(self) -> None:
        """Kills every worker of the group, and each that is started later. Who waits for one is told of it."""
        with self._lock:
            self._ended = True
            for process in self._processes:
                process.kill()

    def add(self, process: "subprocess.Popen[bytes]") -> None:
        with self._lock:
            self._processes.add(process)
            if self._ended:
                process.kill()

    def discard(self, process: "subprocess.Popen[bytes]") -> None:
        """Called before the process is reaped: from then on its number may be another's."""
        with self._lock:
            self._processes.discard(process)


class ProcessRuntime:
    """A `Runtime` whose model lives in a worker process.

    A worker that dies or does not answer in time costs the batch that it had, and is started anew, with
    back-off when it keeps dying by itself. Nothing of it outlives this process: the arenas have no name and the
    worker ends when the lifeline closes.
    """

    def __init__(self, command: WorkerCommand, clock: Clock, group: WorkerGroup | None = None) -> None:
        self._command = command
        self._clock = clock
        self._group = group if group is not None else WorkerGroup()
        self._backoff = RestartBackoff()
        self._requests = Arena.create()
        self._replies = Arena.create()
        self._worker: _Worker | None = None
        self._overruns = 0  # in a row
        self._fault = f"model {command.model!r}: its process is not started"
        try:
            self._signature = self._start().signature
        except BaseException:
            self.close()
            raise

    @property
    def signature(self) -> Signature:
        return self._signature

    @property
    def pid(self) -> int | None:
        """The worker's process id; None while there is none."""
        worker = self._worker  # read once: the runtime's thread may end it meanwhile
        return worker.process.pid if worker is not None else None

    def run(self, tensors: Tensors, timeout_s: float) -> Tensors:
        layouts = self._requests.write(tensors)
        message = _encode_run(Run(layouts, inherited_deadline_s(), inherited_criticality()))
        worker = self._worker or self._restart()
        try:
            reply = self._ask(worker, message, timeout_s)
        except (BrokenPipeError, ConnectionResetError):
            # It had died before it read the message, so nobody's rows are to blame and only the log is told.
            log.warning("%s", self._died(f"model {self._command.model!r}: its process {worker.ending()}"))
            worker = self._restart()
            reply = self._ask(worker, message, timeout_s)
        if reply is None:
            raise self._overran(worker, timeout_s)
        self._overruns = 0
        if isinstance(reply, Failure):
            blamed = reply.invalid or reply.refused is not None
            raise (reply if blamed else self._named(reply)).error()
        assert isinstance(reply, Answer)
        return self._replies.read(reply.layouts)

    def _overran(self, worker: "_Worker", timeout_s: float) -> DeadlineExceeded:
        """Ends a worker that takes too long. It had started well and did not die by itself, so the next one
        may start at once; a model that hangs on every run is told of in the log, with the count.
        """
        worker.kill()
        self._worker = None
        self._fault = f"model {self._command.model!r}: its process was ended, having taken too long"
        self._overruns += 1
        message = (
            f"model {self._command.model!r} did not answer within {timeout_s:.1f} s; its process was ended"
        )
        log.error("%s (runs in a row: %d)", message, self._overruns)
        return DeadlineExceeded(message, overran=True)

    def _ask(self, worker: "_Worker", message: bytes, timeout_s: float) -> WorkerReply | None:
        try:
            worker.connection.send_bytes(message)
            return worker.receive(timeout_s)
        except EOFError:
            raise self._died(f"model {self._command.model!r}: its process {worker.ending()}") from None

    @property
    def fault(self) -> str | None:
        worker = self._worker
        if worker is None:
            return self._fault
        return (
            None if worker.process.poll() is None else f"model {self._command.model!r}: its process has ended"
        )

    @property
    def memory_bytes(self) -> int:
        pid = self.pid
        return resident_bytes(pid) if pid is not None else 0

    def revive(self) -> None:
        worker = self._worker
        if worker is not None and worker.process.poll() is not None:
            log.warning("%s", self._died(f"model {self._command.model!r}: its process {worker.ending()}"))
        if self._worker is None and self._backoff.wait_s(self._clock.monotonic()) == 0:
            try:
                self._start()
            except PenstockError as error:
                log.error("%s", error)

    def rest(self, inputs: Tensors) -> None:
        """Its process does so by itself."""

    def close(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
        self._requests.close()
        self._replies.close()

    def _restart(self) -> "_Worker":
        wait_s = self._backoff.wait_s(self._clock.monotonic())
        if wait_s > 0:
            raise Refused(
                f"model {self._command.model!r}: its process keeps ending; next start in {wait_s:.1f} s",
                reason="runtime_down",
                retry_after_s=wait_s,
                hint="the server's log has the cause",
            )
        self._start()
        assert self._worker is not None
        return self._worker

    def _start(self) -> Loaded:
        self._backoff.started(self._clock.monotonic())
        try:
            worker = _Worker(self._command, self._group, self._requests, self._replies)
        except OSError as fault:
            # Too many processes or descriptors, or no memory: it may pass.
            raise self._died(
                f"model {self._command.model!r}: its process cannot be started: {fault}"
            ) from fault
        try:
            reply = worker.receive(self._command.start_timeout_s)
        except (EOFError, OSError):
            raise self._died(
                f"model {self._command.model!r}: while loading, its process {worker.ending()}"
            ) from None
        if isinstance(reply, Loaded):
            self._worker = worker
            return reply
        worker.kill()
        error = self._died(
            f"model {self._command.model!r} did not load within {self._command.start_timeout_s:.0f} s"
        )
        raise self._named(reply).error() if isinstance(reply, Failure) else error

    def _named(self, failure: Failure) -> Failure:
        """Says which model it is, where the failure does not: several may be loading."""
        name = repr(self._command.model)
        if name in failure.message:
            return failure
        return msgspec.structs.replace(failure, message=f"model {name}: {failure.message}")

    def _died(self, message: str) -> ModelFailed:
        self._backoff.failed(self._clock.monotonic())
        self._worker = None
        self._fault = message
        return ModelFailed(message, hint="the server's log has what it printed; the process is started anew")


class _Worker:
    """One life of the worker process."""

    def __init__(self, command: WorkerCommand, group: WorkerGroup, requests: Arena, replies: Arena) -> None:
        self._group = group
        ours, theirs = socket.socketpair()
        lifeline_read, self._lifeline = os.pipe()
        self.connection = Connection(ours.detach())
        inherited = (theirs.fileno(), lifeline_read, requests.descriptor, replies.descriptor)
        try:
            self.process = _spawn(command, inherited)
        except BaseException:
            self._release()
            raise
        finally:
            os.close(lifeline_read)
            theirs.close()
        group.add(self.process)
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self.process.stdin as stdin:
            stdin.write(msgspec.msgpack.encode(command.arguments))

    def receive(self, timeout_s: float) -> WorkerReply | None:
        """The worker's next message; None when none came in time. Raises `EOFError` when it died."""
        if not self.connection.poll(timeout_s):
            return None
        return _reply_decoder.decode(self.connection.recv_bytes())

    def ending(self) -> str:
        """How the process ended, in words; it is reaped."""
        self._group.discard(self.process)
        try:
            code = self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._release()
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with status {code}"

    def kill(self) -> None:
        self._group.discard(self.process)
        self.process.kill()
        self.process.wait()
        self._release()

    def stop(self) -> None:
        """Lets it finish, for a moment; then ends it."""
        self._group.discard(self.process)
        self.connection.close()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._release()

    def _release(self) -> None:
        self.connection.close()
        os.close(self._lifeline)


def _spawn(command: WorkerCommand, inherited: tuple[int, ...]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [
            sys.executable,
            "-m",
            "penstock.models.runtimes.worker",
            *(str(descriptor) for descriptor in inherited),
            command.loader,
            str(command.niceness),
        ],
        stdin=subprocess.PIPE,
        stdout=sys.stderr,  # data on stdout is the command's alone
        pass_fds=inherited,
        env=dict.fromkeys(_THREAD_VARIABLES, str(command.threads)) | dict(os.environ),
    )
