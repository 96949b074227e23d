"""Features read by key from the online store, many at once and one by one, and by Feast from its own."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.features.bench import Bench
from benchmarks.harness.figure import Claim, Result
from benchmarks.harness.report import median, ratio
from benchmarks.streams.trial import run_module

__all__ = ["measure"]

PEER = "feast"
REQUIREMENTS = Path(__file__).parent / "peers" / "requirements-feast.txt"
BATCHES = (32, 256, 1024)
CLAIMED = "1024"


def measure(bench: Bench) -> Result:
    """Both have the same keys, of three numbers each, and run in turns; all values that are read are checked
    against what was written.
    """
    has_peer = _has_peer(bench)
    turns, peer_turns = [], []
    for _ in range(bench.plan.repeats):
        turns.append(_run(bench, "benchmarks.features.subjects.online_read", None))
        if has_peer:
            peer_turns.append(_run(bench, "benchmarks.features.peers.feast_read", PEER))
    ours, theirs = _median(turns), _median(peer_turns) if peer_turns else None
    ratios = _median([_ratios(our, their) for our, their in zip(turns, peer_turns, strict=False)])
    stored = _median([_ratios(our["stored"], their) for our, their in zip(turns, peer_turns, strict=False)])
    return Result(
        name="online",
        claims=(
            Claim(name="online_keys_per_s", value=ours["keys_per_s"][CLAIMED], at_least=200_000),
            Claim(name="one_key_us", value=ours["one_key_us"], at_most=50.0),
            Claim(name="over_feast", value=_batched(ratios), at_least=20.0),
        ),
        facts={
            "penstock": ours,
            "feast": theirs,
            "over_feast": ratios,
            "stored_over_feast": stored,
            "versions": bench.environments.versions(PEER, ["feast", "pandas"]),
        },
        lines=[
            *_lines("Penstock", ours),
            *_lines("Penstock, nothing held", ours["stored"]),
            *_lines("Penstock, all changed", ours["changed"]),
            *(_lines("Feast", theirs) if theirs is not None else []),
            *((f"Penstock to Feast: {size}", f"{value:.1f} times") for size, value in ratios.items()),
            *((f"Nothing held, to Feast: {size}", f"{value:.1f} times") for size, value in stored.items()),
            ("Penstock: written", f"{ours['put_per_s']:,.0f} keys/s"),
        ],
        remarks=[
            f"{bench.plan.keys:,} keys of three features; Penstock has 12 steps of a window of each.",
            f"Medians of {bench.plan.repeats} turns of both; ratios are of each turn.",
            "The process has read the keys before, and asks each time what has changed since: nothing, or all.",
            "With nothing held, all comes from the file, as with Feast.",
            "Feast is read by its SDK from its own store on SQLite; the claim is of the worst of all batches.",
        ],
    )


def _run(bench: Bench, module: str, environment: str | None) -> dict[str, Any]:
    folder = bench.folder / module.rpartition(".")[2]
    shutil.rmtree(folder, ignore_errors=True)
    options = ["--folder", str(folder), "--keys", str(bench.plan.keys), "--repeats", str(bench.plan.reads)]
    for batch in BATCHES:
        options += ["--batch", str(batch)]
    try:
        seen: dict[str, Any] = run_module(bench, module, *options, environment=environment)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    bench.say(f"{module.rpartition('.')[2]}: {seen['keys_per_s'][CLAIMED]:,.0f} keys/s")
    return seen


def _has_peer(bench: Bench) -> bool:
    if bench.make_peers:
        bench.environments.prepare(PEER, REQUIREMENTS)
    return bool(bench.environments.versions(PEER, ["feast"]))


def _median(turns: Sequence[Any]) -> Any:
    """Of numbers, by their names; nothing of nothing."""
    if turns and not isinstance(turns[0], dict):
        return median(turns)
    return {name: _median([turn[name] for turn in turns]) for name in (turns[0] if turns else ())}


def _ratios(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    found = {size: ratio(ours["keys_per_s"][size], theirs["keys_per_s"][size]) for size in theirs["keys_per_s"]}
    found["1"] = ratio(theirs["one_key_us"], ours["one_key_us"])
    return {size: value for size, value in found.items() if value is not None}


def _batched(ratios: dict[str, float]) -> float | None:
    """The worst of all batches."""
    return min([value for size, value in ratios.items() if size != "1"], default=None)


def _lines(name: str, seen: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (f"{name}: one key", f"{seen['one_key_us']:,.1f} µs"),
        *((f"{name}: {size} keys at once", f"{rate:,.0f} keys/s") for size, rate in seen["keys_per_s"].items()),
    ]
