"""The dispatcher with a fake runtime in a real event loop. Time is a ManualClock's, also the loop's own;
a runtime that hangs is held by an event.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.calling import inherited_criticality, inherited_deadline_s
from penstock.core.clock import ManualClock
from penstock.core.errors import DeadlineExceeded, InvalidInput, ModelFailed, NotFound, PenstockError, Refused
from penstock.core.signature import Signature
from penstock.core.tensors import Tensors
from penstock.serving.batching.batcher import BatchingConfig
from penstock.serving.batching.dispatcher import Dispatcher
from penstock.serving.batching.observer import BatchRun
from penstock.serving.batching.outputs import BatchRows

GUARD_S = 10.0
"""A test that wedges ends after so long."""

FIXED = Signature.of(inputs={"x": "INT64[-1]"}, outputs={"y": "INT64[-1]"})
VARYING = Signature.of(inputs={"x": "INT64[-1, -1]"}, outputs={"y": "INT64[-1, -1]", "sum": "INT64[-1]"})


def double(tensors: Tensors) -> Tensors:
    return {"y": 2 * tensors["x"] + 1}


def double_and_sum(tensors: Tensors) -> Tensors:
    x = tensors["x"]
    return {"y": 2 * x + 1, "sum": x.sum(axis=1)}


class FakeRuntime:
    """Runs `behave` once `gate` is open."""

    def __init__(self, behave: Callable[[Tensors], Any] = double, signature: Signature = FIXED) -> None:
        self.signature = signature
        self.behave = behave
        self.gate = threading.Event()
        self.gate.set()
        self.loop = asyncio.get_running_loop()
        self.runs: list[list[int]] = []
        self.timeouts_s: list[float] = []
        self.began = asyncio.Semaphore(0)
        self.closed = 0
        self.down: str | None = None
        self.revived = 0

    def run(self, tensors: Tensors, timeout_s: float) -> Tensors:
        self.runs.append([len(array) for array in tensors.values()])
        self.timeouts_s.append(timeout_s)
        self.loop.call_soon_threadsafe(self.began.release)
        assert self.gate.wait(GUARD_S)
        return self.behave(tensors)

    @property
    def fault(self) -> str | None:
        return self.down

    @property
    def memory_bytes(self) -> int:
        return 0

    def rest(self, inputs: Tensors) -> None: ...

    def revive(self) -> None:
        self.revived += 1
        self.down = None

    def close(self) -> None:
        self.closed += 1


class Observer:
    def __init__(self) -> None:
        self.batches: list[int] = []
        self.answers: list[int] = []
        self.failures: list[Exception] = []
        self.sojourns: list[float] = []

    def taken(self, sojourn_s: float) -> None:
        assert sojourn_s >= 0
        self.sojourns.append(sojourn_s)

    def batch(self, run: BatchRun) -> None:
        assert run.waited_s >= run.first_waited_s >= 0
        assert run.seconds >= 0
        self.batches.append(run.rows)

    def answered(self, rows: int, seconds: float, now_s: float) -> None:
        assert seconds >= 0
        self.answers.append(rows)

    def failed(self, error: Exception, seconds: float) -> None:
        self.failures.append(error)


class Bench:
    """A dispatcher and what stands around it."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.observer = Observer()
        self.closed = False

    def start(self, runtime: FakeRuntime, **config: Any) -> Dispatcher:
        self.runtime = runtime
        defaults: dict[str, Any] = {
            "objective_s": 0.1,
            "rows_max": 100,
            "queue_rows_max": 10_000,
            "queue_bytes_max": 10**9,
        }
        self.dispatcher = Dispatcher(runtime, BatchingConfig(**defaults | config), self.clock, self.observer)
        return self.dispatcher

    def submit(self, *values: int, life_s: float = 30.0) -> "asyncio.Future[BatchRows]":
        now_s = self.clock.monotonic()
        return self.dispatcher.submit({"x": np.array(values, "<i8")}, now_s, now_s + life_s).future

    async def hold(self, *values: int, life_s: float = 30.0) -> "asyncio.Future[BatchRows]":
        """A request that is in the runtime, which does not come back before the gate is opened."""
        self.runtime.gate.clear()
        held = self.submit(*values, life_s=life_s)
        await self.runtime.began.acquire()
        return held

    async def close(self) -> None:
        if not self.closed:
            await self.dispatcher.close()
            self.closed = True

    async def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await settle()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def share(answer: BatchRows, name: str = "y") -> list[Any]:
    """A caller's rows, read both ways in which they are offered."""
    array = answer.outputs.tensors[name][answer.start : answer.stop]
    width = 1 if array.ndim == 1 else array.shape[1]
    flat = answer.outputs.flat(name)[answer.start * width : answer.stop * width]
    assert flat == array.ravel().tolist()
    return array.tolist()


def run(test: Callable[[Bench], Awaitable[None]]) -> None:
    clock = ManualClock()

    def new_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.SelectorEventLoop()
        loop.time = clock.monotonic  # type: ignore[method-assign]
        return loop

    async def guarded() -> None:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        guard = threading.Timer(GUARD_S, lambda: loop.call_soon_threadsafe(task.cancel))
        guard.start()
        bench = Bench(clock)
        try:
            await test(bench)
            await bench.close()
        finally:
            guard.cancel()
            bench.runtime.gate.set()
        assert bench.runtime.closed == 1
        statistics = bench.dispatcher.statistics()
        queue = statistics.queue
        assert (statistics.running, queue.requests, queue.rows, queue.size_bytes) == (False, 0, 0, 0)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(guarded())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 3)), min_size=1, max_size=25),
    st.integers(1, 40),
    st.sets(st.integers(0, 24)),
)
def test_results_are_never_mixed_between_callers(
    sizes: list[tuple[int, int]], rows_max: int, cancelled: set[int]
) -> None:
    async def test(bench: Bench) -> None:
        runtime = FakeRuntime(double_and_sum, VARYING)
        bench.start(runtime, rows_max=rows_max)
        first_value = 0
        inputs, futures = [], []
        runtime.gate.clear()
        for rows, width in sizes:
            x = np.arange(first_value, first_value + rows * width, dtype="<i8").reshape(rows, width)
            first_value += rows * width
            inputs.append(x)
            futures.append(bench.dispatcher.submit({"x": x}, bench.clock.monotonic(), 30.0).future)
        await runtime.began.acquire()
        for index in cancelled & set(range(len(sizes))):
            futures[index].cancel()
        runtime.gate.set()
        for index, (x, future) in enumerate(zip(inputs, futures, strict=True)):
            if index in cancelled:
                assert future.cancelled()
                continue
            answer = await future
            assert share(answer) == [[2 * value + 1 for value in row] for row in x.tolist()]
            assert share(answer, "sum") == [sum(row) for row in x.tolist()]
        largest = max(rows for rows, _ in sizes)
        assert all(rows <= max(rows_max, largest) for (rows,) in runtime.runs)
        wanted = sum(rows for index, (rows, _) in enumerate(sizes) if index not in cancelled)
        assert sum(bench.observer.answers) == wanted
        await bench.close()
        assert wanted <= sum(rows for (rows,) in runtime.runs) <= sum(rows for rows, _ in sizes)

    run(test)


def test_what_comes_in_one_turn_of_the_loop_runs_together() -> None:
    async def test(bench: Bench) -> None:
        bench.start(FakeRuntime())
        answers = await asyncio.gather(*(bench.submit(value) for value in range(10)))
        assert [share(answer) for answer in answers] == [[2 * value + 1] for value in range(10)]
        assert bench.runtime.runs == [[10]]
        assert bench.observer.batches == [10]

    run(test)


def test_what_a_model_calls_is_wanted_while_one_waits_and_matters_as_the_most_important() -> None:
    seen: list[tuple[float | None, int | None]] = []

    def behave(tensors: Tensors) -> Tensors:
        seen.append((inherited_deadline_s(), inherited_criticality()))
        return double(tensors)

    async def test(bench: Bench) -> None:
        dispatcher = bench.start(FakeRuntime(behave))
        now_s = bench.clock.monotonic()
        answers = [
            dispatcher.submit({"x": np.array([1], "<i8")}, now_s, now_s + life_s, None, criticality).future
            for life_s, criticality in ((1.0, 2), (9.0, 4), (4.0, 3))
        ]
        await asyncio.gather(*answers)
        assert seen == [(now_s + 9.0, 2)]

    run(test)
    assert inherited_deadline_s() is None


def test_a_model_bound_to_a_number_of_rows_gets_one_request_at_a_time() -> None:
    async def test(bench: Bench) -> None:
        bound = Signature.of(inputs={"x": "INT64[2]"}, outputs={"y": "INT64[2]"})
        bench.start(FakeRuntime(signature=bound))
        answers = await asyncio.gather(bench.submit(1, 2), bench.submit(3, 4))
        assert [share(answer) for answer in answers] == [[3, 5], [7, 9]]
        assert bench.runtime.runs == [[2], [2]]

    run(test)


def test_a_request_with_many_rows_runs_in_parts_with_others_in_between() -> None:
    async def test(bench: Bench) -> None:
        bench.start(FakeRuntime(), rows_max=4)
        many = await bench.hold(*range(10))
        now_s = bench.clock.monotonic()
        urgent = bench.dispatcher.submit({"x": np.array([50], "<i8")}, now_s, now_s + 30.0, None, 1).future
        later = bench.submit(60)
        bench.runtime.gate.set()
        assert share(await urgent) == [101]
        assert not many.done()
        assert share(await many) == [2 * value + 1 for value in range(10)]
        assert share(await later) == [121]
        assert bench.runtime.runs == [[4], [4], [4]]  # 4; the urgent one and 3; 3 and the last
        assert bench.observer.answers == [1, 10, 1]

    run(test)


def test_outputs_as_wide_as_the_widest_row_are_not_put_together_from_parts() -> None:
    signature = Signature.of(inputs={"x": "INT64[-1]"}, outputs={"y": "INT64[-1, -1]"})

    def as_wide_as_the_largest(tensors: Tensors) -> Tensors:
        x = tensors["x"]
        return {"y": np.zeros((len(x), int(x.max())), "<i8")}

    async def test(bench: Bench) -> None:
        bench.start(FakeRuntime(as_wide_as_the_largest, signature), rows_max=4)
        answer = await bench.submit(*range(1, 11))
        assert answer.outputs.tensors["y"].shape == (10, 10)
        assert bench.runtime.runs == [[10]]

    run(test)


def test_parts_that_do_not_fit_together_fail_their_caller_alone() -> None:
    """The model answers against its signature, which has every row as wide."""
    widths = iter([1, 2, 3, 4, 5])

    def behave(tensors: Tensors) -> Tensors:
        return {"y": np.zeros((len(tensors["x"]), next(widths)), "<i8")}

    async def test(bench: Bench) -> None:
        signature = Signature.of(inputs={"x": "INT64[-1]"}, outputs={"y": "INT64[-1, 1]"})
        bench.start(FakeRuntime(behave, signature), rows_max=4)
        many, other = bench.submit(*range(10)), bench.submit(1)
        with pytest.raises(ModelFailed, match="do not fit together"):
            await many
        assert (await other).stop - (await other).start == 1
        assert share(await bench.submit(2)) == [[0] * 4]

    run(test)


def test_a_part_that_fails_fails_its_request_and_the_rest_never_runs() -> None:
    def behave(tensors: Tensors) -> Tensors:
        if 5 in tensors["x"]:
            raise InvalidInput("five")
        return double(tensors)

    async def test(bench: Bench) -> None:
        bench.start(FakeRuntime(behave), rows_max=4)
        many, other = bench.submit(*range(20)), bench.submit(100)
        with pytest.raises(InvalidInput, match="five"):
            await many
        assert share(await other) == [201]
        await settle()
        assert bench.runtime.runs == [[4], [4], [1]]
        assert len(bench.observer.failures) == 1

    run(test)


@pytest.mark.parametrize("how", ["hangs up", "is late"])
def test_whoever_is_gone_before_all_parts_ran_costs_nothing_more(how: str) -> None:
    async def test(bench: Bench) -> None:
        bench.start(FakeRuntime(), rows_max=4)
        now_s = bench.clock.monotonic()
        bench.runtime.gate.clear()
        many = bench.dispatcher.submit({"x": np.arange(400, dtype="<i8")}, now_s, now_s + 1.0)
        await bench.runtime.began.acquire()
        if how == "hangs up":
            many.abandon()
        else:
            await bench.pass_time(2.0)
            with pytest.raises(DeadlineExceeded):
                await many.future
        assert bench.dispatcher.statistics().queue.rows == 0
        bench.runtime.gate.set()
        assert share(await bench.submit(1)) == [3]
        assert bench.runtime.runs == [[4], [1]]

    run(test)


def test_close_finishes_a_request_that_is_in_parts() -> None:
    async def test(bench: Bench) -> None:
        bench.start(FakeRuntime(), rows_max=3)
        many = await bench.hold(*range(10))
        closing = asyncio.ensure_future(bench.close())
        await settle()
        bench.runtime.gate.set()
        await closing
        assert share(many.result()) == [2 * value + 1 for value in range(10)]

    run(test)


def test_a_cancelled_caller_never_wedges_a_batch() -> None:
    async def test(bench: Bench) -> None:
        bench.start(FakeRuntime())
        running = await bench.hold(1)
        waiting, other = bench.submit(2), bench.submit(3)
        running.cancel()
        waiting.cancel()
        bench.runtime.gate.set()
        assert share(await other) == [7]
        assert bench.runtime.runs == [[1], [1]]  # the one that waited costs nothing more
        assert bench.observer.answers == [1]
        only = bench.submit(4)
        only.cancel()
        assert share(await bench.submit(5)) == [11]

    run(test)


def test_all_callers_gone_leaves_it_idle() -> None:
    async def test(bench: Bench) -> None:
        bench.start(FakeRuntime())
        for future in [bench.submit(1), bench.submit(2)]:
            future.cancel()
        await settle()
        assert bench.runtime.runs == []
        assert bench.dispatcher.statistics().queue.requests == 0

    run(test)


def test_one_callers_invalid_input_is_its_alone() -> None:
    def behave(tensors: Tensors) -> Tensors:
        if (tensors["x"] < 0).any():
            raise InvalidInput("negative", where="x")
        return double(tensors)

    async def test(bench: Bench) -> None:
        bench.start(FakeRuntime(behave))
        good, bad, other = bench.submit(1, 2), bench.submit(3, -1), bench.submit(4)
        with pytest.raises(InvalidInput, match="negative") as raised:
            await bad
        assert raised.value.where == "x"
        assert share(await good) == [3, 5]
        assert share(await other) == [9]
        with pytest.raises(InvalidInput):
            await bench.submit(-5)
        assert [type(error) for error in bench.observer.failures] == [InvalidInput, InvalidInput]

    run(test)


class Unusual(BaseException):
    pass


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        KeyError("y"),
        MemoryError(),
        StopIteration(1),
        StopAsyncIteration(),
        GeneratorExit(),
        SystemExit(3),
        KeyboardInterrupt(),
        asyncio.CancelledError(),
        TimeoutError(),
        Unusual("odd"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_runtime_raises_goes_to_the_callers(error: BaseException) -> None:
    def behave(tensors: Tensors) -> Tensors:
        if 13 in tensors["x"]:
            raise error
        return double(tensors)

    async def test(bench: Bench) -> None:
        bench.start(FakeRuntime(behave))
        for future in [bench.submit(13), bench.submit(1)]:
            with pytest.raises(ModelFailed, match=type(error).__name__):
                await future
        assert share(await bench.submit(2)) == [5]
        assert len(bench.observer.failures) == 2

    run(test)


@pytest.mark.parametrize(
    "error",
    [ModelFailed("broke"), DeadlineExceeded("late"), Refused("down", reason="runtime_down"), NotFound("gone")],
    ids=lambda error: type(error).__name__,
)
def test_errors_of_the_family_stay_what_they_are(error: PenstockError) -> None:
    def behave(tensors: Tensors) -> Tensors:
        raise error

    async def test(bench: Bench) -> None:
        bench.start(FakeRuntime(behave))
        for future in [bench.submit(1), bench.submit(2)]:
            with pytest.raises(type(error)) as raised:
                await future
            assert raised.value is error

    run(test)


@pytest.mark.parametrize("bad", [ValueError("second"), SystemExit(1)], ids=["Exception", "BaseException"])
def test_a_second_run_apart_may_fail_otherwise(bad: BaseException) -> None:
    def behave(tensors: Tensors) -> Tensors:
        if len(tensors["x"]) > 1:
            raise InvalidInput("somebody's rows are bad")
        if tensors["x"][0] == 13:
            raise bad
        return double(tensors)

    async def test(bench: Bench) -> None:
        bench.start(FakeRuntime(behave))
        broken, good = bench.submit(13), bench.submit(2)
        with pytest.raises(ModelFailed, match=type(bad).__name__):
            await broken
        assert share(await good) == [5]

    run(test)


@pytest.mark.parametrize(
    "outputs",
    [
        {"y": np.zeros(1, "<i8")},
        {"y": np.zeros(3, "<i8")},
        {"y": np.zeros(0, "<i8")},
        {"y": np.array(1)},
        {"y": np.zeros(2, "<i8"), "z": np.zeros(1, "<i8")},
        {},
        None,
        "two",
    ],
    ids=["fewer", "more", "none", "scalar", "in the second output", "no outputs", "None", "text"],
)
def test_a_wrong_number_of_rows_is_the_models_fault(outputs: Any) -> None:
    async def test(bench: Bench) -> None:
        bench.start(FakeRuntime(lambda tensors: outputs))
        for future in [bench.submit(1), bench.submit(2)]:
            with pytest.raises(ModelFailed):
                await future
        bench.runtime.behave = double
        assert share(await bench.submit(2)) == [5]

    run(test)


def test_deadlines_pass_while_the_runtime_hangs() -> None:
    async def test(bench: Bench) -> None:
        bench.start(FakeRuntime())
        running = await bench.hold(1, life_s=2.0)
        sooner, later = bench.submit(2, life_s=1.0), bench.submit(3, life_s=30.0)
        await bench.pass_time(0.9)
        assert not sooner.done()
        await bench.pass_time(0.1)
        assert isinstance(sooner.exception(), DeadlineExceeded)
        assert not running.done()
        await bench.pass_time(1.0)
        assert isinstance(running.exception(), DeadlineExceeded)
        assert not later.done()
        bench.runtime.gate.set()
        assert share(await later) == [7]
        assert bench.observer.answers == [1]  # what came back late is nobody's
        assert bench.runtime.runs == [[1], [1]]

    run(test)


def test_a_request_that_is_late_when_it_comes() -> None:
    async def test(bench: Bench) -> None:
        bench.start(FakeRuntime())
        with pytest.raises(DeadlineExceeded):
            await bench.submit(1, life_s=-1.0)
        with pytest.raises(DeadlineExceeded):
            await bench.submit(1, life_s=0.0)
        assert bench.runtime.runs == []

    run(test)


def test_an_impatient_caller_does_not_cut_the_run_short() -> None:
    async def test(bench: Bench) -> None:
        bench.start(FakeRuntime())
        await asyncio.gather(bench.submit(1, life_s=3.0), bench.submit(2, life_s=7.0))
        assert bench.runtime.timeouts_s == [60.0]

    run(test)


@pytest.mark.parametrize("kind", [InvalidInput, ValueError])
def test_an_error_holds_no_frames_and_so_no_batch(kind: type[Exception]) -> None:
    def behave(tensors: Tensors) -> Tensors:
        try:
            raise KeyError("cause")
        except KeyError as cause:
            raise kind("no") from cause

    async def test(bench: Bench) -> None:
        bench.start(FakeRuntime(behave))
        failing = bench.submit(1)
        await asyncio.wait([failing])
        error = failing.exception()
        assert error is not None
        assert (error.__traceback__, error.__cause__, error.__context__) == (None, None, None)

    run(test)


@pytest.mark.parametrize("bound", [{"queue_rows_max": 4}, {"queue_bytes_max": 34}])
def test_a_full_queue_refuses(bound: dict[str, int]) -> None:
    async def test(bench: Bench) -> None:
        bench.start(FakeRuntime(), **bound)
        held = await bench.hold(0)
        taken = [bench.submit(1, 2), bench.submit(3, 4)]
        with pytest.raises(Refused) as raised:
            bench.submit(5)
        assert raised.value.reason == "queue_full"
        assert bench.dispatcher.statistics().queue.refused == 1
        bench.runtime.gate.set()
        assert [share(await future) for future in (held, *taken)] == [[1], [3, 5], [7, 9]]
        assert share(await bench.submit(5)) == [11]

    run(test)


def test_close_drains() -> None:
    async def test(bench: Bench) -> None:
        bench.start(FakeRuntime(), rows_max=2)
        futures = [await bench.hold(0), *(bench.submit(value) for value in range(1, 6))]
        closing = asyncio.create_task(bench.close())
        await settle()
        assert not closing.done()
        assert bench.runtime.closed == 0
        with pytest.raises(Refused) as raised:
            bench.submit(9)
        assert raised.value.reason == "draining"
        bench.runtime.gate.set()
        await closing
        assert [share(future.result()) for future in futures] == [[2 * value + 1] for value in range(6)]
        assert bench.runtime.closed == 1
        assert not bench.dispatcher._runner._thread.is_alive()

    run(test)


def test_close_of_an_idle_dispatcher() -> None:
    async def test(bench: Bench) -> None:
        bench.start(FakeRuntime())

    run(test)


def test_it_learns_how_long_batches_take_and_cuts_them() -> None:
    async def test(bench: Bench) -> None:
        def behave(tensors: Tensors) -> Tensors:
            bench.clock.advance(0.05 + 0.01 * len(tensors["x"]))
            return double(tensors)

        bench.start(FakeRuntime(behave), objective_s=0.45)
        for rows in (1, 2, 3, 4):
            await bench.submit(*range(rows))
        statistics = bench.dispatcher.statistics()
        assert statistics.service.per_row_s == pytest.approx(0.01)
        assert statistics.service.batches == 4
        assert statistics.limit.rows in (9, 10)  # a third of the objective
        bench.runtime.runs.clear()
        await asyncio.gather(*(bench.submit(value) for value in range(30)))
        assert max(rows for (rows,) in bench.runtime.runs) <= 10

    run(test)


def test_a_runtime_that_cannot_even_be_revived_costs_nobody_the_thread() -> None:
    class Broken(FakeRuntime):
        def revive(self) -> None:
            super().revive()
            raise RuntimeError("the reply was no message")

    async def test(bench: Bench) -> None:
        runtime = Broken()
        bench.start(runtime)
        runtime.down = "its process has ended"
        bench.dispatcher.revive()
        assert share(await bench.submit(1)) == [3]
        runtime.down = "its process has ended again"
        bench.dispatcher.revive()
        assert share(await bench.submit(2)) == [5]
        assert runtime.revived == 2

    run(test)
