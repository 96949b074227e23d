"""A model's features among the columns of a stream that it scores: as its input takes them, and with the
default where the input has no place for a value, as requests have them.
"""

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

from penstock.app.model_features import ModelFeatures
from penstock.core.signature import Signature
from penstock.core.tensors import Tensors
from penstock.features.history import column_types
from penstock.features.view import FeatureView
from penstock.observe.metrics import MetricSet
from penstock.serving.features.casting import cast, fitted
from penstock.serving.features.counts import defaults_counter
from penstock.serving.features.filling import Fill, filling_of
from penstock.streams.scoring import Inputs

__all__ = ["FilledInputs", "ScoredFeatures"]

MISFIT = "misfit"


class FilledInputs(NamedTuple):
    """Inputs that features fill, and of how many rows a feature is its default, by view and feature."""

    tensors: Tensors
    misfits: Mapping[tuple[str, str], int]


class ScoredFeatures:
    """Of one model. A column counts as the feature of its name if it has the feature's type."""

    def __init__(self, model: str, features: ModelFeatures, metrics: MetricSet) -> None:
        self._model = model
        self._features = features
        self._metrics = metrics
        self._signature: Signature | None = None
        self._fills: tuple[tuple[FeatureView, Fill, pl.DataType], ...] = ()

    def filled(self, frame: pl.DataFrame, signature: Signature, named: Inputs) -> FilledInputs:
        """Of a frame's rows, for the version with that signature. Columns with nulls are nobody's features.

        Raises `ConfigurationError` where the features do not fit the version.
        """
        if signature is not self._signature:
            self._fills, self._signature = self._fills_of(signature), signature
        tensors: Tensors = {}
        misfits: dict[tuple[str, str], int] = {}
        schema = frame.schema
        for view, fill, dtype in self._fills:
            name = fill.spec.name
            if name in named or schema.get(name) != dtype:
                continue
            column = frame.get_column(name)
            if column.null_count():
                continue
            values = column.to_numpy()
            if fill.narrow:
                values, misfit = fitted(values, fill.spec, fill.feature.default)
                rows = int(misfit.sum())
                if rows:
                    misfits[view.name, name] = rows
            tensors[name] = cast(values, fill.spec)
        return FilledInputs(tensors, misfits)

    def count(self, misfits: Mapping[tuple[str, str], int]) -> None:
        """Of rows that were scored."""
        for (view, feature), rows in misfits.items():
            defaults_counter(self._metrics, view, feature, MISFIT).value += rows

    def _fills_of(self, signature: Signature) -> tuple[tuple[FeatureView, Fill, pl.DataType], ...]:
        features = self._features
        filling = filling_of(self._model, signature, features.views, features.keys, features.time)
        return tuple(
            (use.view, fill, column_types(use.view)[fill.feature.name])
            for use in filling.uses
            for fill in use.fills
        )
