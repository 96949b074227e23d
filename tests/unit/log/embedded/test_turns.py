"""Whoever waits for a future goes on once it is done, in whichever way it is, and whatever others do."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError

import pytest

from penstock.log.embedded import turns
from penstock.log.embedded.turns import TurnFuture, _Place, _wake, settle

PATIENCE_S = 10


class Waiting:
    """Threads that wait for futures, each until it has an outcome."""

    def __init__(self) -> None:
        self.outcomes: dict[int, object] = {}
        self.threads: list[threading.Thread] = []

    def wait(self, future: TurnFuture[int], timeout: float | None = None) -> None:
        number = len(self.threads)

        def run() -> None:
            try:
                self.outcomes[number] = future.result(timeout)
            except BaseException as error:
                self.outcomes[number] = type(error)

        thread = threading.Thread(target=run, daemon=True)
        self.threads.append(thread)
        thread.start()

    def until(self, condition: Callable[[], bool]) -> None:
        turn = threading.Event()
        for _ in range(int(PATIENCE_S / 0.001)):
            if condition():
                return
            turn.wait(0.001)
        pytest.fail("it never came to that")

    def end(self) -> list[object]:
        for thread in self.threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "nobody is left behind"
        return [self.outcomes[number] for number in range(len(self.threads))]


def blocked(futures: list[TurnFuture[int]]) -> int:
    return sum(len(future._places) for future in futures)


def test_all_who_wait_go_on_several_at_one_future_too() -> None:
    futures = [TurnFuture[int]() for _ in range(20)]
    waiting = Waiting()
    for future in [*futures, *futures[:5]]:
        waiting.wait(future)
    waiting.until(lambda: blocked(futures) == 25)
    failed = ValueError("the seventh")
    assert settle((future, failed if n == 7 else n) for n, future in enumerate(futures)) == 25
    wanted = [ValueError if n == 7 else n for n in range(20)]
    assert waiting.end() == [*wanted, *range(5)]
    assert settle([]) == 0


def test_who_has_given_up_holds_nobody_up() -> None:
    futures = [TurnFuture[int]() for _ in range(6)]
    waiting = Waiting()
    for number, future in enumerate(futures):
        waiting.wait(future, timeout=0.01 if number % 2 else None)
    waiting.until(lambda: blocked(futures) == 3)
    assert settle((future, number) for number, future in enumerate(futures)) == 3
    assert waiting.end() == [0, TimeoutError, 2, TimeoutError, 4, TimeoutError]


def test_whose_time_is_over_between_the_outcome_and_its_turn_passes_that_on() -> None:
    futures = [TurnFuture[int]() for _ in range(3)]
    waiting = Waiting()
    for future in (futures[0], futures[2]):
        waiting.wait(future)
    waiting.until(lambda: blocked(futures) == 2)
    place = _Place()
    futures[1]._places.append(place)
    chain: deque[_Place] = deque()
    for number, future in enumerate(futures):
        future.settle(number, chain)
    assert len(chain) == 3
    giving_up = threading.Thread(target=futures[1]._give_up, args=(place,), daemon=True)
    giving_up.start()
    assert waiting.outcomes == {}
    _wake(chain)
    assert waiting.end() == [0, 2]
    giving_up.join(PATIENCE_S)
    assert not giving_up.is_alive()


def test_one_that_is_cancelled_or_set_by_itself_lets_go_too() -> None:
    cancelled, given, failed = futures = [TurnFuture[int]() for _ in range(3)]
    waiting = Waiting()
    for future in futures:
        waiting.wait(future)
    waiting.until(lambda: blocked(futures) == 3)
    assert cancelled.cancel()
    given.set_result(5)
    failed.set_exception(KeyError())
    assert waiting.end() == [CancelledError, 5, KeyError]
    assert isinstance(failed.exception(), KeyError)
    assert given.exception() is None
    assert not given.cancel()


def test_whom_something_interrupts_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    future = TurnFuture[int]()

    class Interrupted(_Place):
        __slots__ = ()

        def __init__(self) -> None:
            super().__init__()
            self.turn = self  # type: ignore[assignment]

        def acquire(self, timeout: float) -> bool:
            raise KeyboardInterrupt

    monkeypatch.setattr(turns, "_Place", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        future.result()
    monkeypatch.undo()
    waiting = Waiting()
    waiting.wait(future)
    waiting.until(lambda: blocked([future]) == 1)
    assert settle([(future, 3)]) == 1
    assert waiting.end() == [3]
