"""From producing an event to reading the features that it makes, at a steady rate of single events."""

from benchmarks.features.bench import Bench
from benchmarks.harness.figure import Claim, Result
from benchmarks.streams.trial import run_module

__all__ = ["measure"]

RATE = 10_000


def measure(bench: Bench) -> Result:
    seen = run_module(
        bench,
        "benchmarks.features.subjects.fresh",
        *("--folder", str(bench.folder / "fresh"), "--rate", str(RATE), "--seconds", str(bench.plan.fresh_s)),
        wide=True,
    )
    return Result(
        name="freshness",
        claims=(Claim(name="event_to_feature_p99_ms", value=seen["p99_ms"], at_most=100.0),),
        facts=seen,
        lines=[
            (f"{name.removesuffix('_ms')} from event to feature, {RATE:,} events/s", f"{seen[name]:.1f} ms")
            for name in ("p50_ms", "p99_ms", "max_ms")
        ],
        remarks=[
            "Each event is an append of its own, timed from when it was due; the first quarter is not counted.",
            "The stream's worker has a core to itself, producer and reader share the other.",
        ],
    )
