"""Futures whose waiters go on a few at a time: each wakes the next.

Were all of a group woken at once, each would be given a core only to find that it has to wait once more, for
the interpreter's lock, which they get one after the other by another switch between threads each.
"""

import threading
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["TurnFuture", "settle"]

WIDTH = 2
"""So many go on at a time: one alone would leave a core without work while it is being woken."""

T = TypeVar("T")
_Chain = deque["_Place"]


class _Place:
    """Of a thread that waits. `chain` are those who come after it."""

    __slots__ = ("chain", "turn")

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.turn.acquire()
        self.chain: _Chain | None = None


class TurnFuture(Future[T]):
    """As any other; those who wait for it in `result` or `exception` have their turns."""

    def __init__(self) -> None:
        super().__init__()
        self._places: list[_Place] = []

    def result(self, timeout: float | None = None) -> T:
        self._wait(timeout)
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._wait(timeout)
        return super().exception(0)

    def cancel(self) -> bool:
        cancelled = super().cancel()
        if cancelled:
            _wake(self._leaving(deque()))
        return cancelled

    def set_result(self, result: T) -> None:
        super().set_result(result)
        _wake(self._leaving(deque()))

    def set_exception(self, exception: BaseException | None) -> None:
        super().set_exception(exception)
        _wake(self._leaving(deque()))

    def settle(self, outcome: T | BaseException, chain: _Chain) -> None:
        """It has that outcome, and those who wait for it have their turns behind those in the chain."""
        if isinstance(outcome, BaseException):
            super().set_exception(outcome)
        else:
            super().set_result(outcome)
        self._leaving(chain)

    def _leaving(self, chain: _Chain) -> _Chain:
        """The chain with all who wait behind it. It is done: nobody begins to wait any more."""
        if not self._places:
            return chain
        with self._condition:
            places, self._places = self._places, []
            for place in places:
                place.chain = chain
            chain.extend(places)
        return chain

    def _wait(self, timeout: float | None) -> None:
        with self._condition:
            if self.done():
                return
            place = _Place()
            self._places.append(place)
        try:
            in_turn = place.turn.acquire(timeout=-1 if timeout is None else max(timeout, 0))
        except BaseException:
            self._give_up(place)
            raise
        if in_turn:
            _wake(place.chain)
        else:
            self._give_up(place)

    def _give_up(self, place: _Place) -> None:
        """Without having had its turn. Where that is about to come, it is passed on."""
        with self._condition:
            if place in self._places:
                self._places.remove(place)
                return
        place.turn.acquire()
        _wake(place.chain)


def settle(outcomes: Iterable[tuple[TurnFuture[Any], Any]]) -> int:
    """Each future has its outcome, a result or an exception, before any of those who wait goes on. How many
    threads do.
    """
    chain: _Chain = deque()
    for future, outcome in outcomes:
        future.settle(outcome, chain)
    count = len(chain)
    for _ in range(WIDTH):
        _wake(chain)
    return count


def _wake(chain: _Chain | None) -> None:
    """The first of them, who wakes the next."""
    assert chain is not None, "who has had its turn has been in a chain"
    try:
        place = chain.popleft()
    except IndexError:
        return
    place.turn.release()
