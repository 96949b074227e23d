"""Brings the event loop round, so that what depends on time is seen to, and how late it was."""

import asyncio

from penstock.core.clock import Clock
from penstock.serving.admission.lag import BEAT_S
from penstock.serving.admission.shedder import TICK_S
from penstock.serving.plane import DataPlane

__all__ = ["Pulse"]


class Pulse:
    """Beats from `start` to `stop`, in the event loop."""

    def __init__(self, plane: DataPlane, clock: Clock) -> None:
        self._plane = plane
        self._monotonic = clock.monotonic
        self._ticked_s = clock.monotonic()
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        assert self._next is None, "it beats already"
        self._plane.lag.beat(self._monotonic())
        self._next = asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def stop(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
            self._plane.lag.rest()

    def _beat(self) -> None:
        now_s = self._monotonic()
        self._plane.lag.beat(now_s)
        # First: should a tick fail, a pulse that has stopped would be taken for a loop that is behind for ever.
        self._next = asyncio.get_running_loop().call_later(BEAT_S, self._beat)
        if now_s - self._ticked_s >= TICK_S:
            self._ticked_s = now_s
            self._plane.tick(now_s)
