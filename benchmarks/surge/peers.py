"""The same surges for the peers, each at multiples of what it can itself do: what people have today."""

from dataclasses import dataclass

from benchmarks.harness.environments import EnvironmentFailed
from benchmarks.harness.figure import FigureFailed, Result
from benchmarks.harness.load import LoadFailed
from benchmarks.harness.processes import ServiceFailed
from benchmarks.serving.systems import System
from benchmarks.surge.bench import Bench
from benchmarks.surge.judge import Capacity
from benchmarks.surge.systems import peer, running
from benchmarks.surge.trial import Surge, Trial

__all__ = ["measure"]

NATIVE = ("fastapi_sklearn",)
"""Those that run the library's own model; all others run ONNX."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One peer with one model."""

    system: System
    model: str
    versions: dict[str, str]
    capacity: Capacity
    surges: dict[float, Surge]


def measure(bench: Bench) -> Result:
    """A peer that fails is said to, and does not hinder the others."""
    measured: list[Measured] = []
    remarks: list[str] = []
    for name in bench.plan.peers:
        for model in bench.plan.peer_models:
            if (name in NATIVE) is not bench.models[model].native:
                continue
            try:
                measured.append(_measure(bench, peer(name), model))
            except (FigureFailed, ServiceFailed, LoadFailed, EnvironmentFailed) as error:
                bench.say(f"FAILED: {name} with {model}: {error}")
                remarks.append(f"{name} with {model} failed: {str(error).splitlines()[0]}")
    if not measured:
        raise FigureFailed("\n".join(remarks))
    return Result(
        name="peers",
        claims=(),
        facts={f"{each.system.name} {each.model}": _facts(each) for each in measured},
        lines=[_line(each) for each in measured],
        remarks=remarks
        + [
            remark
            for each in measured
            for surge in each.surges.values()
            for remark in surge.remarks(each.system.title)
        ],
    )


def _measure(bench: Bench, system: System, model: str) -> Measured:
    if system.environment is not None and system.requirements is not None:
        bench.environments.prepare(system.environment, system.requirements)
    with running(bench, system, model, bench.wide) as server:
        trial = Trial(bench, server)
        capacity = trial.capacity()
        surges = {times: trial.surge(capacity, times) for times in bench.plan.peer_times}
    shares = ", ".join(f"{times:g}× {surge.ratio:.3f}" for times, surge in surges.items())
    bench.say(f"{system.title}, {model}: {capacity.rps:,.0f}/s; {shares}")
    versions = bench.environments.versions(system.environment, system.packages)
    return Measured(system=system, model=model, versions=versions, capacity=capacity, surges=surges)


def _facts(each: Measured) -> dict[str, object]:
    return {
        "versions": each.versions,
        "capacity": vars(each.capacity),
        "surges": {f"{times:g}": surge.facts() for times, surge in each.surges.items()},
    }


def _line(each: Measured) -> tuple[str, str]:
    times = ", ".join(f"{times:g}×" for times in each.surges)
    shares = ", ".join(f"{surge.ratio:.3f}" for surge in each.surges.values())
    return (
        f"{each.system.title}, {each.model}: capacity, goodput at {times}",
        f"{each.capacity.rps:,.0f}/s, {shares}",
    )
