"""Ladders over models that do as a test says."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from penstock.core.clock import SystemClock
from penstock.core.errors import (
    ConfigurationError,
    DeadlineExceeded,
    InvalidInput,
    ModelFailed,
    PenstockError,
    QuotaExceeded,
    Refused,
)
from penstock.core.signature import Signature
from penstock.core.tensors import Tensors
from penstock.observe.metrics import MetricSet
from penstock.serving.batching.outputs import BatchOutputs, BatchRows
from penstock.serving.fallback.brown_out import ENTER_S
from penstock.serving.fallback.rungs import Backup, Cached, Constant, Heuristic, Rung
from penstock.serving.fallback.stale import Stale
from penstock.serving.inference import Inference
from penstock.serving.laddered import Ladder, LadderAnswer, LadderPorts

GUARD_S = 10.0
OBJECTIVE_S = 0.2
NUMBER = Signature.of(inputs={"x": "INT64[-1]"}, outputs={"y": "INT64[-1]"})
CONSTANT = Constant(values={"y": 7})


class Asked:
    """A model with these outcomes, one after the other; None: the test gives it when it likes."""

    def __init__(
        self, model: str, *outcomes: PenstockError | int | None, signature: Signature = NUMBER
    ) -> None:
        self.model = model
        self.version = "3"
        self.signature = signature
        self.outcomes = list(outcomes)
        self.asked: list[Inference] = []
        self.answers: list[Held] = []

    def beyond_s(self, rows: int) -> float:
        return 0.01 * max(0, rows - 100)

    def ask(self, inference: Inference) -> "Held":
        self.asked.append(inference)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Refused | InvalidInput):
            raise outcome
        self.signature.conform(inference.tensors)
        held = Held(len(inference.tensors["x"]))
        self.answers.append(held)
        if isinstance(outcome, PenstockError):
            held.future.set_exception(outcome)
        elif outcome is not None:
            held.answer(outcome)
        return held


class Held:
    def __init__(self, rows: int) -> None:
        self.future: asyncio.Future[BatchRows] = asyncio.get_running_loop().create_future()
        self.rows = rows

    def answer(self, value: int) -> None:
        # Among rows of others, as in a batch.
        outputs = {"y": np.arange(self.rows + 4) * 0 + value, "more": np.zeros(self.rows + 4)}
        self.future.set_result(BatchRows(BatchOutputs(outputs), 2, 2 + self.rows))

    def abandon(self) -> None:
        self.future.cancel()


class Kept:
    """Stale answers to x = 5."""

    def __init__(self) -> None:
        self.ages: list[float] = []

    def stale(self, model: str, inference: Inference, max_age_s: float) -> Stale | None:
        self.ages.append(max_age_s)
        if inference.tensors["x"].tolist() != [5]:
            return None
        return Stale({"y": np.array([55])}, "1")


class Told:
    """What is counted for callers: the rows, and whether a failure of the model is taken back."""

    def __init__(self) -> None:
        self.stood: list[tuple[int, bool]] = []

    def stood_in(self, rows: int, seconds: float, failed_s: float | None) -> None:
        assert 0.0 <= seconds < GUARD_S
        assert failed_s is None or 0.0 <= failed_s < GUARD_S
        self.stood.append((rows, failed_s is not None))


class World:
    def __init__(self, *rungs: Rung, model: tuple[PenstockError | int | None, ...] = ()) -> None:
        self.model = Asked("m", *model)
        self.backups: dict[str, Asked] = {}
        self.metrics = MetricSet()
        self.told = Told()
        ports = LadderPorts(find=self.backups.get, stale=Kept(), told=self.told)
        self.ladder = Ladder(self.model, rungs, ports, self.metrics, SystemClock(), OBJECTIVE_S)

    def infer(self, *values: int, **further: Any) -> LadderAnswer:
        now_s = SystemClock().monotonic()
        tensors: Tensors = {"x": np.array(values or (1,))}
        return self.ladder.infer(Inference(tensors, now_s, now_s + GUARD_S, now_s + OBJECTIVE_S, **further))

    async def ask(self, *values: int, **further: Any) -> tuple[str, list[int], str, str]:
        outputs, start, stop = await self.infer(*values, **further).future
        assert list(outputs.tensors) == ["y"] or not outputs.rung
        return outputs.rung, outputs.tensors["y"][start:stop].tolist(), outputs.model, outputs.version

    def counted(self) -> dict[str, tuple[int, int]]:
        rungs = self.ladder.statistics().rungs
        return {name: (counts.answered, counts.passed) for name, counts in rungs.items()}


def run(test: Coroutine[Any, Any, None]) -> None:
    async def guarded() -> None:
        problems: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        async with asyncio.timeout(GUARD_S):
            await test
        assert problems == []

    asyncio.run(guarded())


def test_the_model_answers_where_it_can() -> None:
    async def life() -> None:
        world = World(CONSTANT, model=(4,))
        assert await world.ask(1, 2) == ("", [4, 4], "", "")
        assert world.counted() == {"model": (1, 0), "constant": (0, 0)}

    run(life())


@pytest.mark.parametrize(
    "error",
    [
        Refused("no", reason="overload"),
        Refused("no", reason="breaker_open"),
        ModelFailed("it broke"),
        DeadlineExceeded("too late"),
    ],
    ids=lambda error: getattr(error, "reason", type(error).__name__),
)
def test_what_goes_to_the_next_rung(error: PenstockError) -> None:
    async def life() -> None:
        world = World(CONSTANT, model=(error,))
        assert await world.ask(1, 2, 3) == ("constant", [7, 7, 7], "m", "")
        assert world.counted() == {"model": (0, 1), "constant": (1, 0)}

    run(life())


@pytest.mark.parametrize(
    "error", [InvalidInput("ten is too many"), QuotaExceeded("enough", reason="rate")], ids=["invalid", "quota"]
)
def test_what_does_not(error: PenstockError) -> None:
    async def life() -> None:
        world = World(CONSTANT, model=(error, None))
        with pytest.raises(type(error)):
            world.infer()
        answer = world.infer()
        world.model.answers[-1].future.set_exception(error)
        with pytest.raises(type(error)):
            await answer.future
        assert world.counted()["constant"] == (0, 0)

    run(life())


def test_inputs_that_do_not_fit_are_no_rungs_concern() -> None:
    async def life() -> None:
        world = World(CONSTANT, model=(Refused("before it looked at them", reason="overload"),))
        now_s = SystemClock().monotonic()
        with pytest.raises(InvalidInput, match="unknown"):
            world.ladder.infer(Inference({"z": np.array([1])}, now_s, now_s + 1.0))

    run(life())


def test_rungs_in_their_order() -> None:
    async def life() -> None:
        refused = Refused("no", reason="overload")
        rungs = (
            Cached(max_age_s=60.0),
            Backup(name="b"),
            Heuristic(function=lambda inputs: {"y": inputs["x"] + 100}, timeout_ms=5000),
            CONSTANT,
        )
        world = World(*rungs, model=(refused,) * 3)
        world.backups["b"] = Asked("b", 9, ModelFailed("the backup broke"))
        assert await world.ask(5) == ("cached", [55], "m", "1")
        assert await world.ask(1, 2) == ("b", [9, 9], "b", "3")
        assert await world.ask(1, 2) == ("heuristic", [101, 102], "m", "")
        assert world.counted() == {
            "model": (0, 3),
            "cached": (1, 2),
            "b": (1, 1),
            "heuristic": (1, 0),
            "constant": (0, 0),
        }
        world.ladder.close()

    run(life())


def test_where_all_fail_the_first_error_is_told() -> None:
    async def life() -> None:
        first = ModelFailed("the first")
        world = World(
            Cached(max_age_s=60.0), Backup(name="b"), model=(first, Refused("shed", reason="overload"))
        )
        world.backups["b"] = Asked("b", ModelFailed("the second"), Refused("the second", reason="overload"))
        with pytest.raises(ModelFailed, match="the first"):
            await world.ask()
        assert first.__traceback__ is None or first.__context__ is None
        with pytest.raises(Refused, match="shed"):
            world.infer()
        assert world.ladder.statistics().exhausted == 2

    run(life())


def test_a_model_that_hangs_leaves_time_and_its_queue_drops_the_request_itself() -> None:
    async def life() -> None:
        world = World(CONSTANT, model=(None,))
        started_s = SystemClock().monotonic()
        answer = world.infer()
        assert (await answer.future).outputs.rung == "constant"
        (asked,) = world.model.asked
        assert started_s < asked.deadline_s < started_s + OBJECTIVE_S
        assert asked.due_s is None
        held = world.model.answers[0]
        assert not held.future.cancelled(), "that it was too slow counts against it"
        held.future.set_exception(DeadlineExceeded("late", overran=True))
        await asyncio.sleep(0)

    run(life())


def test_a_late_answer_of_the_model_changes_nothing() -> None:
    async def life() -> None:
        world = World(CONSTANT, model=(None,))
        answer = world.infer()
        assert (await answer.future).outputs.rung == "constant"
        world.model.answers[0].answer(4)
        await asyncio.sleep(0)
        assert answer.future.result().outputs.rung == "constant"
        assert world.counted()["model"] == (0, 1)

    run(life())


def test_a_caller_that_hung_up_asks_no_further_rung() -> None:
    async def life() -> None:
        world = World(Backup(name="b"), CONSTANT, model=(None, Refused("no", reason="overload")))
        world.backups["b"] = Asked("b", None, 9)
        at_the_model = world.infer()
        at_the_model.abandon()
        assert world.model.answers[0].future.cancelled()
        at_the_backup = world.infer()
        at_the_backup.abandon()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert world.backups["b"].answers[0].future.cancelled()
        assert world.counted()["constant"] == (0, 0)
        backup = world.ladder._steps[0]
        assert backup._bulkhead.statistics().inside == 0  # type: ignore[attr-defined]

    run(life())


def test_a_backup_gets_its_inputs_its_time_and_no_more_than_its_bulkhead_holds() -> None:
    async def life() -> None:
        refused = Refused("no", reason="overload")
        world = World(Backup(name="b", concurrency=1), CONSTANT, model=(refused,) * 3)
        world.backups["b"] = Asked("b", None, 9)
        now_s = SystemClock().monotonic()
        first = world.infer(criticality=1, caller=b"me")
        assert (await world.ask())[0] == "constant", "the backup is full"
        (asked,) = world.backups["b"].asked
        assert (asked.criticality, asked.caller, asked.admitted) == (1, b"me", False)
        assert now_s < asked.deadline_s < now_s + OBJECTIVE_S + 1.0
        world.backups["b"].answers[0].answer(8)
        assert (await first.future).outputs.rung == "b"
        assert (await world.ask())[0] == "b", "there is room again"

    run(life())


def test_a_backup_that_does_not_fit_is_passed_and_told_of_at_the_start() -> None:
    async def life() -> None:
        world = World(Backup(name="b"), CONSTANT, model=(Refused("no", reason="overload"),) * 2)
        world.ladder.check()
        assert (await world.ask())[0] == "constant"
        other = Signature.of(inputs={"x": "INT64[-1]"}, outputs={"z": "INT64[-1]"})
        world.backups["b"] = Asked("b", signature=other)
        with pytest.raises(ConfigurationError, match="'b' has no output 'y', which 'm' has"):
            world.ladder.check()
        assert (await world.ask())[0] == "constant"
        world.backups["b"] = Asked("b", 9)
        world.ladder.check()

    run(life())


def raising(error: BaseException) -> Callable[[Tensors], object]:
    def function(inputs: Tensors) -> object:
        raise error

    return function


def writing(inputs: Tensors) -> object:
    inputs["x"][:] = 0
    return {"y": inputs["x"]}


@pytest.mark.parametrize(
    "function",
    [raising(ValueError("no")), raising(SystemExit(3)), raising(StopIteration()), writing, lambda inputs: None],
)
def test_a_heuristic_that_breaks_is_passed(function: Callable[[Tensors], object]) -> None:
    async def life() -> None:
        world = World(Heuristic(function=function), CONSTANT, model=(Refused("no", reason="overload"),))
        assert await world.ask(1) == ("constant", [7], "m", "")
        world.ladder.close()

    run(life())


def test_a_heuristic_that_hangs_holds_its_place_until_it_is_through() -> None:
    async def life() -> None:
        gate = threading.Event()
        began: list[int] = []

        def hang(inputs: Tensors) -> object:
            began.append(1)
            assert gate.wait(GUARD_S)
            return {"y": inputs["x"]}

        refused = Refused("no", reason="overload")
        world = World(Heuristic(function=hang, timeout_ms=20, concurrency=1), CONSTANT, model=(refused,) * 3)
        assert (await world.ask())[0] == "constant"
        assert (await world.ask())[0] == "constant"
        assert began == [1], "the second found the bulkhead full"
        step = world.ladder._steps[0]
        assert step._bulkhead.statistics().inside == 1  # type: ignore[attr-defined]
        gate.set()
        while step._bulkhead.statistics().inside:  # type: ignore[attr-defined]  # noqa: ASYNC110 - a thread
            await asyncio.sleep(0)
        assert (await world.ask(4)) == ("heuristic", [4], "m", "")
        world.ladder.close()

    run(life())


def brown_out(ladder: Ladder) -> None:
    ladder.brown_out.observe(0.5, 0.0)
    ladder.brown_out.observe(0.5, ENTER_S)
    assert ladder.brown_out.active


def test_in_a_brown_out_the_sheddable_classes_do_not_ask_the_model() -> None:
    async def life() -> None:
        world = World(CONSTANT, model=(4, 4))
        brown_out(world.ladder)
        rungs = [(await world.ask(criticality=criticality))[0] for criticality in (1, 2, 3, 4)]
        assert rungs == ["", "", "constant", "constant"]

    run(life())


def test_in_a_brown_out_the_model_is_what_is_left_where_no_rung_answers() -> None:
    async def life() -> None:
        world = World(Cached(max_age_s=60.0), model=(4, ModelFailed("it broke")))
        brown_out(world.ladder)
        assert await world.ask(5, criticality=4) == ("cached", [55], "m", "1")
        assert await world.ask(1, criticality=4) == ("", [4], "", "")
        with pytest.raises(ModelFailed, match="it broke"):
            await world.ask(1, criticality=4)

    run(life())


def passed(**further: Any) -> Inference:
    """A request whose deadline has passed."""
    now_s = SystemClock().monotonic()
    return Inference({"x": np.array([1])}, now_s - 2.0, now_s - 1.0, **further)


def test_a_request_whose_deadline_has_passed_asks_no_rung_that_takes_time() -> None:
    async def life() -> None:
        asked: list[object] = []
        rung = Heuristic(function=asked.append)
        world = World(rung, Backup(name="b"), model=(DeadlineExceeded("passed"),))
        world.backups["b"] = Asked("b")
        with pytest.raises(DeadlineExceeded, match="passed"):
            await world.ladder.infer(passed()).future
        assert asked == world.backups["b"].asked == []

    run(life())


def test_what_answers_at_once_does_so_however_late() -> None:
    async def life() -> None:
        world = World(Backup(name="b"), CONSTANT, model=(DeadlineExceeded("passed"),))
        answer = await world.ladder.infer(passed()).future
        assert answer.outputs.rung == "constant"

    run(life())


def test_what_a_rung_lacks_is_never_what_the_caller_hears() -> None:
    """In a brown-out the cache is asked before the model: its miss was a 404 to the caller."""

    async def life() -> None:
        world = World(Cached(max_age_s=60.0), Backup(name="b"), model=(Refused("too much", reason="overload"),))
        brown_out(world.ladder)
        with pytest.raises(Refused, match="too much"):
            await world.ladder.infer(passed(criticality=4)).future

    run(life())


def test_what_a_rung_answered_is_no_failure_for_its_caller() -> None:
    async def life() -> None:
        world = World(CONSTANT, model=(4, Refused("no", reason="overload"), ModelFailed("broken")))
        for values in ((1,), (1, 2), (1, 2, 3)):
            await world.ask(*values)
        assert world.told.stood == [(2, True), (3, True)], "of its own answers the model tells"

    run(life())


@pytest.mark.parametrize(
    ("ends", "told"), [("answers", []), ("fails", [(1, True)]), ("gives up", [(1, False)])], ids=str
)
def test_a_model_that_ends_after_a_rung_has_answered_counts_once(ends: str, told: list[Any]) -> None:
    async def life() -> None:
        world = World(CONSTANT, model=(None,))
        assert (await world.ask(1))[0] == "constant"
        assert world.told.stood == [], "how the model ends is counted too, and not known yet"
        (held,) = world.model.answers
        if ends == "answers":
            held.answer(4)
        elif ends == "fails":
            held.future.set_exception(DeadlineExceeded("too late"))
        else:
            held.abandon()
        await asyncio.sleep(0)
        assert world.told.stood == told
        assert not held.future.cancelled() or ends == "gives up"

    run(life())


def test_a_model_that_was_not_asked_has_no_failure_to_be_taken_back() -> None:
    async def life() -> None:
        world = World(CONSTANT)
        now_s = SystemClock().monotonic()
        for seconds in (0.0, ENTER_S + 0.1):
            world.ladder.brown_out.observe(0.5, now_s + seconds)
        assert (await world.ask(1, criticality=4))[0] == "constant"
        assert world.told.stood == [(1, False)]

    run(life())


def test_who_hung_up_or_was_answered_by_nobody_is_nobody_s_success() -> None:
    async def life() -> None:
        world = World(Backup(name="lite"), model=(ModelFailed("broken"), ModelFailed("broken")))
        world.backups["lite"] = Asked("lite", None, ModelFailed("broken too"))
        answer = world.infer(1)
        for _ in range(3):
            await asyncio.sleep(0)
        assert world.backups["lite"].answers
        answer.abandon()
        with pytest.raises(ModelFailed):
            await world.ask(1)
        assert world.told.stood == []

    run(life())
