"""Everything that figures need before the first of them: cores, generators, models, registries."""

import dataclasses
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec

from benchmarks.harness.cores import Cores
from benchmarks.harness.environments import Environments
from benchmarks.harness.load import LoadGenerator
from benchmarks.serving.model import ensure_model
from benchmarks.surge.bench import CHEAP, FULL, QUICK, Bench
from benchmarks.surge.generator import OpenLoad
from benchmarks.surge.models import Cost, CostlyModel, ensure_models
from penstock.app.loader import open_registry
from penstock.core.settings import Settings
from penstock.models.push import Provenance
from penstock.models.push import prepare as candidate
from penstock.models.registry import CHAMPION
from penstock.models.version import RuntimeKind

__all__ = ["prepare"]


def prepare(
    folder: Path, *, quick: bool, chosen: Collection[str], peers: Collection[str], say: Callable[[str], None]
) -> Bench:
    """A bench that keeps all it makes in `folder`.

    `chosen` are the models to measure, `peers` the peers (empty: the plan's).

    Raises `Unpinnable` with too few cores, `LoadFailed` without a C compiler.
    """
    plan = QUICK if quick else FULL
    if chosen:
        models = tuple(chosen)
        plan = dataclasses.replace(plan, models=models, one_core_models=models, peer_models=models)
    if peers:
        plan = dataclasses.replace(plan, peers=tuple(peers))
    cores = Cores.available()
    models_folder = folder / "surge" / "models"
    wanted = tuple(dict.fromkeys((*plan.models, *plan.one_core_models, *plan.peer_models, "0.3ms", "3ms")))
    models = ensure_models(models_folder, wanted, say)
    cheap = CostlyModel(
        name=CHEAP, files=ensure_model(folder / "model"), native=False, costs=(Cost(rows=1, run_ms=0.0),)
    )
    bench = Bench(
        plan=plan,
        quick=quick,
        cores=cores,
        wide=cores.wide,
        load=OpenLoad.build(folder, core=cores.load),
        closed_load=LoadGenerator.build(folder, core=cores.load),
        environments=Environments(folder / "env", say=say),
        models=models | {CHEAP: cheap},
        folder=folder,
        say=say,
    )
    for model in bench.models.values():
        _push(bench.home(model.name), model)
    return bench


def _push(home: Path, model: CostlyModel) -> None:
    """A fresh registry with that model, kept as what it is: a forest is not compiled."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    pushed = candidate(
        "late",
        model.files.native if model.native else model.files.onnx,
        samples=model.files.samples,
        trust_pickle=model.native,
        provenance=Provenance(creator="benchmark"),
    )
    if model.native:
        pushed = msgspec.structs.replace(pushed, runtime=RuntimeKind.NATIVE, compiled=None)
    with open_registry(Settings(home=str(home))) as registry:
        registry.push(pushed)
        registry.move_alias("late", CHAMPION, to=1)
