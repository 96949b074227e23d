"""Training sets: labels, with the features that were known when each was asked for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.app.features import DeclaredFeatures
from penstock.core.errors import InvalidInput, shown
from penstock.features.history import Asked, as_of_join, column_types, history_schema, holding_rows
from penstock.features.history_mark import check_mark, replacements_of
from penstock.features.view import FeatureView
from penstock.streams.deltas import delta_errors, deltalake

__all__ = ["read_history", "training_set"]

By = Literal["available_at", "event_time"]
Ints = npt.NDArray[np.int64]


def training_set(
    labels: pl.DataFrame,
    *views: DeclaredFeatures,
    time: str,
    available: str | None = None,
    by: By = "available_at",
    keys: Mapping[str, str] | None = None,
    histories: Mapping[str, str | Path] | None = None,
) -> pl.DataFrame:
    """The labels, in their order, with the features of the views as of their `time`: what a request at that
    time would have been given, a default where nothing was known.

    Updates count that were available by then, or by the time in the column `available`; with `by="event_time"`
    those that the stream had come to by then, whenever that was, as is right for history that was replayed.
    Times are datetimes, or integers of milliseconds since 1970. `keys` say which column of the labels a key is
    in, where it is called otherwise. `histories` are folders to read in place of those that views are declared
    with, by the views' names.

    Raises `InvalidInput` for columns that are missing, and `ConfigurationError` for a view without a history.
    """
    if not views:
        raise InvalidInput("a training set has no views", hint="training_set(labels, congestion, time=...)")
    time_ms = _times_ms(labels, time)
    until_ms = time_ms if available is None else _times_ms(labels, available)
    _check_names(labels, views)
    joined, given = [labels], dict(histories or {})
    for each in views:
        folder = Path(given[each.name]) if each.name in given else each.history_folder
        asked = Asked(_keys(labels, each.view, keys or {}), time_ms, until_ms)
        # First what holds: what comes to hold meanwhile may have files that are not read any more.
        replacements = replacements_of(folder)
        history = holding_rows(read_history(each.view, folder), replacements)
        joined.append(as_of_join(each.view, history, asked, by))
    return pl.concat(joined, how="horizontal")


def _check_names(labels: pl.DataFrame, views: Sequence[DeclaredFeatures]) -> None:
    taken = dict.fromkeys(labels.columns, "the labels")
    for each in views:
        for name in each.view.feature_names:
            if name in taken:
                raise InvalidInput(
                    f"the column {name!r} is one of {taken[name]} and of view {each.name!r}",
                    where=name,
                    hint="rename or drop one of them",
                )
            taken[name] = f"view {each.name!r}"


def read_history(view: FeatureView, folder: Path) -> pl.DataFrame:
    """All of a view's history. Raises `InvalidInput` where there is none, or that of another view, and
    `ConfigurationError` for that of another definition of it.
    """
    check_mark(folder, view)
    wanted = list(history_schema(view))
    try:
        if (folder / "_delta_log").is_dir():
            with delta_errors(f"the history {folder} cannot be read"):
                uris = deltalake().DeltaTable(str(folder)).file_uris()
            scan = pl.scan_parquet(uris) if uris else pl.LazyFrame(schema=history_schema(view))
        else:
            files = sorted(path for path in folder.glob("*.parquet") if not path.name.startswith(("_", ".")))
            if not files:
                raise InvalidInput(
                    f"there is no history of view {view.name!r} in {folder}",
                    hint="let its stream run with history=, or make one: `penstock features backfill`",
                )
            scan = pl.scan_parquet(files)
        there = scan.collect_schema().names()
        missing = [name for name in wanted if name not in there]
        if missing:
            raise InvalidInput(
                f"the history {folder} has no column {', '.join(missing)}, which view {view.name!r} has",
                where=missing[0],
                hint="it is of another view, or of what this one was before: give the view another folder",
            )
        return scan.select(wanted).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InvalidInput(f"the history {folder} cannot be read: {error}") from error


def _keys(labels: pl.DataFrame, view: FeatureView, named: Mapping[str, str]) -> pl.DataFrame:
    types = column_types(view)
    columns = []
    hint = "say which it is by keys={KEY: COLUMN}"
    for key in view.key_names:
        name = named.get(key, key)
        _check_there(labels, name, f"key {key!r} of view {view.name!r}", hint)
        column, wanted = labels.get_column(name), types[key]
        if not _alike(column.dtype, wanted):
            raise InvalidInput(
                f"the labels' column {name!r} is of {column.dtype}, and key {key!r} of {wanted}",
                where=name,
                hint="cast it",
            )
        try:
            columns.append(column.cast(wanted).alias(key))
        except pl.exceptions.InvalidOperationError as error:
            raise InvalidInput(f"the labels' column {name!r} is no key {key!r}: {error}", where=name) from error
    return pl.DataFrame(columns)


def _alike(given: pl.DataType, wanted: pl.DataType) -> bool:
    if isinstance(given, pl.Null):
        return True
    if wanted == pl.String():
        return isinstance(given, pl.String | pl.Categorical | pl.Enum)
    return given.is_integer() if wanted == pl.Int64() else given == wanted


def _times_ms(labels: pl.DataFrame, name: str) -> Ints:
    _check_there(labels, name, "time", "name the column that says when each label was asked for")
    column = labels.get_column(name)
    if isinstance(column.dtype, pl.Datetime):
        column = column.dt.epoch("ms")
    elif not column.dtype.is_integer():
        raise InvalidInput(
            f"the labels' column {name!r} is of {column.dtype}, no time",
            where=name,
            hint="take a datetime, or integers of milliseconds since 1970",
        )
    if column.null_count():
        raise InvalidInput(f"the labels' column {name!r} has rows without a time", where=name, hint="drop them")
    times: Ints = column.cast(pl.Int64).to_numpy()
    return times


def _check_there(labels: pl.DataFrame, name: str, what: str, hint: str) -> None:
    if name not in labels.columns:
        raise InvalidInput(
            f"the labels have no column {shown(name)} for the {what}",
            where=name,
            hint=f"{hint}; they have {', '.join(labels.columns)}",
        )
