"""Everything that figures need before the first of them: cores, load generator, models, registry."""

from collections.abc import Callable
from pathlib import Path

from benchmarks.harness.cores import Cores
from benchmarks.harness.environments import Environments
from benchmarks.harness.load import LoadGenerator
from benchmarks.protocols.figure import Bench
from benchmarks.protocols.registry import prepare_registry
from benchmarks.serving.model import ensure_model, load_rows

__all__ = ["prepare"]


def prepare(
    folder: Path, *, quick: bool, minutes: float | None, versions: int, say: Callable[[str], None]
) -> Bench:
    """A bench that keeps all it makes in `folder`; its registry is made anew, with that many versions to swap.

    Raises `Unpinnable` with too few cores, `LoadFailed` without a C compiler.
    """
    cores = Cores.available()
    load = LoadGenerator.build(folder, core=cores.load)
    model = ensure_model(folder / "model")
    home = folder / "home" / "protocols"
    say(f"pushing late, image and {versions} versions into a registry of its own")
    prepare_registry(home, model, versions=versions)
    return Bench(
        quick=quick,
        minutes=minutes,
        cores=cores,
        wide=cores.wide,
        load=load,
        environments=Environments(folder / "env", say=say),
        model=model,
        rows=load_rows(model),
        folder=folder,
        home=home,
        say=say,
    )
