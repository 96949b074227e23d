"""Single-flight over runs that end as a test says. Time is a ManualClock's, also the loop's own."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.clock import ManualClock
from penstock.core.errors import DeadlineExceeded, ModelFailed, PenstockError, Refused
from penstock.observe.metrics import MetricSet
from penstock.serving.batching.outputs import BatchOutputs, BatchRows
from penstock.serving.batching.pending import PendingAnswer
from penstock.serving.cache.prediction_cache import CacheConfig, PredictionCache
from penstock.serving.cached_answers import WAITING_MAX, CachedAnswers
from penstock.serving.inference import Inference

TTL_S = 10.0


class Run(PendingAnswer):
    """A run of the model, as the dispatcher holds it."""

    def __init__(self, inference: Inference) -> None:
        self.inference = inference
        self.future = asyncio.get_running_loop().create_future()
        self.waits = True
        self.abandoned = False

    @property
    def queued(self) -> bool:
        return self.waits

    def abandon(self) -> None:
        self.abandoned = True
        self.future.cancel()

    @property
    def asked(self) -> int:
        return int(self.inference.tensors["x"][0])

    def finish(self, rung: str = "") -> None:
        """The middle row of a batch."""
        asked = self.asked
        outputs = BatchOutputs({"y": np.array([-1, 10 * asked, -1])}, rung)
        self.future.set_result(BatchRows(outputs, 1, 2))


class Bench:
    """Cached answers, and what stands around them."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        asyncio.get_running_loop().time = self.clock.monotonic  # type: ignore[method-assign]
        self.runs: list[Run] = []
        self.refuses: Callable[[Inference], PenstockError | None] = lambda _: None
        self.answered_rows: list[int] = []
        self.failures: list[Exception] = []
        cache: PredictionCache[BatchRows] = PredictionCache(1 << 20, MetricSet(), b"s" * 32)
        self.answers = CachedAnswers(cache.open("m", "1", CacheConfig(ttl_s=TTL_S)), self.clock, self.run, self)

    def run(self, inference: Inference) -> PendingAnswer:
        error = self.refuses(inference)
        if error is not None:
            raise error
        self.runs.append(Run(inference))
        return self.runs[-1]

    def given(self, rows: int, seconds: float, now_s: float) -> None:
        assert seconds >= 0
        assert now_s == self.clock.monotonic()
        self.answered_rows.append(rows)

    def not_given(self, error: Exception, seconds: float) -> None:
        self.failures.append(error)

    def ask(self, asked: int = 1, *, life_s: float = 5.0, criticality: int = 2) -> PendingAnswer:
        now_s = self.clock.monotonic()
        tensors = {"x": np.array([asked])}
        return self.answers.infer(Inference(tensors, now_s, now_s + life_s, criticality=criticality))

    async def pass_s(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await self.turn()

    @staticmethod
    async def turn() -> None:
        for _ in range(4):
            await asyncio.sleep(0)


def run(test: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    async def start() -> None:
        await test(Bench())

    asyncio.run(start())


def value(answer: PendingAnswer) -> int:
    rows = answer.future.result()
    assert (rows.start, rows.stop) == (0, 1)
    return int(rows.outputs.tensors["y"][0])


def test_a_hit_runs_nothing_until_it_is_old() -> None:
    async def life(bench: Bench) -> None:
        first = bench.ask()
        bench.runs[0].finish()
        await bench.turn()
        assert value(first) == 10
        assert bench.answered_rows == [], "the run counts itself"
        hit = bench.ask()
        assert value(hit) == 10, "at once"
        hit.abandon()
        assert value(hit) == 10
        with pytest.raises(ValueError, match="read-only"):
            hit.future.result().outputs.tensors["y"][0] = 5  # type: ignore[call-overload]
        assert hit.future.result().outputs.tensors["y"].base is None, "and does not hold its batch"
        bench.ask(2)
        assert len(bench.runs) == 2
        await bench.pass_s(TTL_S)
        bench.ask()
        assert len(bench.runs) == 3
        counted = bench.answers.statistics()
        assert (counted.hits, counted.misses, counted.joined) == (1, 3, 0)
        assert bench.answered_rows == [1]

    run(life)


def test_equal_requests_at_once_run_once() -> None:
    async def life(bench: Bench) -> None:
        asked = [bench.ask(), bench.ask(), bench.ask(2), bench.ask()]
        assert len(bench.runs) == 2
        for each in bench.runs:
            each.finish()
        await bench.turn()
        assert [value(each) for each in asked] == [10, 10, 20, 10]
        assert bench.answered_rows == [1, 1]
        assert bench.answers.statistics().joined == 2

    run(life)


def test_a_model_s_error_is_everybody_s_and_is_not_kept() -> None:
    async def life(bench: Bench) -> None:
        asked = [bench.ask(), bench.ask()]
        bench.runs[0].future.set_exception(ModelFailed("broken"))
        await bench.turn()
        for each in asked:
            with pytest.raises(ModelFailed):
                each.future.result()
        assert len(bench.failures) == 1, "the other is the run's"
        bench.ask()
        assert len(bench.runs) == 2

    run(life)


@pytest.mark.parametrize("error", [Refused("full", reason="queue_full"), DeadlineExceeded("late")])
def test_a_leader_s_refusal_is_its_own(error: PenstockError) -> None:
    async def life(bench: Bench) -> None:
        leader, later, sooner = bench.ask(life_s=1), bench.ask(life_s=9), bench.ask(life_s=3)
        bench.runs[0].future.set_exception(error)
        await bench.turn()
        with pytest.raises(type(error)):
            leader.future.result()
        assert len(bench.runs) == 2
        assert bench.runs[1].inference.deadline_s == 3, "who has the least time leads"
        bench.runs[1].finish()
        await bench.turn()
        assert value(later) == value(sooner) == 10

    run(life)


def test_all_are_refused_when_none_may_lead() -> None:
    async def life(bench: Bench) -> None:
        asked = [bench.ask(life_s=1), bench.ask(life_s=3), bench.ask(life_s=2)]
        bench.refuses = lambda inference: Refused(f"no {inference.deadline_s}", reason="overload")
        bench.runs[0].future.set_exception(Refused("full", reason="queue_full"))
        await bench.turn()
        said = [str(each.future.exception()) for each in asked]
        assert said == ["full", "no 3.0", "no 2.0"]
        with pytest.raises(Refused):
            bench.ask()
        bench.refuses = lambda _: None
        bench.ask()
        assert len(bench.runs) == 2

    run(life)


def test_each_has_its_own_deadline() -> None:
    async def life(bench: Bench) -> None:
        leader, hasty, patient = bench.ask(), bench.ask(life_s=6), bench.ask(life_s=9)
        bench.runs[0].waits = False
        await bench.pass_s(6)
        with pytest.raises(DeadlineExceeded):
            hasty.future.result()
        assert not leader.future.done()
        assert not patient.future.done()
        bench.runs[0].finish()
        await bench.turn()
        assert value(leader) == value(patient) == 10
        await bench.pass_s(10)
        assert len(bench.failures) == 1

    run(life)


def test_a_leader_may_leave_and_the_last_ends_the_run() -> None:
    async def life(bench: Bench) -> None:
        leader, second, third = bench.ask(), bench.ask(), bench.ask()
        leader.abandon()
        leader.abandon()
        assert not bench.runs[0].abandoned
        second.abandon()
        bench.runs[0].finish()
        await bench.turn()
        assert value(third) == 10
        assert leader.future.cancelled()
        assert bench.answered_rows == [], "the one that was answered stands for the run"
        fourth = bench.ask(2)
        fourth.abandon()
        assert bench.runs[1].abandoned
        bench.ask(2)
        assert len(bench.runs) == 3

    run(life)


def test_what_a_gone_leader_s_run_is_refused_is_not_the_others() -> None:
    async def life(bench: Bench) -> None:
        leader, second = bench.ask(life_s=1), bench.ask()
        leader.abandon()
        bench.runs[0].future.set_exception(DeadlineExceeded("late"))
        await bench.turn()
        assert not second.future.done()
        bench.runs[1].finish()
        await bench.turn()
        assert value(second) == 10

    run(life)


def test_the_more_important_does_not_wait_as_the_less() -> None:
    async def life(bench: Bench) -> None:
        low, high = bench.ask(criticality=4, life_s=2), bench.ask(criticality=1, life_s=9)
        assert bench.runs[0].abandoned
        assert bench.runs[1].inference.criticality == 1
        same = bench.ask(criticality=2)
        assert len(bench.runs) == 2
        await bench.pass_s(2)
        with pytest.raises(DeadlineExceeded):
            low.future.result()
        bench.runs[1].waits = False
        urgent = bench.ask(criticality=1, life_s=1)
        assert len(bench.runs) == 2, "what runs is not started again"
        bench.runs[1].finish()
        await bench.turn()
        assert [value(each) for each in (high, same, urgent)] == [10] * 3

    run(life)


def test_what_another_rung_gave_is_not_kept() -> None:
    async def life(bench: Bench) -> None:
        asked = [bench.ask(), bench.ask()]
        bench.runs[0].finish(rung="constant")
        await bench.turn()
        assert [each.future.result().outputs.rung for each in asked] == ["constant"] * 2
        bench.ask()
        assert len(bench.runs) == 2

    run(life)


def test_so_many_wait_at_most() -> None:
    async def life(bench: Bench) -> None:
        for _ in range(WAITING_MAX):
            bench.ask()
        with pytest.raises(Refused, match="wait for the same answer") as caught:
            bench.ask()
        assert caught.value.reason == "queue_full"

    run(life)


def test_once_closed_it_only_finishes() -> None:
    async def life(bench: Bench) -> None:
        asked = bench.ask()
        bench.answers.close()
        bench.runs[0].finish()
        await bench.turn()
        assert value(asked) == 10
        bench.ask()
        assert len(bench.runs) == 2

    run(life)


class Story:
    """Requests that come and go, and runs that end, in whatever order."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.asked: list[tuple[Inference, PendingAnswer]] = []
        self.left: list[PendingAnswer] = []
        self.refused_s: list[float] = []
        self.pressed = False
        bench.refuses = self.refuses

    def live(self) -> list[Run]:
        return [each for each in self.bench.runs if not each.future.done()]

    def refuses(self, inference: Inference) -> PenstockError | None:
        if not self.pressed and inference.deadline_s > self.bench.clock.monotonic():
            return None
        self.refused_s.append(inference.deadline_s)
        return Refused("pressed", reason="overload")

    def ask(self, number: int, criticality: int, life_s: float) -> None:
        now_s = self.bench.clock.monotonic()
        inference = Inference({"x": np.array([number % 2])}, now_s, now_s + life_s, None, criticality)
        try:
            self.asked.append((inference, self.bench.answers.infer(inference)))
        except Refused:
            assert self.pressed

    def leave(self, number: int) -> None:
        answer = self.asked[number % len(self.asked)][1] if self.asked else None
        if answer is not None and not answer.future.done():
            self.left.append(answer)
            answer.abandon()

    async def pass_s(self, seconds: float) -> None:
        await self.bench.pass_s(seconds)
        for each in self.live():
            if each.inference.deadline_s <= self.bench.clock.monotonic():
                each.future.set_exception(DeadlineExceeded("late"))

    def end(self, what: str, number: int) -> None:
        live = self.live()
        if not live:
            return
        ended = live[number % len(live)]
        match what:
            case "start":
                ended.waits = False
            case "finish":
                ended.finish()
            case "break":
                ended.future.set_exception(ModelFailed("broken"))
            case "refuse":
                self.refused_s.append(ended.inference.deadline_s)
                ended.future.set_exception(Refused("full", reason="queue_full"))

    def check(self) -> None:
        running = [each.asked for each in self.live()]
        waiting = {_asked(inference) for inference, answer in self.asked if not answer.future.done()}
        assert sorted(running) == sorted(waiting), "one run for each question that somebody waits for"
        for inference, answer in self.asked:
            late = inference.deadline_s <= self.bench.clock.monotonic()
            if not answer.future.done():
                assert not late
            elif answer.future.cancelled():
                assert answer in self.left
            elif (error := answer.future.exception()) is None:
                assert value(answer) == 10 * _asked(inference)
            elif isinstance(error, DeadlineExceeded):
                assert late
            elif isinstance(error, Refused):
                assert inference.deadline_s in self.refused_s
            else:
                assert isinstance(error, ModelFailed)


def _asked(inference: Inference) -> int:
    return int(inference.tensors["x"][0])


numbers = st.integers(0, 20)
moves = st.one_of(
    st.tuples(st.just("ask"), numbers, st.integers(1, 4), st.sampled_from([0.5, 1.0, 3.0, 8.0])),
    st.tuples(st.sampled_from(["finish", "break", "refuse", "start"]), numbers),
    st.tuples(st.just("leave"), numbers),
    st.tuples(st.just("pass"), st.sampled_from([0.3, 1.0, 4.0])),
    st.tuples(st.just("pressure"), st.booleans()),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(moves, max_size=40))
def test_everybody_gets_one_outcome_that_is_theirs(moves: list[tuple[Any, ...]]) -> None:
    """No answer is another's, nobody is left waiting past its time, nobody with time left pays for another's
    refusal, and no run goes on for nobody.
    """

    async def life(bench: Bench) -> None:
        story = Story(bench)
        for what, *terms in moves:
            match what:
                case "ask":
                    story.ask(*terms)
                case "leave":
                    story.leave(*terms)
                case "pass":
                    await story.pass_s(*terms)
                case "pressure":
                    (story.pressed,) = terms
                case _:
                    story.end(what, *terms)
            await bench.turn()
            story.check()

    run(life)
