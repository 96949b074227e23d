"""From the log and back into it, exactly once: throughput, and the time from producing to reading a result."""

from benchmarks.harness.figure import Claim, FigureFailed, Result
from benchmarks.harness.report import median
from benchmarks.streams.bench import Bench
from benchmarks.streams.judge import agrees
from benchmarks.streams.oracle import Oracle
from benchmarks.streams.systems import DENSE, SPARSE
from benchmarks.streams.trial import run_module

__all__ = ["measure_latency", "measure_throughput"]

RATE = 10_000


def measure_throughput(bench: Bench) -> Result:
    """Sparse events on one core, which is claimed; dense ones, and sparse ones on two cores, beside that."""
    count = 100_000 if bench.plan.quick else 200_000
    names = ["sparse"] if bench.plan.quick else ["sparse", "dense", "sparse_wide"]
    runs: dict[str, list[float]] = {name: [] for name in names}
    densities = [density for density in (SPARSE, DENSE) if density in names]
    oracles = {density: Oracle.of(bench.events.file(density), bench.model) for density in densities}
    for _ in range(bench.plan.rounds):
        for name, rates in runs.items():
            density, _, wide = name.partition("_")
            seen = run_module(
                bench,
                "benchmarks.streams.subjects.log_pipeline",
                *("--events", str(bench.events.file(density)), "--model", str(bench.model)),
                *("--count", str(count), "--folder", str(bench.folder / "log_pipeline")),
                wide=bool(wide),
            )
            if not agrees(seen["checksum"], wanted := oracles[density].checksum(count)):
                raise FigureFailed(f"{name} gave other results: {seen['checksum']}, not {wanted}")
            rates.append(seen["events"] / seen["seconds"])
    rates_seen = {name: median(rates) for name, rates in runs.items()}
    titles = {"sparse": "one core", "dense": "one core, dense windows", "sparse_wide": "all cores"}
    return Result(
        name="from_log",
        claims=(Claim(name="from_log_events_per_s", value=rates_seen["sparse"], at_least=300_000),),
        facts={"events_per_s": rates_seen, "runs": runs, "events": count},
        lines=[
            (f"from the log and into it, {titles[name]}", f"{rate:,.0f} events/s")
            for name, rate in rates_seen.items()
        ],
        remarks=[
            "Every run begins with an empty group: joining it and the first micro-batches are in the time."
        ],
    )


def measure_latency(bench: Bench) -> Result:
    seen = run_module(
        bench,
        "benchmarks.streams.subjects.latency",
        *("--events", str(bench.events.sparse), "--model", str(bench.model), "--rate", str(RATE)),
        *("--seconds", str(bench.plan.latency_s), "--folder", str(bench.folder / "latency")),
        wide=True,
    )
    return Result(
        name="latency",
        claims=(Claim(name="produce_to_result_p99_ms", value=seen["p99_ms"], at_most=50.0),),
        facts=seen,
        lines=[
            (f"{name.removesuffix('_ms')} from produce to result, {RATE:,} events/s", f"{seen[name]:.1f} ms")
            for name in ("p50_ms", "p99_ms", "p99.9_ms", "max_ms")
        ],
        remarks=[
            "Each event is an append of its own, timed from when it was due; the first quarter is not counted.",
            "The worker has a core to itself, the producer and the reader share the other.",
        ],
    )
