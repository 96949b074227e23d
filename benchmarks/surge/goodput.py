"""Goodput at multiples of capacity, the server free to use every core: the promise itself."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.harness.figure import Claim, Result
from benchmarks.harness.report import median
from benchmarks.surge.bench import EVERY_MODEL, Bench
from benchmarks.surge.generator import Clients
from benchmarks.surge.judge import Capacity
from benchmarks.surge.models import FOREST
from benchmarks.surge.systems import running, subject
from benchmarks.surge.trial import TOP_CLASS, Surge, Trial

__all__ = ["Measured", "measure", "result"]

SLOW = ("3ms", "10ms", FOREST)
UNTIMED_MODEL = "3ms"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One model: its capacity, and its surges by their multiple of it, each several times. `untimed`: without a
    timeout header.
    """

    model: str
    capacity: Capacity
    surges: dict[float, list[Surge]]
    untimed: Surge | None


def measure(bench: Bench) -> Result:
    return result(bench, [_measure(bench, model) for model in bench.plan.models])


def result(bench: Bench, measured: Sequence[Measured]) -> Result:
    """The claims: each over the models that were measured, and for the worst of them; of what was repeated, the
    median, but the most that memory ever grew.
    """
    several = [surges for each in measured for surges in each.surges.values()]
    every = [(each.model, surge) for each in measured for surges in each.surges.values() for surge in surges]
    return Result(
        name="goodput",
        claims=(
            Claim(name="goodput_10x", value=_least(measured, 10, SLOW), at_least=0.97),
            Claim(name="goodput_10x_1ms", value=_least(measured, 10, ("1ms",)), at_least=0.93),
            Claim(name="goodput_10x_0.3ms", value=_least(measured, 10, ("0.3ms",)), at_least=0.70),
            Claim(name="goodput_2x", value=_least(measured, 2, EVERY_MODEL), at_least=0.98),
            Claim(name="critical_plus_5x", value=_least_top(measured, 5), at_least=0.999),
            Claim(name="admitted_p99_ms", value=_most(_middle(s, _p99_ms) for s in several), at_most=100),
            Claim(name="recovery_s", value=_most(_middle(s, _recovery_s) for s in several), at_most=1.0),
            Claim(name="growth_mb", value=_most(s.growth_mb for _, s in every), at_most=20),
        ),
        facts={each.model: _facts(bench, each) for each in measured},
        lines=[line for each in measured for line in _lines(each)],
        remarks=[remark for model, surge in every for remark in surge.remarks(model)],
    )


def _measure(bench: Bench, model: str) -> Measured:
    with running(bench, subject(bench, model), model, bench.wide) as server:
        trial = Trial(bench, server)
        capacity = bench.capacities[model] = trial.capacity()
        bench.say(f"{model}: capacity {capacity.rps:,.0f}/s with {capacity.in_flight} in flight")
        surges: dict[float, list[Surge]] = {times: [] for times in bench.plan.times}
        for _ in range(bench.plan.repeats):
            for times, taken in surges.items():
                taken.append(trial.surge(capacity, times))
                bench.say(f"{model}: {times:g}× {taken[-1].ratio:.3f} of {taken[-1].capacity_rps:,.0f}/s")
        untimed = None
        if bench.plan.untimed and model == UNTIMED_MODEL:
            untimed = trial.surge(capacity, max(bench.plan.times), clients=Clients(timeout_header_ms=None))
    return Measured(model=model, capacity=capacity, surges=surges, untimed=untimed)


def _least(measured: Sequence[Measured], times: float, models: Sequence[str]) -> float | None:
    chosen = [each.surges[times] for each in measured if each.model in models and times in each.surges]
    return min((_middle(surges, _ratio) for surges in chosen), default=None)


def _least_top(measured: Sequence[Measured], times: float) -> float | None:
    """Of all that it asked, over the repeats."""
    shares = [_top_share(each.surges[times]) for each in measured if times in each.surges]
    return min((share for share in shares if share is not None), default=None)


def _top_share(surges: Sequence[Surge]) -> float | None:
    asked = [surge.phase.of(TOP_CLASS) for surge in surges]
    attempts = sum(each.attempts for each in asked)
    return sum(each.good for each in asked) / attempts if attempts else None


def _middle(surges: Sequence[Surge], figure: Callable[[Surge], float]) -> float:
    return median(figure(surge) for surge in surges)


def _ratio(surge: Surge) -> float:
    return surge.ratio


def _p99_ms(surge: Surge) -> float:
    return surge.phase.total.p99_ms


def _recovery_s(surge: Surge) -> float:
    return surge.recovery_s


def _most(values: Iterable[float]) -> float | None:
    return max(values, default=None)


def _facts(bench: Bench, each: Measured) -> dict[str, object]:
    return {
        "cost": bench.models[each.model].facts(),
        "capacity": vars(each.capacity),
        "surges": {f"{times:g}": [s.facts() for s in surges] for times, surges in each.surges.items()},
        "untimed": None if each.untimed is None else each.untimed.facts(),
    }


def _lines(each: Measured) -> list[tuple[str, str]]:
    capacity = each.capacity
    lines = [
        (
            f"{each.model}: capacity, its p99, processor time of an answer",
            f"{capacity.rps:,.0f}/s, {capacity.p99_ms:.1f} ms, {capacity.answer_us:,.0f} µs",
        )
    ]
    several = [(f"{times:g}×", surges) for times, surges in each.surges.items()]
    if each.untimed is not None:
        several.append((f"{each.untimed.times:g}×, no timeout sent", [each.untimed]))
    for what, surges in several:
        top = _top_share(surges)
        lines.append(
            (
                f"{each.model}: {what}: goodput (each), p99 of 200s, {TOP_CLASS}, normal after",
                ", ".join(
                    (
                        f"{_middle(surges, _ratio):.3f} ({' '.join(f'{s.ratio:.2f}' for s in surges)})",
                        f"{_middle(surges, _p99_ms):.1f} ms",
                        "none" if top is None else f"{top:.4f}",
                        f"{_middle(surges, _recovery_s):.1f} s",
                    )
                ),
            )
        )
    return lines
