"""A version whose inputs are partly features, as a runtime that takes keys in their place."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from penstock.core.errors import PenstockError
from penstock.core.signature import Signature
from penstock.core.tensors import Array, Tensors, row_count
from penstock.features.online import OnlineReader
from penstock.features.reader import Reading, ReadObserver, ViewReader
from penstock.features.timeline import Ints
from penstock.features.view import FeatureView
from penstock.models.runtimes.runtime import Runtime
from penstock.serving.features.casting import all_fit, cast, fitted
from penstock.serving.features.filling import Filling, ViewUse
from penstock.serving.features.vectors import key_output_name, output_name, pack_vectors

__all__ = ["FeatureRuntime", "FitObserver"]


class FitObserver(ReadObserver, Protocol):
    """Told of what was read for a model as well."""

    def misfitted(self, view: FeatureView, number: int, rows: int) -> None:
        """So many rows have a feature's default, as the model has no place for its value."""
        ...


class FeatureRuntime:
    """A `Runtime` around another one: it reads the features of all rows of a batch at once, and runs the model
    on them. Its outputs have what was read beside them (see `vectors`).

    `readers` read the views of `filling`, in their order, from `store`, which is closed with it.
    """

    def __init__(
        self,
        inner: Runtime,
        filling: Filling,
        readers: Sequence[ViewReader],
        store: OnlineReader,
        observer: FitObserver,
    ) -> None:
        assert [use.view for use in filling.uses] == [each.view for each in readers], "a reader for each view"
        self.inner = inner
        self._filling = filling
        self._readers = tuple(readers)
        self._store = store
        self._observer = observer

    @property
    def signature(self) -> Signature:
        """What its callers send."""
        return self._filling.signature

    @property
    def filling(self) -> Filling:
        return self._filling

    @property
    def pid(self) -> int | None:
        """The process that its model runs in, where that is one of its own."""
        return getattr(self.inner, "pid", None)

    def run(self, tensors: Tensors, timeout_s: float) -> Tensors:
        readings = self._read(tensors)
        outputs = dict(self.inner.run(self._inputs(tensors, readings), timeout_s))
        for use, reading in zip(self._filling.uses, readings, strict=True):
            outputs[output_name(use.view)] = pack_vectors(reading)
            for name in use.keys:
                # Copied: what a request brought is not held for as long as its answer may be.
                outputs[key_output_name(name)] = tensors[name].ravel().copy()
        return outputs

    @property
    def fault(self) -> str | None:
        return self.inner.fault

    @property
    def memory_bytes(self) -> int:
        return self.inner.memory_bytes

    def revive(self) -> None:
        self.inner.revive()

    def rest(self, inputs: Tensors) -> None:
        """Nothing is read for that."""
        rows = row_count(inputs)
        readings = [
            self._fitted(use, reader.defaults(rows))
            for use, reader in zip(self._filling.uses, self._readers, strict=True)
        ]
        self.inner.rest(self._inputs(inputs, readings))

    def close(self) -> None:
        self._store.close()
        self.inner.close()

    def example(self, inner: Tensors) -> Tensors:
        """Real inputs of the model as a caller would send them: with keys that nobody knows."""
        rows = row_count(inner)
        given: Tensors = {}
        for spec in self.signature.inputs:
            found = inner.get(spec.name)
            if found is None:
                found = np.full(rows, "text", object) if spec.datatype.is_object else np.zeros(rows, spec.dtype)
            given[spec.name] = found
        return given

    def _read(self, tensors: Tensors) -> list[Reading]:
        """Columns that several views read by are made Python's own once."""
        time = self._filling.time
        as_of_ms: Ints | None = None if time is None else tensors[time].ravel().astype(np.int64)
        columns: dict[str, list[object]] = {}
        readings = []
        looked = self._look()
        for use, reader in zip(self._filling.uses, self._readers, strict=True):
            for name in use.keys:
                if name not in columns:
                    columns[name] = tensors[name].ravel().tolist()
            reading = reader.read([columns[name] for name in use.keys], as_of_ms, looked=looked)
            self._observer.read(use.view, reading)
            readings.append(self._fitted(use, reading))
        return readings

    def _look(self) -> bool:
        """Once for all views. What keeps it from that is told of each view that is read."""
        try:
            self._store.look()
        except PenstockError:
            return False
        return True

    def _fitted(self, use: ViewUse, reading: Reading) -> Reading:
        """What was read, with defaults where the model has no place for a value."""
        for fill in use.fills:
            number = fill.number
            if not fill.narrow or all_fit(reading.columns[number], fill.spec):
                continue
            column, misfit = fitted(reading.columns[number], fill.spec, fill.feature.default)
            reading.columns[number] = column
            reading.defaulted[number] = reading.defaulted[number] | misfit
            reading = reading._replace(whole=False)
            self._observer.misfitted(use.view, number, int(misfit.sum()))
        return reading

    def _inputs(self, tensors: Tensors, readings: Sequence[Reading]) -> Tensors:
        filled: dict[str, Array] = {}
        for use, reading in zip(self._filling.uses, readings, strict=True):
            for fill in use.fills:
                filled[fill.spec.name] = cast(reading.columns[fill.number], fill.spec)
        return {
            spec.name: filled[spec.name] if spec.name in filled else tensors[spec.name]
            for spec in self._filling.inner.inputs
        }
