"""Steps whose results are kept. Time is a ManualClock's; threads meet at events."""

import contextlib
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from penstock.core.calling import inherited_deadline_s, until
from penstock.core.clock import ManualClock
from penstock.core.errors import ConfigurationError, DeadlineExceeded, PenstockError
from penstock.serving.cache.cached_step import cached_step

GUARD_S = 10.0


def test_it_runs_once_for_the_same_until_that_is_old() -> None:
    clock = ManualClock()
    calls: list[Any] = []

    @cached_step(ttl="10s", clock=clock)
    def scaled(x: Any, by: float = 2.0) -> Any:
        """Doc."""
        calls.append(by)
        clock.advance(1.0)
        return {"y": x * by, "by": [by]}

    x = np.arange(3.0)
    assert (scaled.__name__, scaled.__doc__) == ("scaled", "Doc.")
    assert scaled(x)["y"].tolist() == scaled(x.copy())["y"].tolist() == [0, 2, 4]
    assert scaled(x, by=3.0)["y"].tolist() == [0, 3, 6]
    assert scaled(-x)["y"].tolist() == [0, -2, -4]
    assert calls == [2.0, 3.0, 2.0]
    counted = scaled.statistics()
    assert (counted.hits, counted.misses, counted.saved_s) == (1, 3, 1.0)
    clock.advance(10.0)
    scaled(x)
    assert len(calls) == 4


def test_what_is_handed_out_is_not_another_s_to_change() -> None:
    kept = np.zeros(2)

    @cached_step(ttl=1e6)
    def give() -> Any:
        return {"a": kept, "l": [1, (kept, {"b": 2})]}

    first = give()
    first["l"].append(5)
    first["l"][1][1]["b"] = 9
    first["x"] = 1
    with pytest.raises(ValueError, match="read-only"):
        first["a"][0] = 1.0
    kept[0] = 7.0
    second = give()
    assert second.keys() == {"a", "l"}
    assert second["a"].tolist() == [0, 0]
    assert second["l"][1][1] == {"b": 2}
    assert len(second["l"]) == 2


def test_threads_share_a_run() -> None:
    gate, begun, calls = threading.Event(), threading.Event(), []

    @cached_step(ttl=1e6)
    def slow(x: int) -> int:
        calls.append(x)
        begun.set()
        assert gate.wait(GUARD_S)
        if x < 0:
            raise OSError("broken")
        return x

    with ThreadPoolExecutor(8) as threads:
        for x in (1, -1):
            gate.clear()
            begun.clear()
            asked = [threads.submit(slow, x) for _ in range(8)]
            assert begun.wait(GUARD_S)
            gate.set()
            if x > 0:
                assert [each.result(GUARD_S) for each in asked] == [x] * 8
            else:
                assert {str(each.exception(GUARD_S)) for each in asked} == {"broken"}
    assert calls.count(1) == 1
    counted = slow.statistics()
    assert counted.hits + counted.misses + counted.joined == 16


def test_what_is_raised_is_not_kept() -> None:
    calls: list[int] = []

    @cached_step(ttl=1e6)
    def broken() -> None:
        calls.append(1)
        raise OSError("broken")

    for _ in range(2):
        with pytest.raises(OSError, match="broken"):
            broken()
    assert len(calls) == 2


def test_an_interrupt_is_its_thread_s_own() -> None:
    gate, begun, calls = threading.Event(), threading.Event(), []

    @cached_step(ttl=1e6)
    def slow() -> int:
        calls.append(1)
        if len(calls) == 1:
            begun.set()
            assert gate.wait(GUARD_S)
            raise SystemExit
        return 5

    with ThreadPoolExecutor(2) as threads:
        leader = threads.submit(slow)
        assert begun.wait(GUARD_S)
        other = threads.submit(slow)
        gate.set()
        assert other.result(GUARD_S) == 5
        assert isinstance(leader.exception(GUARD_S), SystemExit)


def test_one_that_calls_itself_ends() -> None:
    depth: list[int] = []

    @cached_step(ttl=1e6)
    def again() -> int:
        depth.append(1)
        return 3 if len(depth) > 2 else again()

    assert again() == 3


def test_what_has_no_key_and_what_is_no_step() -> None:
    step = cached_step(ttl=1)(len)
    with pytest.raises(TypeError, match="len is a cached step: a value of type 'set' has no key"):
        step({1})  # type: ignore[arg-type]

    async def coroutine() -> None: ...

    def generator() -> Any:
        yield 1

    class Called:
        async def __call__(self) -> None: ...

        def method(self) -> None: ...

    for wrong in (coroutine, generator, Called(), Called.method, 5):
        with pytest.raises(ConfigurationError, match="cannot be a cached step"):
            cached_step(ttl=1)(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "said",
    [{"ttl": 0}, {"ttl": "x"}, {"ttl": "31d"}, {"ttl": 1, "bytes_max": 5}, {"ttl": 1, "bytes_max": "64MB"}],
)
def test_times_and_sizes_that_are_none(said: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="of a cached step is"):
        cached_step(**said)


@dataclass
class Held:
    array: Any


def objects(*elements: Any) -> Any:
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array


@pytest.mark.parametrize(
    "given",
    [
        Held(np.zeros(9)),
        [Held(np.zeros(9))],
        {Held: 1},
        iter([1]),
        {1, 2},
        bytearray(9),
        objects({}, 1),
        np.zeros(1, [("a", "O")]),
        np.zeros(1, [("a", "f4")])[0],
        np.ma.masked_array(np.zeros(9)),
    ],
)
def test_what_could_not_be_weighed_or_would_be_another_s_to_change(given: Any) -> None:
    """A mebibyte in an object would count as what the object itself takes: some 50 bytes."""
    calls: list[int] = []

    @cached_step(ttl=1e6)
    def give() -> Any:
        calls.append(1)
        return given

    for _ in range(2):
        with pytest.raises(TypeError, match=r"a cached step gave an? "):
            give()
    assert len(calls) == 2
    assert give.size_bytes == 0


@pytest.mark.parametrize(
    "given", [None, True, 1, 1j, "a", b"a", np.float32(1), np.bool_(1), objects("a", 1, None)]
)
def test_what_is_kept_as_it_is(given: Any) -> None:
    calls: list[int] = []

    @cached_step(ttl=1e6)
    def give() -> Any:
        calls.append(1)
        return given

    first, again = give(), give()
    assert type(first) is type(again) is type(given)
    assert np.array_equal(first, given)
    assert np.array_equal(again, given)
    assert len(calls) == 1


def test_it_stays_within_its_bytes() -> None:
    """The oracle is the interpreter's own account of memory."""
    bytes_max = 1 << 20

    @cached_step(ttl=1e6, bytes_max=bytes_max)
    def give(number: int) -> Any:
        return {"a": np.full(number % 40, number), "t": ("x" * (number % 50), [number, str(number)])}

    give(0)
    tracemalloc.start()
    try:
        before_bytes = tracemalloc.get_traced_memory()[0]
        for number in range(6000):
            give(number)
        held_bytes = tracemalloc.get_traced_memory()[0] - before_bytes
    finally:
        tracemalloc.stop()
    assert 0.5 * bytes_max < give.size_bytes <= bytes_max
    assert held_bytes <= 1.1 * bytes_max


def test_who_waits_for_another_s_run_does_so_no_longer_than_its_deadline() -> None:
    clock = ManualClock()
    gate, begun = threading.Event(), threading.Event()

    @cached_step(ttl=10, clock=clock)
    def slow() -> int:
        begun.set()
        assert gate.wait(GUARD_S)
        return 7

    with ThreadPoolExecutor(1) as threads:
        leading = threads.submit(slow)
        assert begun.wait(GUARD_S)
        with until(clock.monotonic()), pytest.raises(DeadlineExceeded, match="slow"):
            slow()
        assert not leading.done(), "it was not waited for"
        gate.set()
        assert leading.result(GUARD_S) == 7
    with until(clock.monotonic()):
        assert slow() == 7, "what is kept needs no time"


class OutOfTime:
    """A step that a leader runs into its deadline; whoever leads after it has the time that it takes."""

    def __init__(self, error: BaseException, clock: ManualClock) -> None:
        self.clock = clock
        self.calls: list[float | None] = []
        self.gate, self.begun = threading.Event(), threading.Event()

        @cached_step(ttl="1h", clock=clock)
        def slow() -> int:
            self.calls.append(inherited_deadline_s())
            if len(self.calls) == 1:
                self.begun.set()
                assert self.gate.wait(GUARD_S)
                raise error
            return 7

        self.step = slow

    def ask(self, until_s: float | None) -> int:
        with contextlib.nullcontext() if until_s is None else until(until_s):
            return self.step()

    def race(self, leader_s: float | None, waiters_s: list[float | None], after_s: float = 0.0) -> list[Any]:
        """What the leader and then each waiter gets: a value, or the error itself."""
        waiting = threading.Semaphore(0)
        wait = self.step._wait

        def told(*args: Any) -> None:
            waiting.release()
            wait(*args)

        self.step._wait = told  # type: ignore[method-assign]
        with ThreadPoolExecutor(1 + len(waiters_s)) as threads:
            asked = [threads.submit(self.ask, leader_s)]
            assert self.begun.wait(GUARD_S)
            asked += [threads.submit(self.ask, each) for each in waiters_s]
            for _ in waiters_s:
                assert waiting.acquire(timeout=GUARD_S)
            self.clock.advance(after_s)
            self.gate.set()
            return [each.exception(GUARD_S) or each.result() for each in asked]


class LateCall(PenstockError):
    timed_out = True


@pytest.mark.parametrize("error", [DeadlineExceeded("late"), TimeoutError(), LateCall("late"), OSError("late")])
def test_a_leader_that_runs_out_of_time_does_so_for_itself(error: Exception) -> None:
    # Any error will do once the leader's deadline has passed: libraries have their own for that.
    after_s = 10.0 if type(error) is OSError else 0.0
    rig = OutOfTime(error, ManualClock())
    assert rig.race(5.0, [100.0, None, 50.0], after_s) == [error, 7, 7, 7]
    assert len(rig.calls) == 2, "one of those who waited ran it for all"
    assert rig.calls[0] == 5.0
    assert rig.calls[1] != 5.0


@pytest.mark.parametrize("leader_s", [5.0, None])
def test_who_has_no_more_time_than_the_leader_has_its_error_too(leader_s: float | None) -> None:
    error = DeadlineExceeded("late")
    rig = OutOfTime(error, ManualClock())
    assert rig.race(leader_s, [5.0, 5.0]) == [error] * 3
    assert len(rig.calls) == 1


def test_what_has_nothing_to_do_with_time_is_all_callers_error() -> None:
    error = OSError("broken")
    rig = OutOfTime(error, ManualClock())
    assert rig.race(5.0, [100.0, None]) == [error] * 3
    assert len(rig.calls) == 1


def test_a_waiter_whose_own_time_is_over_does_not_ask_anew() -> None:
    rig = OutOfTime(DeadlineExceeded("late"), ManualClock())
    leader, short, patient = rig.race(5.0, [6.0, 100.0], after_s=10.0)
    assert isinstance(leader, DeadlineExceeded)
    assert isinstance(short, DeadlineExceeded)
    assert patient == 7
    assert len(rig.calls) == 2
