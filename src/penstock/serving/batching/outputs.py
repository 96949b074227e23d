"""What a batch gave, and each caller's share of it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from penstock.core.tensors import Tensors, concatenate_rows, slice_rows

__all__ = ["BatchOutputs", "BatchRows", "join_rows"]


class BatchOutputs:
    """The outputs of a batch, shared by the callers in it.

    `rung` is where they come from if not from the model that was asked: a rung of its fallback ladder. `model`
    and `version` are then what computed them; the version is empty where none did.
    """

    __slots__ = ("_flat", "_raw", "model", "rung", "tensors", "version")

    def __init__(self, tensors: Tensors, rung: str = "", model: str = "", version: str = "") -> None:
        self.tensors = tensors
        self.rung = rung
        self.model = model
        self.version = version
        self._flat: dict[str, list[Any]] = {}
        self._raw: dict[str, bytes] = {}

    def flat(self, name: str) -> list[Any]:
        """All elements of an output, row-major, as Python values: converted once for all callers."""
        values = self._flat.get(name)
        if values is None:
            values = self._flat[name] = self.tensors[name].ravel().tolist()
        return values

    def raw(self, name: str) -> bytes:
        """All elements of an output of numbers, row-major, as they stand in memory: likewise once."""
        raw = self._raw.get(name)
        if raw is None:
            raw = self._raw[name] = self.tensors[name].tobytes()
        return raw


class BatchRows(NamedTuple):
    """One caller's share of a batch's outputs: rows `start` to `stop`."""

    outputs: BatchOutputs
    start: int
    stop: int


def join_rows(parts: Sequence[BatchRows]) -> BatchRows:
    """One caller's rows that several batches gave, in their order."""
    tensors = concatenate_rows([slice_rows(part.outputs.tensors, part.start, part.stop) for part in parts])
    return BatchRows(BatchOutputs(tensors), 0, sum([part.stop - part.start for part in parts]))
