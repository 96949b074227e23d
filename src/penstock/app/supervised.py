"""What every process of a supervisor does: begin as it says, listen to it, end with it, leave signals to it."""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from typing import NoReturn, Protocol

import msgspec

from penstock.app.logs import configure_logs
from penstock.core.errors import PenstockError
from penstock.supervision.channel import Channel
from penstock.supervision.messages import Drain, Failed, FromWorker, Start, ToWorker

__all__ = [
    "ORPHAN_DRAIN_S",
    "REPORT_EVERY_S",
    "Supervised",
    "WorkerChannel",
    "begin",
    "end_process",
    "hear",
    "open_channel",
    "supervised",
]

log = logging.getLogger(__name__)

REPORT_EVERY_S = 1.0
ORPHAN_DRAIN_S = 5.0
ORPHAN_MARGIN_S = 5.0

WorkerChannel = Channel[FromWorker, ToWorker]
_decoder: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)


class Supervised(Protocol):
    """A worker as its supervisor speaks to it."""

    async def run(self, drain: asyncio.Event) -> None:
        """Works until `drain` is set, and ends what it has begun. Raises what keeps it from that."""
        ...

    def hear(self, message: ToWorker) -> None: ...

    def orphaned(self) -> None:
        """The supervisor is gone, and nobody restarts or replaces this process: it ends soon."""
        ...


def supervised(lifeline: int, descriptors: Iterable[int]) -> None:
    """Makes the process one that ends when the other end of `lifeline` is closed, and that signals do not
    end.
    """
    # A terminal's Ctrl-C and a service manager's SIGTERM reach every process; the supervisor alone decides.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_supervisor, args=(lifeline,), daemon=True).start()
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)  # a model's own processes are no workers


async def open_channel(descriptor: int) -> WorkerChannel:
    """To the supervisor, over the worker's end of a socket pair."""
    return await Channel.open(socket.socket(fileno=descriptor), _decoder)


async def begin(channel: WorkerChannel, role: str, make: Callable[[Start], Supervised]) -> int:
    """The life of a worker, from the supervisor's first message on; its exit status. `role`: as logs call it.

    What keeps it from work, in its making or later, is said to the supervisor.
    """
    start = await channel.receive()
    if not isinstance(start, Start):
        return 1
    configure_logs(start.settings, f"{role} {start.number}")
    drain = asyncio.Event()
    try:
        worker = make(start)
        hearing = asyncio.ensure_future(hear(worker, channel, drain))
        await worker.run(drain)
        hearing.cancel()
    except PenstockError as error:
        channel.send(Failed(message=error.message, hint=error.hint))
        await channel.flush()
        return 1
    return 0


async def hear(worker: Supervised, channel: WorkerChannel, drain: asyncio.Event) -> None:
    """Passes on what the supervisor says, until it has said to drain or is gone; then sets `drain`."""
    while (message := await channel.receive()) is not None:
        try:
            worker.hear(message)
        except Exception:
            # One that heard nothing from then on could not even be told to end.
            log.exception("what the supervisor says")
        if isinstance(message, Drain):
            drain.set()
    worker.orphaned()
    drain.set()


def end_process(status: int) -> NoReturn:
    """Not by sys.exit: a thread that hangs in a run must not keep the process."""
    sys.stderr.flush()
    os._exit(status)


def _end_with_supervisor(lifeline: int) -> None:
    """The channel tells the event loop of a supervisor that is gone; a loop that is stuck is ended."""
    os.read(lifeline, 1)
    threading.Event().wait(ORPHAN_DRAIN_S + ORPHAN_MARGIN_S)
    os._exit(1)
