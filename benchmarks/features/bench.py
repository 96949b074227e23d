"""What all figures of features are measured with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.cores import Cores
from benchmarks.harness.environments import Environments

__all__ = ["FULL", "QUICK", "Bench", "Plan"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How often and how much: the year's first `flights`; `reads` of each size from a store of `keys`; `pairs`
    of runs of load, `load_s` each; events for `fresh_s`.
    """

    quick: bool
    repeats: int
    flights: int
    keys: int
    reads: int
    pairs: int
    load_s: float
    fresh_s: float


FULL = Plan(
    quick=False,
    repeats=5,
    flights=1_000_000,
    keys=100_000,
    reads=40,
    pairs=7,
    load_s=5.0,
    fresh_s=20.0,
)
QUICK = Plan(quick=True, repeats=2, flights=60_000, keys=10_000, reads=10, pairs=2, load_s=2.0, fresh_s=4.0)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """`make_peers` says whether environments that are missing are made; those there are used in any case."""

    plan: Plan
    make_peers: bool
    cores: Cores
    environments: Environments
    folder: Path
    say: Callable[[str], None]
