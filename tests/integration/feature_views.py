"""Feature views with rows of their own, put into the online store without a stream."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from penstock.core.tensors import DataType
from penstock.features.embedded import EmbeddedOnlineStore
from penstock.features.online import Progress, Update
from penstock.features.timeline import TimelineRows, write_timelines
from penstock.features.view import Feature, FeatureView, KeyColumn, encode_keys

__all__ = ["VIEWS_IN_APP", "put_rows", "timeline"]

VIEWS_IN_APP = """
from penstock.core.tensors import DataType
from penstock.features.view import Feature, FeatureView, KeyColumn

class View:
    def __init__(self, name, keys, features, stale_s=None):
        self.view = FeatureView(
            name=name,
            keys=tuple(KeyColumn(name=key, datatype=DataType(kind)) for key, kind in keys.items()),
            features=tuple(
                Feature(name=feature, datatype=DataType(kind), default=default)
                for feature, (kind, default) in features.items()
            ),
            topic=f"tests.{name}.features",
            stale_s=stale_s,
        )
"""
"""For app files: a view is `View(NAME, {KEY: TYPE}, {FEATURE: (TYPE, DEFAULT)})`."""

Steps = Sequence[tuple[int, Mapping[str, Any]]]


def view_of(name: str, keys: Mapping[str, str], features: Mapping[str, tuple[str, Any]]) -> FeatureView:
    """As `View` makes it in an app file."""
    return FeatureView(
        name=name,
        keys=tuple(KeyColumn(name=key, datatype=DataType(kind)) for key, kind in keys.items()),
        features=tuple(
            Feature(name=feature, datatype=DataType(kind), default=default)
            for feature, (kind, default) in features.items()
        ),
        topic=f"tests.{name}.features",
    )


def timeline(view: FeatureView, steps: Steps) -> bytes:
    """Of steps (from when in ms, features by name); one that is left out, or None, is not known."""
    columns = [
        np.array([row.get(each.name) or 0 for _, row in steps], each.datatype.numpy) for each in view.features
    ]
    masks = [np.array([row.get(each.name) is not None for _, row in steps]) for each in view.features]
    rows = TimelineRows(np.array([at for at, _ in steps]), columns, masks, np.array([len(steps)]))
    return write_timelines(rows)[0]


def put_rows(home: Path, view: FeatureView, rows: Mapping[tuple[Any, ...], Steps], progress: Progress) -> None:
    """What is known of keys, in the partition of `progress`. The offsets end before its next one."""
    first = progress.next_offset - len(rows)
    updates = [
        Update(
            encode_keys([[part] for part in key])[0], first + number, progress.heard_ms, timeline(view, steps)
        )
        for number, (key, steps) in enumerate(rows.items())
    ]
    writer = EmbeddedOnlineStore(home).writer(view)
    writer.put(progress.partition, updates, progress)
    writer.close()
