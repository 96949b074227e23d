"""What was served, held against the history: each feature, bit for bit."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.app.declarations import App
from penstock.app.features import DeclaredFeatures
from penstock.app.training import read_history
from penstock.core.errors import ConfigurationError, CorruptRecords, NotFound, shown
from penstock.features.history import Asked, as_served, column_types
from penstock.features.online import NO_POSITION, OFFSET_BITS
from penstock.features.view import FeatureView
from penstock.log.port import Log
from penstock.log.records import TopicPartition

__all__ = ["Verified", "verify"]

RECORDS = 1000
EXAMPLES_MAX = 5
Mask = npt.NDArray[np.bool_]


@dataclass(kw_only=True)
class Verified:
    """Rows that were served, by view: the `same` in all features, `different` ones; `absent`: the history has
    no such update (yet); `unplaced`: what was read was of no update in the log; `other`: of a view that was
    defined otherwise.
    """

    rows: int = 0
    same: int = 0
    different: int = 0
    absent: int = 0
    unplaced: int = 0
    other: int = 0
    examples: list[str] = field(default_factory=list)
    """Of what is different, the first."""


def verify(app: App, model: str, log: Log) -> dict[str, Verified]:
    """By view, of all that the log has kept. Raises `NotFound` for a model that is not there or was never
    asked, `ConfigurationError` for one without features, and for a view without a history.
    """
    declared = {each.name: each for each in app.declarations}
    if model not in declared:
        raise NotFound(f"app {app.name!r} has no model {shown(model)}", hint=f"it has {', '.join(declared)}")
    features = declared[model].features
    if features is None:
        raise ConfigurationError(f"model {model!r} takes no features")
    views = [app.streams.features[view.name] for view in features.views]
    histories = {each.name: read_history(each.view, each.history_folder) for each in views}
    found = {each.name: Verified() for each in views}
    for served in _served(log, f"{app.name}.{model}.served"):
        for each in views:
            _compare(each, served, features.keys, histories[each.name], found[each.name])
    return found


def _served(log: Log, topic: str) -> Iterator[pl.DataFrame]:
    infos = [info for info in log.admin.topics() if info.spec.name == topic]
    if not infos:
        raise NotFound(f"there is no topic {topic!r}: nothing was served", hint="ask the model first")
    for partition, (begin, end) in enumerate(zip(infos[0].begins, infos[0].ends, strict=True)):
        offset = begin
        while offset < end:
            fetched = log.admin.read(TopicPartition(topic, partition), offset, records_max=RECORDS)
            if not len(fetched.records):
                break
            offset = fetched.next_offset
            try:
                yield pl.concat(
                    map(pl.read_ipc_stream, map(io.BytesIO, fetched.records.values)), how="diagonal"
                )
            except pl.exceptions.PolarsError as error:
                raise CorruptRecords(f"{topic}/{partition} before offset {offset}: {error}") from error


def _compare(
    features: DeclaredFeatures,
    served: pl.DataFrame,
    named: Mapping[str, str],
    history: pl.DataFrame,
    counts: Verified,
) -> None:
    view = features.view
    counts.rows += served.height
    columns = [f"{view.name}.{each}" for each in ("position", "as_of", "stale")]
    columns += [named.get(key, key) for key in view.key_names]
    columns += [name for each in view.feature_names for name in (each, f"{each}.default")]
    if not set(columns) <= set(served.columns):
        counts.other += served.height
        return
    kept = served.drop_nulls(f"{view.name}.position")
    counts.other += served.height - kept.height
    positions = kept.get_column(f"{view.name}.position").to_numpy()
    stale = kept.get_column(f"{view.name}.stale").to_numpy()
    types = column_types(view)
    keys = kept.select(pl.col(named.get(key, key)).cast(types[key]).alias(key) for key in view.key_names)
    as_of_ms = kept.get_column(f"{view.name}.as_of").dt.epoch("ms").to_numpy()
    partitions, offsets = positions >> OFFSET_BITS, positions & ((1 << OFFSET_BITS) - 1)
    expected, there = as_served(view, history, Asked(keys, as_of_ms, as_of_ms), partitions, offsets)
    same = _same(view, kept, expected, stale)
    unplaced = (positions == NO_POSITION) & ~stale
    placed = ~unplaced & (there | stale)
    counts.unplaced += int(unplaced.sum())
    counts.absent += int((~unplaced & ~there & ~stale).sum())
    counts.same += int((placed & same).sum())
    counts.different += int((placed & ~same).sum())
    for row in np.flatnonzero(placed & ~same)[: EXAMPLES_MAX - len(counts.examples)].tolist():
        prediction = kept.item(row, "prediction.id")
        given, known = (frame.select(view.feature_names).row(row) for frame in (kept, expected))
        counts.examples.append(f"{prediction}: served {given}, the history has {known}")


def _same(view: FeatureView, served: pl.DataFrame, expected: pl.DataFrame, stale: Mask) -> Mask:
    """A default was served where nothing was known or heard, and else what was known, to the bit."""
    same = np.ones(served.height, np.bool_)
    for name, dtype in column_types(view).items():
        if name in view.key_names:
            continue
        known = expected.get_column(name).is_not_null().to_numpy() & ~stale
        default = served.get_column(f"{name}.default").to_numpy()
        columns = [frame.get_column(name).cast(dtype) for frame in (served, expected)]
        if dtype == pl.Float64():
            columns = [each.reinterpret(signed=True) for each in columns]
        equal = columns[0].eq_missing(columns[1]).to_numpy()
        same &= (default == ~known) & (equal | ~known)
    return same
