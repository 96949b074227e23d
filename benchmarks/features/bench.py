"""What all figures of features are measured with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.cores import Cores
from benchmarks.harness.environments import Environments

__all__ = ["FULL", "QUICK", "Bench", "Plan"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How often and how much: the year's first `flights`."""

    quick: bool
    repeats: int
    flights: int


FULL = Plan(quick=False, repeats=5, flights=1_000_000)
QUICK = Plan(quick=True, repeats=2, flights=60_000)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """`make_peers` says whether environments that are missing are made; those there are used in any case."""

    plan: Plan
    make_peers: bool
    cores: Cores
    environments: Environments
    folder: Path
    say: Callable[[str], None]
