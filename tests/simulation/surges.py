"""Surges in virtual time: the very objects that a server runs, a model of known cost, and callers by the rate.

The model takes `per_row_s` for each row and `fixed_s` a run, and some runs take longer. Callers come as a
Poisson process; each counts as good when it is answered by its due time. Refusing costs nothing here.
"""

import heapq
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from penstock.serving.admission.admission import Admission
from penstock.serving.admission.lag import LoopLag
from penstock.serving.admission.shedder import TICK_S
from penstock.serving.batching.batcher import Batcher, BatchingConfig

__all__ = ["Caller", "Model", "Outcome", "Phase", "simulate"]


@dataclass(eq=False, slots=True)
class Caller:
    """A request in virtual time. `ended`: how it went, set once."""

    arrived_s: float
    due_s: float
    deadline_s: float
    criticality: int
    name: bytes
    rows: int = 1
    size_bytes: int = 100
    shape_key: tuple[tuple[int, ...], ...] = ()
    queued: bool = False
    abandoned: bool = False
    attempt: int = 0
    ended: str = ""
    part_of: "Caller | None" = None
    waiting_since_s: float = 0.0

    def __post_init__(self) -> None:
        self.waiting_since_s = max(self.waiting_since_s, self.arrived_s)

    def split(self, rows: int) -> "Caller":
        part = replace(self, rows=rows, size_bytes=0, queued=False, part_of=self)
        self.rows -= rows
        return part


@dataclass(frozen=True, kw_only=True)
class Model:
    """`spread` is the mean of an exponential that a run takes on top, as a share of its time; `turnaround_s`
    lies between two runs, `delivery_s` between a run's end and its answers.
    """

    per_row_s: float
    fixed_s: float = 0.0
    spread: float = 0.05
    turnaround_s: float = 0.0001
    delivery_s: float = 0.0

    @property
    def rows_per_s(self) -> float:
        """What it can do with large batches, told nothing of what lies between two."""
        return 1 / (self.per_row_s * (1 + self.spread) + self.fixed_s * (1 + self.spread) / 64)

    def rows_per_s_within(self, run_s: float) -> float:
        """What it can do where runs take so long, and the turnaround comes between any two."""
        rows = (run_s / (1 + self.spread) - self.fixed_s) / self.per_row_s
        return rows / (run_s + self.turnaround_s)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Requests a second for some seconds, spread over criticalities by weight.

    `rows` has how many rows a request of a criticality brings, 1 unless it is named; `deadlines_s` the times
    that callers give, each as often as the others, in place of the patience of all.
    """

    seconds: float
    rate: float
    classes: dict[int, float] = field(default_factory=lambda: {2: 1.0})
    rows: dict[int, int] = field(default_factory=dict)
    deadlines_s: tuple[float, ...] = ()


@dataclass
class Outcome:
    """`good` by criticality and `offered` likewise."""

    offered: Counter[int] = field(default_factory=Counter)
    good: Counter[int] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    offered_at_s: list[float] = field(default_factory=list)
    good_at_s: list[float] = field(default_factory=list)
    """When those that were good had come."""
    latencies_s: list[float] = field(default_factory=list)
    busy_s: float = 0.0
    waiting_max: int = 0

    def share_good(self, from_s: float, to_s: float) -> float:
        """Of the requests that came between two times."""
        good = sum(from_s <= at_s < to_s for at_s in self.good_at_s)
        return good / sum(from_s <= at_s < to_s for at_s in self.offered_at_s)


class _World:
    def __init__(self, model: Model, objective_s: float, seed: int, *, patience_s: float, retries: int) -> None:
        self.random = random.Random(seed)
        self.model = model
        self.objective_s = objective_s
        self.patience_s = patience_s
        self.retries = retries
        self.now_s = 0.0
        config = BatchingConfig(
            objective_s=objective_s, rows_max=1024, queue_rows_max=65_536, queue_bytes_max=1 << 28
        )
        self.batcher: Batcher[Caller] = Batcher(config, rows_max=1024)
        for rows in (1, 20):  # as a version's golden rows are timed when it is loaded
            self.batcher.ran(rows, model.fixed_s + rows * model.per_row_s)
        self.lag = LoopLag()
        self.admission = Admission(self.batcher, self.lag, objective_s=objective_s)
        self.outcome = Outcome()
        self.events: list[tuple[float, int, object]] = []
        self.numbered = 0
        self.asleep = True

    def at(self, at_s: float, event: object) -> None:
        self.numbered += 1
        heapq.heappush(self.events, (at_s, self.numbered, event))

    def arrive(self, caller: Caller) -> None:
        self.outcome.offered[caller.criticality] += 1
        self.outcome.offered_at_s.append(self.now_s)
        named_s = caller.due_s if caller.due_s >= caller.deadline_s else None
        reason = self.admission.refusal(
            self.now_s, named_s, caller.criticality, caller.name, caller.attempt > 0
        )
        beyond_s = self.batcher.beyond_s(caller.rows)
        if reason is None and beyond_s:
            caller.due_s = min(caller.due_s + beyond_s, caller.deadline_s)
            reason = self.admission.refusal_of_rows(self.now_s, caller.due_s, caller.criticality, beyond_s)
        if reason is None and self.batcher.offer(caller):
            self.outcome.waiting_max = max(self.outcome.waiting_max, self.batcher.queue.rows)
            if self.asleep:
                self.run()
        else:
            self.end(caller, reason.value if reason is not None else "queue_full")

    def run(self) -> None:
        turn = self.batcher.turn(self.now_s)
        for caller in turn.expired:
            self.end(caller, "expired")
        if turn.wait_s > 0:
            self.asleep = False
            self.at(self.now_s + turn.wait_s, "turn")
        elif turn.batch:
            self.asleep = False
            self.admission.shedder.dequeued(turn.sojourn_s)
            rows = sum(caller.rows for caller in turn.batch)
            run_s = self.model.fixed_s + self.model.per_row_s * rows
            run_s *= 1 + self.random.expovariate(1 / self.model.spread)
            self.outcome.busy_s += run_s
            self.at(self.now_s + run_s + self.model.turnaround_s, (turn.batch, rows, run_s))
        else:
            self.asleep = True

    def end(self, caller: Caller, how: str) -> None:
        assert not caller.ended, f"it ended twice: {caller.ended}, {how}"
        caller.ended = how
        self.outcome.ends[how] += 1
        if how != "good" and caller.attempt < self.retries:
            again = Caller(
                self.now_s,
                self.now_s + self.objective_s,
                self.now_s + self.patience_s,
                caller.criticality,
                caller.name,
                attempt=caller.attempt + 1,
            )
            self.at(self.now_s + 0.001, again)

    def handle(self, event: object) -> None:
        match event:
            case Caller():
                self.arrive(event)
            case "tick":
                self.admission.tick(self.now_s)
                self.at(self.now_s + TICK_S, "tick")
            case "turn":
                self.run()
            case (batch, rows, run_s):
                self.batcher.ran(rows, run_s)
                self.batcher.delivered(self.model.delivery_s)
                answered_s = self.now_s + self.model.delivery_s
                for caller in batch:
                    if caller.part_of is not None:
                        caller.part_of.waiting_since_s = self.now_s
                        continue
                    good = answered_s <= caller.due_s
                    if good:
                        self.outcome.good[caller.criticality] += 1
                        self.outcome.good_at_s.append(caller.arrived_s)
                    self.outcome.latencies_s.append(answered_s - caller.arrived_s)
                    self.end(caller, "good" if good else "late")
                self.run()
                if self.batcher.running:
                    self.batcher.followed(self.model.turnaround_s)


def simulate(
    model: Model,
    phases: Sequence[Phase],
    *,
    seed: int,
    objective_s: float = 0.1,
    patience_s: float = 0.1,
    retries: int = 0,
    callers: int = 1000,
) -> Outcome:
    """Runs the phases one after the other. `patience_s` is the callers' deadline; who fails comes again at
    once, `retries` times.
    """
    world = _World(model, objective_s, seed, patience_s=patience_s, retries=retries)
    world.at(TICK_S, "tick")
    begun_s = 0.0
    names = [b"caller %d" % number for number in range(callers)]
    for phase in phases:
        at_s = begun_s
        while phase.rate and (at_s := at_s + world.random.expovariate(phase.rate)) < begun_s + phase.seconds:
            (criticality,) = world.random.choices(list(phase.classes), list(phase.classes.values()))
            given_s = world.random.choice(phase.deadlines_s) if phase.deadlines_s else None
            due_s = at_s + (objective_s if given_s is None else given_s)
            deadline_s = at_s + patience_s if given_s is None else due_s
            name, rows = world.random.choice(names), phase.rows.get(criticality, 1)
            world.at(at_s, Caller(at_s, due_s, deadline_s, criticality, name, rows))
        begun_s += phase.seconds
    while world.events:
        at_s, _, event = heapq.heappop(world.events)
        if event == "tick" and at_s > begun_s + 2.0 and len(world.events) == 0:
            break
        world.now_s = at_s
        world.handle(event)
    offered = sum(world.outcome.offered.values())
    assert sum(world.outcome.ends.values()) == offered, "every request ends exactly once"
    assert (len(world.batcher.queue), world.batcher.queue.rows, world.batcher.running) == (0, 0, [])
    return world.outcome
