"""What every process of a supervisor does: listen to it, end with it, and leave signals to it."""

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterable
from typing import NoReturn, Protocol

from penstock.supervision.channel import Channel
from penstock.supervision.messages import Drain, FromWorker, ToWorker

__all__ = ["ORPHAN_DRAIN_S", "REPORT_EVERY_S", "Supervised", "end_process", "hear", "supervised"]

log = logging.getLogger(__name__)

REPORT_EVERY_S = 1.0
ORPHAN_DRAIN_S = 5.0
ORPHAN_MARGIN_S = 5.0


class Supervised(Protocol):
    """A worker as its supervisor speaks to it."""

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


async def hear(worker: Supervised, channel: Channel[FromWorker, ToWorker], drain: asyncio.Event) -> None:
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
