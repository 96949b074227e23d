"""What all figures of streams are measured with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.cores import Cores
from benchmarks.harness.environments import Environments
from benchmarks.streams.events import EventFiles

__all__ = ["FULL", "QUICK", "Bench", "Plan"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How often and how much: `rounds` of the pipeline over all systems and `repeats` of what is ours alone."""

    quick: bool
    rounds: int
    repeats: int
    log_events: int
    latency_s: float
    keys: tuple[int, ...]


FULL = Plan(
    quick=False,
    rounds=5,
    repeats=5,
    log_events=200_000,
    latency_s=20.0,
    keys=(1_000, 10_000, 100_000, 1_000_000),
)
QUICK = Plan(quick=True, rounds=1, repeats=2, log_events=100_000, latency_s=3.0, keys=(1_000, 100_000))


@dataclass(frozen=True, kw_only=True)
class Bench:
    """`make_peers` says whether environments that are missing are made; those there are used in any case."""

    plan: Plan
    make_peers: bool
    only: frozenset[str]
    cores: Cores
    environments: Environments
    events: EventFiles
    model: Path
    folder: Path
    say: Callable[[str], None]
