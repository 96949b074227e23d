"""A year's history of three views made of its flights, and labels joined with it as of their times."""

from statistics import median
from typing import Any

from benchmarks.features.bench import Bench
from benchmarks.harness.figure import Claim, FigureFailed, Result
from benchmarks.harness.report import ratio
from benchmarks.streams.trial import run_module

__all__ = ["measure"]

MODULE = "benchmarks.features.subjects.history_of_year"


def measure(bench: Bench) -> Result:
    """In a process of its own, on one core; every value of the join is held against Polars."""
    plan = bench.plan
    options = ("--flights", str(plan.flights), "--repeats", str(plan.repeats), "--folder", str(bench.folder))
    seen: dict[str, Any] = run_module(bench, MODULE, *options)
    if seen["different"]:
        raise FigureFailed(
            f"{seen['different']} of {seen['labels']} labels were given other features than by Polars"
        )
    rates = {name: seen["flights"] / median(times) for name, times in seen["backfill_s"].items()}
    window = seen["flights"] / median(seen["window_s"])
    joined_s, polars_s = median(seen["join_s"]), median(seen["polars_s"])
    for name, rate in rates.items():
        bench.say(f"backfill of {name}: {rate:,.0f} events/s")
    return Result(
        name="history",
        claims=(
            Claim(name="backfill_events_per_s", value=min(rates.values()), at_least=500_000),
            Claim(name="join_year_three_views_s", value=None if plan.quick else joined_s, at_most=5.0),
            Claim(name="join_polars_over_ours", value=ratio(polars_s, joined_s), at_least=1.0),
        ),
        facts=seen,
        lines=[
            *(
                (f"backfill of {name}, written as Parquet", f"{rate:,.0f} events/s")
                for name, rate in rates.items()
            ),
            ("the window alone, as of each event", f"{window:,.0f} events/s"),
            (f"{seen['rows']:,} rows of history, {seen['labels']:,} labels joined", f"{joined_s:.2f} s"),
            ("the same by Polars over the events themselves", f"{polars_s:.2f} s"),
        ],
        remarks=["The slowest view counts. A join reads the history from disk.", "One core, one thread."],
    )
