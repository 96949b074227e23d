"""Windows with a thousand to a million keys: throughput, memory, and a restart with all of them."""

from typing import Any

from benchmarks.harness.figure import Claim, Result
from benchmarks.harness.report import ratio
from benchmarks.streams.bench import Bench
from benchmarks.streams.trial import run_module

__all__ = ["measure"]

MODULE = "benchmarks.streams.subjects.keys"
MILLION = 1_000_000


def measure(bench: Bench) -> Result:
    """Each number of keys by itself, and its restart in another process."""
    seen: dict[int, dict[str, Any]] = {}
    for keys in bench.plan.keys:
        options = ("--keys", str(keys), "--folder", str(bench.folder))
        frames = ("--frames", "20" if bench.plan.quick else "100")
        measured = run_module(bench, MODULE, *options, *frames)
        measured |= run_module(bench, MODULE, *options, *frames, "--model", str(bench.model))
        restarts = [run_module(bench, MODULE, *options, "--restart") for _ in range(bench.plan.rounds)]
        snapshot = bench.folder / f"window-{keys}.snapshot"
        snapshot.unlink()
        seen[keys] = measured | {"restart_s": max(restart["restart_s"] for restart in restarts)}
        bench.say(f"{keys:,} keys: {measured['pipeline_events_per_s']:,.0f} events/s")
    rates = [each["pipeline_events_per_s"] for each in seen.values()]
    million = seen.get(MILLION, {})
    return Result(
        name="keys",
        claims=(
            Claim(name="keys_fastest_over_slowest", value=ratio(max(rates), min(rates)), at_most=2.0),
            Claim(name="restart_million_keys_s", value=million.get("restart_s"), at_most=5.0),
        ),
        facts={"keys": {str(keys): each for keys, each in seen.items()}},
        lines=[line for keys, each in seen.items() for line in lines_of(keys, each)],
        remarks=[
            "Frames of 10,000 events; the claim is of the whole pipeline.",
            "A restart is a new process, imports and all, that reads a snapshot; the slowest counts.",
        ],
    )


def lines_of(keys: int, seen: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (f"{keys:,} keys: the whole pipeline", f"{seen['pipeline_events_per_s']:,.0f} events/s"),
        (f"{keys:,} keys: the window alone", f"{seen['events_per_s']:,.0f} events/s"),
        (f"{keys:,} keys: slowest frame of 10,000", f"{seen['slowest_frame_ms']:,.0f} ms"),
        (f"{keys:,} keys: memory a tile", f"{seen['arena_bytes_per_tile']:,.0f} bytes"),
        (f"{keys:,} keys: resident memory a key", f"{seen['resident_bytes_per_key']:,.0f} bytes"),
        (f"{keys:,} keys: snapshot a key", f"{seen['snapshot_bytes_per_key']:,.0f} bytes"),
        (f"{keys:,} keys: restart", f"{seen['restart_s']:.2f} s"),
    ]
