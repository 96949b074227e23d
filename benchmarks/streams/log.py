"""The embedded log: durable appends in frames and one by one, beside bare SQLite and a bare synced file."""

from benchmarks.harness.figure import Claim, Result
from benchmarks.streams.bench import Bench
from benchmarks.streams.trial import run_module

__all__ = ["measure"]

LINES = {
    "produce": "Penstock's log, frames of 500",
    "sqlite": "limit: bare SQLite, the same bytes in rows of 500 events, 32 rows a commit",
    "file": "limit: bare file, the same bytes, synced as often",
    "singles": "Penstock's log, single durable appends of 64 threads",
    "singles_in_loop": "Penstock's log, single durable appends of 64 tasks of an event loop",
    "singles_lone": "Penstock's log, single durable appends of one producer",
    "singles_sqlite_grouped": "limit: bare SQLite, 64 single rows a commit",
    "singles_sqlite_lone": "limit: bare SQLite, one row a commit",
    "singles_file_lone": "limit: bare file, synced after each event",
}


def measure(bench: Bench) -> Result:
    seen = run_module(
        bench,
        "benchmarks.streams.subjects.log_writes",
        *("--events", str(bench.events.sparse), "--folder", str(bench.folder / "log")),
        *("--count", str(bench.plan.log_events), "--repeats", str(bench.plan.repeats)),
        *("--singles", "500" if bench.plan.quick else "4000", "--seconds", "0.5" if bench.plan.quick else "2"),
        wide=True,
    )
    return Result(
        name="log",
        claims=(
            Claim(name="log_produce_events_per_s", value=seen["produce"], at_least=600_000),
            Claim(
                name="log_singles_per_s", value=max(seen["singles"], seen["singles_in_loop"]), at_least=20_000
            ),
        ),
        facts={"events_per_s": seen},
        lines=[(title, f"{seen[name]:,.0f} events/s") for name, title in LINES.items()],
        remarks=["The log compresses its frames; bare SQLite and the bare file are given the raw bytes."],
    )
