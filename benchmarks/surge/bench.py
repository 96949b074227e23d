"""What all figures of the surge are measured with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness.cores import Cores
from benchmarks.harness.environments import Environments
from benchmarks.harness.load import LoadGenerator
from benchmarks.surge.generator import OpenLoad
from benchmarks.surge.judge import Capacity
from benchmarks.surge.models import CostlyModel

__all__ = ["CHEAP", "EVERY_MODEL", "EVERY_PEER", "FULL", "QUICK", "Bench", "Plan"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long, and how much. `levels` are requests in flight, of which capacity is the best.

    A surge is `calm_s` at half of capacity, `surge_s` at a multiple of it, `after_s` at half again, and each is
    taken `repeats` times, in turn with the other multiples. Before and after, capacity is looked at for
    `check_s`.
    """

    models: tuple[str, ...]
    one_core_models: tuple[str, ...]
    peer_models: tuple[str, ...]
    peers: tuple[str, ...]
    cache_models: tuple[str, ...]
    times: tuple[float, ...]
    peer_times: tuple[float, ...]
    levels: tuple[int, ...]
    level_s: float
    calm_s: float
    surge_s: float
    after_s: float
    check_s: float
    repeats: int
    crowd_s: float
    crowd_after_s: float
    refusals_s: float
    pairs: int
    pair_s: float
    untimed: bool


CHEAP = "cheap"
"""The model of `benchmarks.serving`, which costs some ten microseconds."""

EVERY_MODEL = ("0.3ms", "1ms", "3ms", "10ms", "forest")
EVERY_PEER = (
    "fastapi_sklearn",
    "fastapi_onnx",
    "fastapi_limited",
    "litserve",
    "bentoml",
    "mlserver",
    "rayserve",
)

FULL = Plan(
    models=EVERY_MODEL,
    one_core_models=EVERY_MODEL,
    peer_models=("3ms", "forest"),
    peers=EVERY_PEER,
    cache_models=("0.3ms", CHEAP),
    times=(1, 2, 5, 10),
    peer_times=(1, 2, 5, 10),
    levels=(1, 2, 4, 8, 16, 32, 64, 128),
    level_s=2.0,
    calm_s=1.0,
    surge_s=5.0,
    after_s=3.0,
    check_s=1.5,
    repeats=3,
    crowd_s=60.0,
    crowd_after_s=10.0,
    refusals_s=4.0,
    pairs=5,
    pair_s=4.0,
    untimed=True,
)
QUICK = Plan(
    models=("3ms",),
    one_core_models=("3ms",),
    peer_models=("3ms",),
    peers=("fastapi_onnx",),
    cache_models=("0.3ms",),
    times=(2, 5, 10),
    peer_times=(10,),
    levels=(2, 8, 16, 64),
    level_s=0.5,
    calm_s=0.4,
    surge_s=1.5,
    after_s=1.2,
    check_s=0.4,
    repeats=1,
    crowd_s=3.0,
    crowd_after_s=1.8,
    refusals_s=4.0,
    pairs=1,
    pair_s=0.8,
    untimed=False,
)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """`wide` are the cores of a server that is free to use more than one. The generator is held to
    `cores.load`, which a wide server may use as well where there are only two.
    """

    plan: Plan
    quick: bool
    cores: Cores
    wide: frozenset[int]
    load: OpenLoad
    closed_load: LoadGenerator
    environments: Environments
    models: Mapping[str, CostlyModel]
    folder: Path
    say: Callable[[str], None]
    capacities: dict[str, Capacity] = field(default_factory=dict)
    """What the figures of this run have found already, by model, with the server on `wide`."""

    @property
    def one(self) -> frozenset[int]:
        return frozenset({self.cores.server})

    def home(self, model: str) -> Path:
        """Penstock's home with that model as `late`."""
        return self.folder / "home" / "surge" / model
