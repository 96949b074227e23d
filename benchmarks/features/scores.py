"""Scores in the stream, with features, from the log and into it, exactly once."""

from statistics import median

from benchmarks.features.bench import Bench
from benchmarks.harness.command import FOLDER
from benchmarks.harness.figure import Claim, FigureFailed, Result
from benchmarks.streams.events import ensure_events
from benchmarks.streams.judge import agrees
from benchmarks.streams.model import ensure_model
from benchmarks.streams.oracle import Oracle
from benchmarks.streams.trial import run_module

__all__ = ["measure"]

MODULES = {
    "scored": "benchmarks.features.subjects.scored",
    "mapped": "benchmarks.streams.subjects.log_pipeline",
}
"""By the app's model as requests are, with a view that requests can read; and by a function over frames."""
EVENTS, QUICK_EVENTS = 200_000, 100_000


def measure(bench: Bench) -> Result:
    """On one core, in turn; every result is held against an oracle."""
    events = ensure_events(FOLDER / "streams")
    model = ensure_model(FOLDER / "streams", events)
    count = QUICK_EVENTS if bench.plan.quick else EVENTS
    wanted = Oracle.of(events.sparse, model).checksum(count)
    runs: dict[str, list[float]] = {name: [] for name in MODULES}
    for _ in range(bench.plan.repeats):
        for name, module in MODULES.items():
            options = ("--events", str(events.sparse), "--model", str(model), "--count", str(count))
            seen = run_module(bench, module, *options, "--folder", str(bench.folder / "scores"))
            if not agrees(seen["checksum"], wanted):
                raise FigureFailed(f"{name} gave other results: {seen['checksum']}, not {wanted}")
            runs[name].append(seen["events"] / seen["seconds"])
            bench.say(f"{name}: {runs[name][-1]:,.0f} events/s")
    rates = {name: median(each) for name, each in runs.items()}
    return Result(
        name="scores",
        claims=(Claim(name="scored_events_per_s", value=rates["scored"], at_least=300_000),),
        facts={"events_per_s": rates, "runs": runs, "events": count},
        lines=[
            ("scored by the app's model, its features kept for requests", f"{rates['scored']:,.0f} events/s"),
            (
                "the same by a function over frames, its window in the stream alone",
                f"{rates['mapped']:,.0f} events/s",
            ),
        ],
        remarks=["One core; joining the group and the first micro-batches are in the time."],
    )
