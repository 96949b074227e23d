"""The process in which a model that holds the GIL runs: `python -m penstock.models.runtimes.worker`.

It answers one message at a time on the connection that it inherited, tensors standing in the two shared
arenas, and ends when its parent does.
"""

import contextlib
import gc
import importlib
import os
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from typing import Protocol

import msgspec

from penstock.core.calling import criticality, until
from penstock.core.errors import InvalidInput, ModelFailed, PenstockError, Refused
from penstock.core.memory import give_back_memory
from penstock.core.signature import Signature
from penstock.core.tensors import Tensors
from penstock.models.runtimes.arena import Arena, TensorLayout

__all__ = ["Answer", "Failure", "Loaded", "Run", "WorkerModel", "WorkerReply", "encode_reply", "serve"]


REST_AFTER_S = 5.0
"""Without a run: memory that large batches took is given back then."""


class WorkerModel(Protocol):
    """What a loader returns: something with a signature that turns tensors into tensors."""

    @property
    def signature(self) -> Signature: ...

    def run(self, tensors: Tensors) -> Tensors: ...


class Run(msgspec.Struct, frozen=True):
    """Parent to worker: run the model on the tensors that stand in the arena.

    What it calls in turn is wanted until `deadline_s` (monotonic seconds, the same in both) and so important.
    """

    layouts: tuple[TensorLayout, ...]
    deadline_s: float | None = None
    criticality: int | None = None


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """Worker to parent: the model stands ready."""

    signature: Signature


class Answer(msgspec.Struct, frozen=True, tag=True):
    """Worker to parent: the outputs stand in the arena."""

    layouts: tuple[TensorLayout, ...]


class Failure(msgspec.Struct, frozen=True, tag=True):
    """Worker to parent: it did not work. `invalid` blames the input, `refused` (a reason) neither it nor the
    model.
    """

    invalid: bool
    message: str
    where: str | None = None
    hint: str | None = None
    refused: str | None = None

    def error(self) -> PenstockError:
        if self.refused is not None:
            return Refused(self.message, reason=self.refused, hint=self.hint)
        if self.invalid:
            return InvalidInput(self.message, where=self.where, hint=self.hint)
        return ModelFailed(self.message, hint=self.hint)


WorkerReply = Loaded | Answer | Failure
encode_reply = msgspec.msgpack.Encoder().encode
_decode_run = msgspec.msgpack.Decoder(Run).decode


def serve(connection: Connection, requests: Arena, replies: Arena, loader: str, arguments: bytes) -> None:
    """Loads the model with `loader` ("module:function", called with the decoded `arguments`), then answers."""
    try:
        module, _, function = loader.partition(":")
        model: WorkerModel = getattr(importlib.import_module(module), function)(
            **msgspec.msgpack.decode(arguments)
        )
    except (Exception, SystemExit) as error:
        told = f"loading the model failed: {type(error).__name__}: {error}"
        connection.send_bytes(encode_reply(_failure(error, told)))
        return
    connection.send_bytes(encode_reply(Loaded(model.signature)))
    rested = True
    while True:
        try:
            if not rested and not connection.poll(REST_AFTER_S):
                gc.collect()
                give_back_memory()
                rested = True
            message = connection.recv_bytes()
        except (EOFError, OSError):
            return
        connection.send_bytes(encode_reply(_answer(model, requests, replies, _decode_run(message))))
        rested = False


def _answer(model: WorkerModel, requests: Arena, replies: Arena, run: Run) -> WorkerReply:
    try:
        with contextlib.ExitStack() as behalf:
            if run.deadline_s is not None:
                behalf.enter_context(until(run.deadline_s))
            if run.criticality is not None:
                behalf.enter_context(criticality(run.criticality))
            outputs = model.run(requests.read(run.layouts))
        try:
            return Answer(replies.write(outputs))
        except Refused as error:
            return Failure(invalid=False, message=error.message, hint=error.hint, refused=error.reason)
    except Exception as error:
        # What it raised may quote what callers must not see; the log has all of it.
        return _failure(error, f"the model raised {type(error).__name__}")


def _failure(error: BaseException, told: str) -> Failure:
    if isinstance(error, InvalidInput):
        return Failure(invalid=True, message=error.message, where=error.where, hint=error.hint)
    if isinstance(error, PenstockError):
        return Failure(invalid=False, message=error.message, hint=error.hint)
    traceback.print_exc(file=sys.stderr)
    return Failure(invalid=False, message=told, hint="the server's log has the details")


def _end_with_parent(lifeline: int) -> None:
    """Ends this process when the other end of the lifeline closes, even in the middle of a long run."""
    os.read(lifeline, 1)
    os._exit(0)


def main() -> None:
    connection, lifeline, requests, replies = (int(descriptor) for descriptor in sys.argv[1:5])
    os.nice(int(sys.argv[6]))
    # Ctrl-C reaches the whole group; the parent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()
    arguments = sys.stdin.buffer.read()
    # A parent that ends while the model loads hears nothing any more, and there is nothing to tell.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        serve(Connection(connection), Arena(requests), Arena(replies), sys.argv[5], arguments)


if __name__ == "__main__":
    main()
