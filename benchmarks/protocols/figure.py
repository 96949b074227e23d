"""What a figure is measured with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.cores import Cores
from benchmarks.harness.environments import Environments
from benchmarks.harness.load import LoadGenerator
from benchmarks.serving.model import ModelFiles, Rows

__all__ = ["Bench"]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all figures share. `home` holds the registry that every server runs from.

    One worker gets the core of the server alone, so that the load takes nothing from it. Several workers get
    `wide`: every core but that of the load where there are more than two, else both.
    """

    quick: bool
    minutes: float | None
    cores: Cores
    wide: frozenset[int]
    load: LoadGenerator
    environments: Environments
    model: ModelFiles
    rows: Rows
    folder: Path
    home: Path
    say: Callable[[str], None]

    def scratch(self, name: str) -> Path:
        """A folder for what a figure writes: bodies, records, logs."""
        path = self.folder / "protocols" / name
        path.mkdir(parents=True, exist_ok=True)
        return path
