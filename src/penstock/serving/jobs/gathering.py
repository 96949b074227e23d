"""Work that waits together is done together: one transaction, and one sync of the disk, for all of it.

The event loop gathers what is called while a group is under way in a thread, and sends it out as the next one.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, NamedTuple, TypeVar

from penstock.core.errors import PenstockError, Refused, StorageFailed

__all__ = ["GATHERED_MAX", "Call", "Gathering", "Kind"]

log = logging.getLogger(__name__)

GROUP_MAX = 512
GATHERED_MAX = 16_384

S = TypeVar("S")
P = TypeVar("P")
R = TypeVar("R")


class Kind(NamedTuple, Generic[S, P, R]):
    """A kind of work. `run` does it for several at once, within a session, and gives as many outcomes: a
    result, or the error that this one is to raise.
    """

    name: str
    run: Callable[[S, Sequence[P]], Sequence[R | PenstockError]]


class Call(NamedTuple):
    """One piece of work that somebody waits for."""

    kind: Kind[Any, Any, Any]
    given: Any
    future: "asyncio.Future[Any]"


class Gathering:
    """In one event loop. `execute` does a group in a thread: an outcome for each call, in order, or it raises
    what all of them are to raise: where that is `StorageFailed`, those that have been called meanwhile too.
    """

    def __init__(self, name: str, execute: Callable[[Sequence[Call]], list[Any]]) -> None:
        self._execute = execute
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waiting: list[Call] = []
        self._under_way = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    def call(self, kind: Kind[S, P, R], given: P) -> "asyncio.Future[R]":
        """What will hold the outcome. Raises `Refused` where too much waits."""
        if self._closed:
            raise StorageFailed("the jobs of this process are closed", hint="it is about to end")
        if len(self._waiting) >= GATHERED_MAX:
            raise Refused(
                "more waits for the jobs' database than it can write", reason="jobs", hint="try again later"
            )
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append(Call(kind, given, future))
        if not self._under_way:
            self._under_way = True
            self._idle.clear()
            # What comes in the same turn of the loop goes with it.
            asyncio.get_running_loop().call_soon(self._send)
        return future

    async def close(self) -> None:
        """What is gathered is done first."""
        self._closed = True
        await self._idle.wait()
        self._executor.shutdown(wait=False)

    def _send(self) -> None:
        group = [call for call in self._waiting[:GROUP_MAX] if not call.future.done()]
        del self._waiting[:GROUP_MAX]
        if not group and not self._waiting:
            self._under_way = False
            self._idle.set()
            return
        loop = asyncio.get_running_loop()
        self._executor.submit(self._work, group, loop)

    def _work(self, group: list[Call], loop: asyncio.AbstractEventLoop) -> None:
        """In the thread."""
        outcomes: list[Any]
        failure: StorageFailed | None = None
        try:
            outcomes = self._execute(group) if group else []
        except StorageFailed as error:
            failure = error
            outcomes = [error] * len(group)
        except PenstockError as error:
            outcomes = [error] * len(group)
        except Exception as error:
            # A fault of ours must not leave everybody waiting.
            log.exception("work on jobs failed")
            outcomes = [error] * len(group)
        loop.call_soon_threadsafe(self._settle, group, outcomes, failure)

    def _settle(self, group: list[Call], outcomes: list[Any], failure: StorageFailed | None) -> None:
        if failure is not None:
            # Whoever waited for this group has waited as long as it did; it would be no better off after
            # another one, and those behind it worse.
            group = group + self._waiting
            outcomes = outcomes + [failure] * len(self._waiting)
            self._waiting.clear()
        for call, outcome in zip(group, outcomes, strict=True):
            if call.future.done():
                continue
            if isinstance(outcome, BaseException):
                call.future.set_exception(outcome)
            else:
                call.future.set_result(outcome)
        self._send()
