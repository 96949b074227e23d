"""The whole pipeline over events in memory, of all systems in turn: sparse windows, and dense ones."""

from collections.abc import Sequence

from benchmarks.harness.environments import EnvironmentFailed
from benchmarks.harness.figure import FigureFailed, Result
from benchmarks.streams.bench import Bench
from benchmarks.streams.judge import Trial, pipeline_claims, rate
from benchmarks.streams.oracle import Oracle
from benchmarks.streams.systems import DENSE, PENSTOCK, SPARSE, SYSTEMS, System
from benchmarks.streams.trial import run_system

__all__ = ["measure_dense", "measure_sparse"]


def measure_sparse(bench: Bench) -> Result:
    return measure(bench, SPARSE)


def measure_dense(bench: Bench) -> Result:
    return measure(bench, DENSE)


def measure(bench: Bench, density: str) -> Result:
    """A system that fails is left out from then on, and said so."""
    oracle = Oracle.of(bench.events.file(density), bench.model)
    systems, remarks = ready(bench, density)
    trials: dict[str, list[Trial]] = {system.name: [] for system in systems}
    for number in range(bench.plan.rounds):
        turn = number % max(1, len(systems))
        for system in systems[turn:] + systems[:turn]:
            try:
                trial = run_system(bench, system, density, oracle)
            except FigureFailed as error:
                bench.say(f"FAILED: {system.name}: {error}")
                remarks.append(f"{system.title} failed: {str(error).splitlines()[0]}")
                systems = [other for other in systems if other is not system]
                continue
            trials[system.name].append(trial)
            bench.say(
                f"{density} {number + 1}/{bench.plan.rounds}  {system.title:44} {trial.rate:10,.0f} events/s"
            )
    return result(bench, density, trials, remarks)


def ready(bench: Bench, density: str) -> tuple[list[System], list[str]]:
    """The systems that can run, their environments made where that is wanted; and why others are left out."""
    systems, remarks = [], []
    for system in SYSTEMS:
        if not wanted(bench, system, density):
            continue
        if system.environment and system.requirements:
            there = bench.environments.python(system.environment).exists()
            if not there and not bench.make_peers:
                remarks.append(
                    f"{system.title} is left out: its environment is not made yet (--peers makes it)"
                )
                continue
            try:
                bench.environments.prepare(system.environment, system.requirements)
            except EnvironmentFailed as error:
                remarks.append(f"{system.title} is left out: {str(error).splitlines()[0]}")
                continue
        systems.append(system)
    return systems, remarks


def wanted(bench: Bench, system: System, density: str) -> bool:
    """Whether a run of this kind takes it; what is asked for by name always is."""
    if bench.only or density not in system.densities:
        return system.name in bench.only and density in system.densities
    quick = system.quick_events > 0 and (density == SPARSE or system.quick_dense)
    return quick or not bench.plan.quick


def result(bench: Bench, density: str, trials: dict[str, list[Trial]], remarks: list[str]) -> Result:
    rates = {name: rate(runs) for name, runs in trials.items()}
    titles = {system.name: system for system in SYSTEMS}
    lines = [
        (titles[name].title, f"{value:,.0f} events/s")
        for name, value in sorted(rates.items(), key=lambda item: -(item[1] or 0))
        if value is not None
    ]
    return Result(
        name=f"pipeline_{density}",
        claims=pipeline_claims(rates, ours=PENSTOCK, dense=density == DENSE),
        facts={
            "events_per_s": rates,
            "runs": {name: [run.rate for run in runs] for name, runs in trials.items()},
            "events": {name: runs[0].events for name, runs in trials.items() if runs},
            "versions": versions(bench, [titles[name] for name in trials]),
        },
        lines=lines,
        remarks=remarks,
    )


def versions(bench: Bench, systems: Sequence[System]) -> dict[str, dict[str, str]]:
    """By environment, of what any of its systems needs."""
    wanted: dict[str | None, dict[str, None]] = {}
    for system in systems:
        wanted.setdefault(system.environment, {}).update(dict.fromkeys(system.packages))
    return {name or "penstock": bench.environments.versions(name, list(of)) for name, of in wanted.items()}
