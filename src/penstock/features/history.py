"""The history of a feature view: what was known of each key, when, and from when on it held.

It has a row for each row of each update's timeline: the key, how far the stream's time had come (`event_time`),
when the update was in the log (`available_at`) and where (`partition`, `offset`), the time from which the row
holds (`valid_from`), and the features, null where nothing was known. What was computed from older events later
on is marked by the partition -1, and counts as available when its events were. Of several backfills the one
that was begun last holds from its first event to its last, whatever others say of any key then; one that
replaces what there was, whatever the stream said then, too (see `history_mark`).

So what a request was given at a time can be found again: of its key the last update that was available by then,
and in that the last row that held by then.
"""

from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.core.errors import CorruptRecords, InvalidInput
from penstock.core.tensors import DataType
from penstock.features.history_mark import Replacements
from penstock.features.online import BACKFILLED
from penstock.features.timeline import HEAD_WORDS
from penstock.features.view import Feature, FeatureView, KeyColumn

__all__ = [
    "HISTORY_COLUMNS",
    "RUN_BITS",
    "Asked",
    "Ints",
    "Moments",
    "as_of_join",
    "as_served",
    "column_types",
    "history_rows",
    "history_schema",
    "holding_rows",
    "placed_rows",
]

HISTORY_COLUMNS: Final = ("event_time", "available_at", "partition", "offset", "valid_from")
"""Beside the key and the features."""
RUN_BITS: Final = 36
"""Of an offset of those, above which the number of the backfill stands."""
TIME: Final = pl.Datetime("ms", "UTC")
Ints: TypeAlias = npt.NDArray[np.int64]
_PLACE: Final = "_place"
_decode = msgspec.msgpack.Decoder().decode
_POLARS: Final = {
    DataType.STRING: pl.String(),
    DataType.INT64: pl.Int64(),
    DataType.BOOL: pl.Boolean(),
    DataType.FP64: pl.Float64(),
}


class Moments(NamedTuple):
    """Of rows of a history, in milliseconds, and where their updates stand."""

    event_ms: Ints
    available_ms: Ints
    partition: int
    offsets: Ints
    from_ms: Ints


class Asked(NamedTuple):
    """What is asked of a history: keys in the view's columns, the time that each is asked for, and the time
    until which updates count.
    """

    keys: pl.DataFrame
    time_ms: Ints
    until_ms: Ints


def column_types(view: FeatureView) -> dict[str, pl.DataType]:
    """Of the key and the features, in a frame."""
    columns: tuple[KeyColumn | Feature, ...] = (*view.keys, *view.features)
    return {each.name: _POLARS[each.datatype] for each in columns}


def history_schema(view: FeatureView) -> pl.Schema:
    types = column_types(view)
    return pl.Schema(
        {
            **{name: types[name] for name in view.key_names},
            **dict(zip(HISTORY_COLUMNS, (TIME, TIME, pl.Int32(), pl.Int64(), TIME), strict=True)),
            **{name: types[name] for name in view.feature_names},
        }
    )


def placed_rows(view: FeatureView, rows: pl.DataFrame, at: Moments) -> pl.DataFrame:
    """Rows of the view's columns as a history has them."""
    placed = pl.DataFrame(
        {
            "event_time": at.event_ms,
            "available_at": at.available_ms,
            "partition": np.full(rows.height, at.partition, np.int32),
            "offset": at.offsets,
            "valid_from": at.from_ms,
        }
    ).with_columns(pl.col("event_time", "available_at", "valid_from").cast(TIME))
    return rows.select(view.key_names).hstack(placed).hstack(rows.select(view.feature_names))


def history_rows(view: FeatureView, updates: pl.DataFrame) -> pl.DataFrame:
    """Of updates of one partition: `key` and `timeline` as bytes, `event_time` and `available_at` in
    milliseconds, `partition` and `offset`. Raises `CorruptRecords` for timelines of other features.
    """
    width = HEAD_WORDS + len(view.features)
    timelines = updates.get_column("timeline").to_list()
    sizes = np.fromiter(map(len, timelines), np.int64, count=len(timelines))
    if len(sizes) and (int(sizes.min()) <= 0 or bool((sizes % (width * 8)).any())):
        raise CorruptRecords(f"an update of view {view.name!r} is not of its {len(view.features)} features")
    words = np.frombuffer(b"".join(timelines), "<i8").reshape(-1, width)
    of = np.arange(len(sizes)).repeat(sizes // (width * 8))
    keys = list(map(_decode, updates.get_column("key")))
    types = column_types(view)
    columns = [keys] if len(view.keys) == 1 else list(zip(*keys, strict=True)) or [()] * len(view.keys)
    rows = pl.DataFrame(
        [pl.Series(name, values, types[name]) for name, values in zip(view.key_names, columns, strict=True)]
    )[of]
    features = [_feature(words, number, name, types[name]) for number, name in enumerate(view.feature_names)]
    taken = {
        name: updates.get_column(name).cast(pl.Int64).to_numpy()[of]
        for name in ("event_time", "available_at", "offset")
    }
    partition = int(updates.item(0, "partition")) if updates.height else 0
    moments = Moments(taken["event_time"], taken["available_at"], partition, taken["offset"], words[:, 0])
    return placed_rows(view, rows.hstack(features), moments)


def _feature(words: npt.NDArray[Any], number: int, name: str, dtype: pl.DataType) -> pl.Series:
    known = (words[:, 1] >> number & 1).astype(np.bool_)
    column = np.ascontiguousarray(words[:, HEAD_WORDS + number])
    floats = dtype == pl.Float64()
    series = pl.Series(name, column.view(np.float64) if floats else column).cast(dtype)
    if known.all():
        return series
    return pl.select(pl.when(pl.Series(known)).then(series).alias(name)).to_series()


def as_of_join(
    view: FeatureView,
    history: pl.DataFrame,
    asked: Asked,
    by: Literal["available_at", "event_time"] = "available_at",
) -> pl.DataFrame:
    """For each key asked for the features as of its time, by the last update with `available_at` (or
    `event_time`) by then; a feature that was not known is its default. In the order in which it is asked.

    Raises `InvalidInput` for a history that is none of this view.
    """
    sorted_by = _Sorted(view, history, by, current=True)
    codes = sorted_by.codes_of(asked.keys)
    lows = np.searchsorted(sorted_by.update_codes, codes)
    highs = np.searchsorted(sorted_by.update_codes, codes, side="right")
    update = _last_until(sorted_by.update_ms, lows, highs, asked.until_ms)
    found = sorted_by.features(update, update >= lows, asked.time_ms)
    return found.with_columns(
        pl.col(each.name).fill_null(pl.lit(each.default, _POLARS[each.datatype])) for each in view.features
    )


def as_served(
    view: FeatureView, history: pl.DataFrame, asked: Asked, partitions: Ints, offsets: Ints
) -> tuple[pl.DataFrame, npt.NDArray[np.bool_]]:
    """For each key the features that the update at that place in the log has as of the time asked for, null
    where nothing was known; and whether the history has that update.
    """
    sorted_by = _Sorted(view, history, _PLACE)
    codes = sorted_by.codes_of(asked.keys)
    places = pl.DataFrame({"partition": partitions, "offset": offsets}).select(_places("partition", "offset"))
    wanted = places.to_series().to_numpy()
    lows = np.searchsorted(sorted_by.update_codes, codes)
    highs = np.searchsorted(sorted_by.update_codes, codes, side="right")
    update = _last_until(sorted_by.update_ms, lows, highs, wanted)
    found: npt.NDArray[np.bool_] = update >= lows
    if len(sorted_by.update_ms):
        found &= sorted_by.update_ms[np.maximum(update, 0)] == wanted
    return sorted_by.features(update, found, asked.time_ms), found


def holding_rows(history: pl.DataFrame, replacements: Replacements) -> pl.DataFrame:
    """Without what a backfill has replaced of the stream's updates, and without those that are not whole."""
    backfilled = pl.col("partition") == BACKFILLED
    dropped = [backfilled & (pl.col("offset") // (1 << RUN_BITS)).is_in(list(replacements.unfinished))]
    event_ms = pl.col("event_time").dt.epoch("ms")
    dropped += [~backfilled & event_ms.is_between(each.from_ms, each.to_ms) for each in replacements.holding]
    if not (replacements.holding or replacements.unfinished):
        return history
    return history.filter(~pl.any_horizontal(dropped))


def _current(history: pl.DataFrame, by: str) -> pl.DataFrame:
    """Without what a later backfill has said anew."""
    backfilled = pl.col("partition") == BACKFILLED
    run = pl.col("offset") // (1 << RUN_BITS)
    runs = (
        history.filter(backfilled).group_by(run.alias("run")).agg(first=pl.col(by).min(), last=pl.col(by).max())
    )
    if runs.height < 2:
        return history
    said_anew = [
        (run < later["run"]) & pl.col(by).is_between(later["first"], later["last"])
        for later in runs.iter_rows(named=True)
    ]
    return history.filter(~(backfilled & pl.any_horizontal(said_anew)))


def _places(partition: str, offset: str) -> pl.Expr:
    return pl.col(partition).cast(pl.Int64) * (1 << 48) + pl.col(offset)


class _Sorted:
    """A history by key, by `by`, and by update: of updates the key's code, and what they are sorted by."""

    def __init__(self, view: FeatureView, history: pl.DataFrame, by: str, *, current: bool = False) -> None:
        wanted = history_schema(view)
        missing = [name for name in wanted if name not in history.columns]
        if missing:
            raise InvalidInput(
                f"the history of view {view.name!r} has no column {', '.join(missing)}",
                where=missing[0],
                hint="it is of another view, or of what the view was before: backfill it into another folder",
            )
        self._view = view
        if current:
            history = _current(history, by)
        elif by == _PLACE:
            history = history.with_columns(_places("partition", "offset").alias(_PLACE))
        keys = list(view.key_names)
        self._keys = history.select(keys).unique().with_row_index("_code")
        ordered = history.join(self._keys, on=keys, how="left", nulls_equal=True).sort(
            *("_code", by, "partition", "offset", "valid_from")
        )
        self._features = ordered.select(view.feature_names)
        codes = ordered.get_column("_code").to_numpy().astype(np.int64)
        places = ordered.select(_places("partition", "offset")).to_series().to_numpy()
        moments = _as_ms(ordered.get_column(by))
        self._from_ms = _as_ms(ordered.get_column("valid_from"))
        first = np.ones(len(codes), np.bool_)
        first[1:] = (codes[1:] != codes[:-1]) | (places[1:] != places[:-1]) | (moments[1:] != moments[:-1])
        self._starts = np.flatnonzero(first)
        self._ends = np.append(self._starts[1:], len(codes))
        self.update_codes = codes[self._starts]
        self.update_ms = moments[self._starts]

    def codes_of(self, keys: pl.DataFrame) -> Ints:
        """-1 of keys that the history does not have."""
        names = list(self._view.key_names)
        found = keys.select(names).join(
            self._keys, on=names, how="left", nulls_equal=True, maintain_order="left"
        )
        codes: Ints = found.get_column("_code").cast(pl.Int64).fill_null(-1).to_numpy()
        return codes

    def features(self, updates: Ints, found: npt.NDArray[np.bool_], time_ms: Ints) -> pl.DataFrame:
        """Of these updates the rows as of the times; null where none is found."""
        if not len(self._starts):
            return self._features.clear(len(updates))
        chosen = np.where(found, updates, 0)
        lows = self._starts[chosen]
        row = np.maximum(_last_until(self._from_ms, lows, self._ends[chosen], time_ms), lows)
        at = pl.Series(row).set(pl.Series(~found), None)
        return self._features.select(pl.all().gather(at))


def _last_until(values: Ints, lows: Ints, highs: Ints, until: Ints) -> Ints:
    """Of spans of values that ascend in each, the last one that is not above `until`; the place before the span
    where none is. A bisection of all at once.
    """
    lows, highs = lows.copy(), highs.copy()
    while (unsure := lows < highs).any():
        middles = (lows + highs) // 2
        behind = unsure & (values[np.minimum(middles, len(values) - 1)] <= until)
        lows = np.where(behind, middles + 1, lows)
        highs = np.where(unsure & ~behind, middles, highs)
    return lows - 1


def _as_ms(series: pl.Series) -> Ints:
    if isinstance(series.dtype, pl.Datetime):
        series = series.cast(pl.Datetime("ms")).to_physical()
    values: Ints = series.cast(pl.Int64).to_numpy()
    return values
