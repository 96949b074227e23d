"""Lets requests that arrive at about the same time reach their model together.

Over HTTP all that a turn of the event loop brings in is submitted in that turn. grpc.aio accepts one call a
turn at most. A model that is fast would then run nearly every request alone, and handing it to the model's
thread and back costs several times what the run does.
"""

import asyncio

__all__ = ["Gathering"]

GATHER_S = 0.001
"""How long a request waits for others."""

CALLS_MIN = 4
"""From so many calls at a time on it pays; fewer never wait."""

PEAK_DECAY = 0.99
"""How much of the peak is remembered from one call to the next."""


class Gathering:
    """Holds requests back for a moment while many calls are open, or were lately. Used in the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._open = 0
        self._peak = 0.0
        self._waiting: list[asyncio.Future[None]] = []

    def enter(self) -> None:
        """A call has begun. Always followed by `leave`."""
        self._open += 1
        self._peak = max(self._open, self._peak * PEAK_DECAY)

    async def turn(self) -> None:
        """The call's request was received. Returns when it is time to submit it."""
        if self._peak < CALLS_MIN:
            return
        if not self._waiting:
            self._loop.call_later(GATHER_S, self._release)
        turn = self._loop.create_future()
        self._waiting.append(turn)
        await turn

    def leave(self) -> None:
        """The call was answered, or will not be."""
        self._open -= 1

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            if not turn.done():  # as it is when its caller has hung up
                turn.set_result(None)
