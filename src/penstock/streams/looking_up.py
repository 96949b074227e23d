"""Features of other streams beside a row: what the online store has of its key, as of the row's time.

What a window of the same stream has is read with the event itself, in the stream; what another stream learns
comes by its own way, so that what is read here is what was known by then, as a request would have it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.core.errors import ConfigurationError
from penstock.core.tensors import DataType
from penstock.features.history import column_types
from penstock.features.view import FeatureView
from penstock.streams.isolating import Transformed
from penstock.streams.operator import TIME

__all__ = ["FeatureSource", "LookUp"]

_KEY_KINDS = {DataType.STRING: "text", DataType.INT64: "an integer", DataType.BOOL: "a truth value"}


class FeatureSource(Protocol):
    """Who reads the online store. Called by the thread of the engine, which it blocks."""

    def read(
        self, view: FeatureView, keys: Sequence[Sequence[object]], as_of_ms: npt.NDArray[np.int64]
    ) -> Sequence[npt.NDArray[np.generic]]:
        """The view's features for key columns of Python's own values, with defaults for what is missing or
        stale. Raises nothing for a store that cannot be read: there are defaults for that, too.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class LookUp:
    """`columns` are the stream's that are the view's key, in its order."""

    view: FeatureView
    columns: tuple[str, ...]
    source: FeatureSource

    def build(self, schema: pl.Schema) -> "_LookedUp":
        """Raises `ConfigurationError` for keys that the stream does not have, or of another type."""
        view = self.view
        for key, column in zip(view.keys, self.columns, strict=True):
            dtype = schema.get(column)
            if dtype is None:
                raise ConfigurationError(
                    f"features {view.name!r}: the stream has no column {column!r} for the key {key.name!r}",
                    hint=f"the columns are {', '.join(schema)}",
                )
            if not _is_key(dtype, key.datatype):
                raise ConfigurationError(
                    f"features {view.name!r}: column {column!r} is of {dtype}, the key {key.name!r} is"
                    f" {_KEY_KINDS[key.datatype]}",
                    hint="cast it before: stream.with_columns(...)",
                )
        taken = [name for name in view.feature_names if name in schema]
        if taken:
            raise ConfigurationError(
                f"features {view.name!r}: the stream has a column {taken[0]!r} already",
                hint="rename it before: stream.rename({...})",
            )
        types = column_types(view)
        return _LookedUp(self, pl.Schema({**schema, **{name: types[name] for name in view.feature_names}}))


class _LookedUp:
    def __init__(self, config: LookUp, schema: pl.Schema) -> None:
        self.schema = schema
        self._config = config

    def apply(self, frame: pl.DataFrame) -> Transformed:
        config = self._config
        keys = [
            frame.get_column(column).cast(pl.String).to_list()
            if key.datatype is DataType.STRING
            else frame.get_column(column).to_list()
            for key, column in zip(config.view.keys, config.columns, strict=True)
        ]
        columns = config.source.read(config.view, keys, frame.get_column(TIME).to_numpy())
        added = [
            pl.Series(each.name, column, self.schema[each.name])
            for each, column in zip(config.view.features, columns, strict=True)
        ]
        return Transformed(frame=frame.hstack(added))


def _is_key(dtype: pl.DataType, datatype: DataType) -> bool:
    if datatype is DataType.STRING:
        return isinstance(dtype, pl.String | pl.Categorical | pl.Enum)
    if datatype is DataType.BOOL:
        return isinstance(dtype, pl.Boolean)
    return dtype.is_integer()
