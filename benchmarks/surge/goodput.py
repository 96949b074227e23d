"""Goodput at multiples of capacity, the server free to use every core: the promise itself."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.harness.figure import Claim, Result
from benchmarks.surge.bench import EVERY_MODEL, Bench
from benchmarks.surge.generator import Clients
from benchmarks.surge.judge import Capacity
from benchmarks.surge.models import FOREST
from benchmarks.surge.systems import running, subject
from benchmarks.surge.trial import Surge, Trial

__all__ = ["Measured", "measure", "result"]

SLOW = ("3ms", "10ms", FOREST)
UNTIMED_MODEL = "3ms"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One model: its capacity, and its surges by their multiple of it. `untimed`: without a timeout header."""

    model: str
    capacity: Capacity
    surges: dict[float, Surge]
    untimed: Surge | None


def measure(bench: Bench) -> Result:
    return result(bench, [_measure(bench, model) for model in bench.plan.models])


def result(bench: Bench, measured: Sequence[Measured]) -> Result:
    """The claims: each over the models that were measured, and for the worst of them."""
    every = [(each.model, surge) for each in measured for surge in each.surges.values()]
    return Result(
        name="goodput",
        claims=(
            Claim(name="goodput_10x", value=_least(measured, 10, SLOW), at_least=0.97),
            Claim(name="goodput_10x_1ms", value=_least(measured, 10, ("1ms",)), at_least=0.93),
            Claim(name="goodput_10x_0.3ms", value=_least(measured, 10, ("0.3ms",)), at_least=0.70),
            Claim(name="goodput_2x", value=_least(measured, 2, EVERY_MODEL), at_least=0.98),
            Claim(name="critical_plus_5x", value=_least_top(measured, 5), at_least=0.999),
            Claim(name="admitted_p99_ms", value=_most(s.phase.total.p99_ms for _, s in every), at_most=100),
            Claim(name="recovery_s", value=_most(s.recovery_s for _, s in every), at_most=1.0),
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
        surges = {}
        for times in bench.plan.times:
            surges[times] = trial.surge(capacity, times)
            bench.say(f"{model}: {times:g}× {surges[times].ratio:.3f} of capacity")
        untimed = None
        if bench.plan.untimed and model == UNTIMED_MODEL:
            untimed = trial.surge(capacity, max(bench.plan.times), clients=Clients(timeout_header_ms=None))
    return Measured(model=model, capacity=capacity, surges=surges, untimed=untimed)


def _least(measured: Sequence[Measured], times: float, models: Sequence[str]) -> float | None:
    found = [each.surges[times].ratio for each in measured if each.model in models and times in each.surges]
    return min(found, default=None)


def _least_top(measured: Sequence[Measured], times: float) -> float | None:
    shares = [each.surges[times].top_share for each in measured if times in each.surges]
    return min((share for share in shares if share is not None), default=None)


def _most(values: Iterable[float]) -> float | None:
    return max(values, default=None)


def _facts(bench: Bench, each: Measured) -> dict[str, object]:
    return {
        "cost": bench.models[each.model].facts(),
        "capacity": vars(each.capacity),
        "surges": {f"{times:g}": surge.facts() for times, surge in each.surges.items()},
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
    surges = [(f"{times:g}×", surge) for times, surge in each.surges.items()]
    if each.untimed is not None:
        surges.append((f"{each.untimed.times:g}×, no timeout sent", each.untimed))
    for what, surge in surges:
        total, back = surge.phase.total, surge.recovered_s
        lines.append(
            (
                f"{each.model}: {what}: goodput, p99 of 200s, p99 of refusals, normal after",
                ", ".join(
                    (
                        f"{surge.ratio:.3f}",
                        f"{total.p99_ms:.1f} ms",
                        f"{total.refusal_p99_ms:.1f} ms",
                        "not seen" if back is None else f"{back:.1f} s",
                    )
                ),
            )
        )
    return lines
