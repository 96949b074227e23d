"""What the windows of keys come to, as features: expressions over them, each in the type that the view says."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from penstock.features.history import column_types
from penstock.features.timeline import TimelineRows, write_timelines
from penstock.features.view import FeatureView, encode_keys
from penstock.streams.isolating import FailedRow
from penstock.streams.transforming import Transform, WithColumns
from penstock.streams.updating import FROM, TIMELINE

__all__ = ["Computed", "FeatureRows", "FeatureRowsConfig"]


@dataclass(frozen=True)
class Computed:
    """Of rows as `updating` has them the keys and features in the view's types, null where nothing is known,
    and the rows on which an expression failed: of those no feature is.
    """

    frame: pl.DataFrame
    failed: Sequence[FailedRow]


@dataclass(frozen=True, kw_only=True)
class FeatureRowsConfig:
    """`schema` are the key and the aggregates of the view's window, `expressions` are over these."""

    view: FeatureView
    schema: pl.Schema
    expressions: tuple[pl.Expr, ...] = ()

    def build(self) -> "FeatureRows":
        """Raises `ConfigurationError` where an expression cannot work."""
        return FeatureRows(self)


class FeatureRows:
    """See `FeatureRowsConfig`. It keeps nothing."""

    def __init__(self, config: FeatureRowsConfig) -> None:
        self._view = config.view
        self._transform: Transform | None = None
        if config.expressions:
            self._transform = WithColumns(expressions=config.expressions).build(config.schema)
        self._types = column_types(config.view)

    def computed(self, rows: pl.DataFrame) -> Computed:
        failed: Sequence[FailedRow] = ()
        frame = rows
        if self._transform is not None:
            done = self._transform.apply(rows.drop(FROM, TIMELINE))
            frame, failed = done.frame, done.failed
        # Column by column: Polars' planner costs a small frame more than its rows do.
        columns = [(frame.get_column(name), dtype) for name, dtype in self._types.items()]
        frame = pl.DataFrame([each if each.dtype == dtype else each.cast(dtype) for each, dtype in columns])
        return Computed(self._put_back(rows, frame, failed) if failed else frame, failed)

    def timelines(self, rows: pl.DataFrame, computed: Computed) -> tuple[list[bytes], list[bytes]]:
        """Each timeline's key, and itself, as bytes. `rows` are those that were computed."""
        lengths = np.bincount(rows.get_column(TIMELINE).to_numpy())
        heads = computed.frame[lengths.cumsum() - lengths]
        keys = encode_keys([heads.get_column(name).to_list() for name in self._view.key_names])
        columns, masks = [], []
        for feature in self._view.features:
            series = computed.frame.get_column(feature.name)
            masks.append(series.is_not_null().to_numpy() if series.null_count() else None)
            if series.null_count() and not series.dtype.is_float():
                series = series.fill_null(0 if series.dtype != pl.Boolean else False)
            columns.append(series.to_numpy())
        from_ms = rows.get_column(FROM).to_numpy()
        return keys, write_timelines(TimelineRows(from_ms, columns, masks, lengths))

    def _put_back(self, rows: pl.DataFrame, frame: pl.DataFrame, failed: Sequence[FailedRow]) -> pl.DataFrame:
        """The failed rows in their places, with nothing known but their keys."""
        at = np.full(rows.height, -1)
        went_on = np.ones(rows.height, np.bool_)
        went_on[[each.row for each in failed]] = False
        at[went_on] = np.arange(frame.height)
        chosen = pl.Series(at).set(pl.Series(~went_on), None)
        keys = rows.select(pl.col(key.name).cast(self._types[key.name]) for key in self._view.keys)
        features = frame.select(self._view.feature_names)
        return keys.hstack(features.select(pl.all().gather(chosen)).get_columns())
