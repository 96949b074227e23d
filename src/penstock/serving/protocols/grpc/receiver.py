"""Receives the messages of calls: within a time, and no more of them at once than memory allows."""

import asyncio
from typing import Any

from penstock.core.clock import Clock
from penstock.core.errors import DeadlineExceeded, InvalidInput, Refused
from penstock.serving.protocols.http.messages import ReceiveBudget

__all__ = ["Receiver", "draining"]


class Receiver:
    """Receives messages, one at a time of each call."""

    def __init__(self, clock: Clock, *, timeout_s: float, bytes_max: int) -> None:
        self._monotonic = clock.monotonic
        self._timeout_s = timeout_s
        self._budget = ReceiveBudget(bytes_max)
        self._waiting: dict[asyncio.Task[Any], float] = {}
        self._dropped: set[asyncio.Task[Any]] = set()
        self._closed = False

    @property
    def used_bytes(self) -> int:
        """What is received and not given back."""
        return self._budget.used_bytes

    async def receive(self, context: Any) -> bytes:
        """The message of a call that has one.

        Raises `DeadlineExceeded` when it does not arrive in time, `Refused` when the server stops first and
        `InvalidInput` when the client ends without one.
        """
        if self._closed:
            raise draining()
        task = asyncio.current_task()
        assert task is not None
        self._waiting[task] = self._monotonic()
        try:
            message = await context.read()
        except asyncio.CancelledError:
            if task not in self._dropped:
                raise
            self._dropped.discard(task)
            task.uncancel()
            if self._closed:
                raise draining() from None
            raise DeadlineExceeded(f"the message did not arrive within {self._timeout_s:g} s") from None
        finally:
            del self._waiting[task]
        if type(message) is not bytes:
            raise InvalidInput("the call ended without a message", where="message")
        return message

    def take(self, size_bytes: int) -> None:
        """Counts what was received. Raises `Refused` where all together would be too much."""
        if not self._budget.take(size_bytes):
            raise Refused(
                f"{self._budget.used_bytes} bytes of requests wait for their answers already",
                reason="receiving_bytes",
                hint="try again later",
            )

    def give_back(self, size_bytes: int) -> None:
        """What was counted is answered."""
        self._budget.give_back(size_bytes)

    def check(self) -> None:
        """Ends the waiting for messages that take too long. Called about once a second."""
        late_s = self._monotonic() - self._timeout_s
        for task, since_s in list(self._waiting.items()):
            if since_s < late_s:
                self._drop(task)

    def close(self) -> None:
        """Messages that have not arrived are not waited for any more."""
        self._closed = True
        for task in list(self._waiting):
            self._drop(task)

    def _drop(self, task: "asyncio.Task[Any]") -> None:
        if task not in self._dropped:
            self._dropped.add(task)
            task.cancel()


def draining() -> Refused:
    """The error for what comes when the server stops."""
    return Refused("the server is stopping", reason="draining")
