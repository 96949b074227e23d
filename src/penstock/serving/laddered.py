"""Brings a model's ladder to the event loop: asks the model, and rung after rung where it does not answer."""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from penstock.core.clock import Clock
from penstock.core.errors import DeadlineExceeded, ModelFailed, Refused
from penstock.core.tensors import Tensors
from penstock.observe.metrics import Counter, MetricSet
from penstock.serving.batching.outputs import BatchRows
from penstock.serving.fallback.brown_out import BrownOut
from penstock.serving.fallback.ladder import falls, slice_s
from penstock.serving.fallback.rungs import MODEL, Rung
from penstock.serving.fallback.stale import StaleAnswers
from penstock.serving.inference import Inference
from penstock.serving.statistics import LadderCounts, RungCounts
from penstock.serving.steps import AskedModel, Step, Waiting, step_of

__all__ = ["Ladder", "LadderAnswer", "LadderObserver", "LadderPorts"]


class LadderObserver(Protocol):
    """Told what became of callers whom the model itself, which counts what it does, did not answer."""

    def stood_in(self, rows: int, seconds: float, failed_s: float | None) -> None:
        """A rung answered, `seconds` after the request came. The model had counted it as failed after
        `failed_s`, or (None) not at all.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class LadderPorts:
    """Where rungs find what they ask: what answers for a model of the app now, and answers given before; and
    who is told of what they answered.
    """

    find: Callable[[str], AskedModel | None]
    stale: StaleAnswers | None = None
    told: LadderObserver | None = None


class _Counted:
    """A step, and what is counted of it."""

    __slots__ = (
        "answered",
        "answered_total",
        "computes",
        "longest_s",
        "name",
        "passed",
        "passed_total",
        "step",
    )

    def __init__(self, step: Step | None, model: str, metrics: MetricSet) -> None:
        self.step: Final = step
        self.name = MODEL if step is None else step.name
        self.computes = step is None or step.computes
        self.longest_s = math.inf if step is None else step.longest_s
        labels = {"model": model, "rung": self.name}
        self.answered = self.passed = 0
        self.answered_total: Counter = metrics.counter(
            "penstock_rungs_total", "Answers of a model with a ladder, by rung.", **labels
        )
        self.passed_total: Counter = metrics.counter(
            "penstock_rungs_passed_total", "How often a rung was asked and did not answer.", **labels
        )

    def has_answered(self) -> None:
        self.answered += 1
        self.answered_total.value += 1

    def has_passed(self) -> None:
        self.passed += 1
        self.passed_total.value += 1


class Ladder:
    """The ladder of one version. In the event loop alone.

    `asked` is the version itself. What it refuses, breaks on or does not answer in time goes to the next rung,
    and so on; where none answers, the caller gets the version's own error.
    """

    def __init__(
        self,
        asked: AskedModel,
        rungs: Sequence[Rung],
        ports: LadderPorts,
        metrics: MetricSet,
        clock: Clock,
        objective_s: float,
    ) -> None:
        self.asked = asked
        self.objective_s = objective_s
        self.monotonic = clock.monotonic
        self.told = ports.told
        self.brown_out = BrownOut()
        self._steps = tuple(step_of(rung, asked, ports.find, ports.stale) for rung in rungs)
        model = _Counted(None, asked.model, metrics)
        below = [_Counted(step, asked.model, metrics) for step in self._steps]
        self.downwards = (model, *below)
        self.cheap_first = (*below, model)
        self._exhausted = 0
        self._exhausted_total = metrics.counter(
            "penstock_ladders_exhausted_total", "Requests that no rung answered.", model=asked.model
        )

    def infer(self, inference: Inference) -> "LadderAnswer":
        """What will hold the outputs, whichever rung gives them. Raises what the version itself raises, where
        no rung takes the request on.
        """
        answer = LadderAnswer(self, inference)
        error = answer.descend()
        if error is not None:
            raise error
        return answer

    def check(self) -> None:
        """Raises `ConfigurationError` where a rung cannot stand in for the model as things are."""
        for step in self._steps:
            step.check()

    def exhausted(self) -> None:
        """A request that no rung answered."""
        self._exhausted += 1
        self._exhausted_total.value += 1

    def statistics(self) -> LadderCounts:
        """Of this ladder alone; metrics are of the model's in all its versions."""
        return LadderCounts(
            rungs={
                each.name: RungCounts(answered=each.answered, passed=each.passed) for each in self.downwards
            },
            exhausted=self._exhausted,
            browned_out=int(self.brown_out.active),
        )

    def close(self) -> None:
        """Ends the threads that it has; one that is stuck is left to die with the process."""
        for step in self._steps:
            step.close()


class LadderAnswer:
    """A caller's hold on a request that is on its way down a ladder."""

    __slots__ = (
        "_conformed",
        "_failed_s",
        "_first",
        "_inference",
        "_ladder",
        "_left",
        "_now",
        "_own",
        "_stood",
        "_timer",
        "_until_s",
        "_waiting",
        "future",
    )

    def __init__(self, ladder: Ladder, inference: Inference) -> None:
        self.future: asyncio.Future[BatchRows] = asyncio.get_running_loop().create_future()
        self._ladder = ladder
        self._inference = inference
        browned = ladder.brown_out.wants(inference.criticality)
        self._left = list(reversed(ladder.cheap_first if browned else ladder.downwards))
        self._now: _Counted | None = None
        self._conformed: Tensors | None = None
        self._first: BaseException | None = None
        self._own: Waiting | None = None
        """The model's own answer, while it is still to come; perhaps nobody waits for it any more."""
        self._failed_s: float | None = None
        """How long it took the model to fail."""
        self._stood: tuple[int, float] | None = None
        """The rows that another rung gave, and when, to be counted once it is known how the model ended."""
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: Waiting | None = None
        self._until_s = self._due_s(ladder.monotonic())

    def abandon(self) -> None:
        """Nobody waits for it any more: no further rung is asked."""
        self.future.cancel()
        self._leave(abandon=True)

    def descend(self) -> BaseException | None:
        """Asks rung after rung until one takes the request on; the error where none does.

        Raises `InvalidInput` for inputs that do not fit the model.
        """
        while self._left:
            counted = self._now = self._left.pop()
            now_s = self._ladder.monotonic()
            if counted.step is not None and counted.computes and now_s >= self._inference.deadline_s:
                continue  # what takes no time may still come in time; this could not
            if now_s >= self._until_s:
                self._until_s = self._due_s(now_s)
            longest_s = slice_s(self._until_s - now_s, [each.computes for each in self._left])
            until_s = now_s + min(longest_s, counted.longest_s)
            if counted.step is not None and self._conformed is None:
                # What does not fit the model is no rung's concern.
                self._conformed = self._ladder.asked.signature.conform(self._inference.tensors)
            try:
                asked = self._ask(counted, until_s)
            except Exception as error:
                if counted.step is None:
                    self._failed_s = 0.0
                    if not falls(error):
                        return error
                self._pass(counted, error)
                continue
            if isinstance(asked, BatchRows):
                self._answer(counted, asked)
                return None
            if counted.step is None:
                self._own = asked
            self._wait(asked, until_s - now_s)
            return None
        self._ladder.exhausted()
        return self._first or DeadlineExceeded("the model did not answer in time")

    def _due_s(self, now_s: float) -> float:
        """By when the answer should be there: late is the caller's deadline or, where it named none, what is
        promised for all.
        """
        inference = self._inference
        if inference.due_s is None or inference.due_s >= inference.deadline_s:
            return inference.deadline_s
        # What is promised is meant for what fits a batch.
        rows = max((len(array) for array in inference.tensors.values() if array.ndim), default=0)
        promised_s = self._ladder.objective_s + self._ladder.asked.beyond_s(rows)
        return min(inference.deadline_s, now_s + promised_s)

    def _ask(self, counted: _Counted, until_s: float) -> BatchRows | Waiting:
        ladder, inference = self._ladder, self._inference
        if counted.step is None:
            answer = ladder.asked.ask(inference._replace(deadline_s=until_s, due_s=None))
            return Waiting(answer.future, answer.abandon)
        assert self._conformed is not None, "inputs are conformed before a rung is asked"
        return counted.step.ask(inference._replace(tensors=self._conformed), until_s)

    def _wait(self, waiting: Waiting, seconds: float) -> None:
        self._waiting = waiting
        self._timer = self.future.get_loop().call_later(max(0.0, seconds), self._late)
        waiting.future.add_done_callback(partial(self._done, waiting))

    def _done(self, waiting: Waiting, answered: "asyncio.Future[BatchRows]") -> None:
        """What was waited for has ended; perhaps nobody waits for it any more."""
        error = None if answered.cancelled() else answered.exception()
        if waiting is self._own:
            self._own_ended(error, given_up=answered.cancelled())
        counted = self._now
        if waiting is not self._waiting or counted is None:
            return
        self._leave(abandon=False)
        if answered.cancelled():
            error = ModelFailed("the rung gave up")
        if error is None:
            self._answer(counted, answered.result())
        elif counted.step is None and not falls(error):
            self._fail(error)
        else:
            self._go_on(counted, error)

    def _late(self) -> None:
        """The rung's time is over. A model's own queue drops the request by itself, and counts it: that the
        model was too slow must not look as if its caller had hung up.
        """
        counted = self._now
        assert counted is not None, "a timer belongs to a rung"
        self._leave(abandon=counted.step is not None and not counted.step.expires)
        self._go_on(counted, DeadlineExceeded("the model did not answer in time"))

    def _go_on(self, counted: _Counted, error: BaseException) -> None:
        self._pass(counted, error)
        try:
            failure = self.descend()
        except Exception as raised:
            failure = raised
        if failure is not None:
            self._fail(failure)

    def _pass(self, counted: _Counted, error: BaseException) -> None:
        counted.has_passed()
        # The frames of its traceback hold this request, in a circle with it.
        error.__traceback__ = error.__context__ = None
        # What a rung lacks is not what the caller asked for: a miss of the cache is no 404 of the model.
        if counted.step is None or (self._first is None and isinstance(error, Refused | DeadlineExceeded)):
            self._first = error

    def _answer(self, counted: _Counted, rows: BatchRows) -> None:
        counted.has_answered()
        if self.future.done():
            return
        self.future.set_result(rows)
        if counted.step is not None:
            self._stood = (rows.stop - rows.start, self._ladder.monotonic() - self._inference.arrived_s)
            if self._own is None:
                self._tell()

    def _own_ended(self, error: BaseException | None, *, given_up: bool) -> None:
        self._own = None
        if error is not None:
            self._failed_s = self._ladder.monotonic() - self._inference.arrived_s
        elif not given_up:
            self._stood = None  # it was too late for its caller, but counted as an answer
        self._tell()

    def _tell(self) -> None:
        told = self._ladder.told
        if self._stood is not None and told is not None:
            told.stood_in(*self._stood, self._failed_s)

    def _fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def _leave(self, *, abandon: bool) -> None:
        waiting, self._waiting = self._waiting, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if waiting is not None and abandon:
            waiting.abandon()
