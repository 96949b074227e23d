"""A version's signature in a few lines, and what may surprise in one that follows sample rows."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.core.signature import TensorSpec
    from penstock.models.version import ModelVersion

__all__ = ["signature_lines", "type_hints"]

NAMES_MAX = 8


def signature_lines(version: "ModelVersion") -> Iterator[str]:
    """What it takes and gives: a line for each type, with the names that have it."""
    for side, specs in (("takes", version.signature.inputs), ("gives", version.signature.outputs)):
        for kind, names in _by_type(specs).items():
            yield f"{side} {kind}: {_listed(names)}"


def type_hints(version: "ModelVersion") -> Iterator[str]:
    """For whole numbers in the sample rows: later ones may not be, and would be refused."""
    from penstock.models.version import SourceFormat

    if version.format is SourceFormat.ONNX:
        return  # its types are the graph's
    whole = [
        spec.name
        for spec in version.signature.inputs
        if spec.datatype.numpy.kind in "iu" and spec.categories is None
    ]
    if whole:
        yield (
            f"hint: {_listed(whole)}: whole numbers alone, as in the sample rows; a request with 41.5 or a gap "
            "is refused. Where such may come, give sample rows that have them as floats: 41.0 in a CSV, "
            ".cast(pl.Float64) before write_parquet"
        )


def _by_type(specs: "Iterable[TensorSpec]") -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for spec in specs:
        found.setdefault(spec.describe(), []).append(spec.name)
    return found


def _listed(names: Sequence[str]) -> str:
    further = len(names) - NAMES_MAX
    return ", ".join(names[:NAMES_MAX]) + (f" and {further} more" if further > 0 else "")
