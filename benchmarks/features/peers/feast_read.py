"""Feast with its online store on SQLite: the same keys and features, read as its SDK reads them."""

import argparse
import json
import statistics
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import Float64, String
from feast.value_type import ValueType

from benchmarks.features.online_keys import FEATURES, asked_keys, key_of, value_of

WRITE_ROWS = 10_000


def opened(folder: Path) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    config = RepoConfig(
        registry=str(folder / "registry.db"),
        project="bench",
        provider="local",
        online_store={"type": "sqlite", "path": str(folder / "online.db")},
        entity_key_serialization_version=3,
    )
    return FeatureStore(config=config)


def fill(store: Any, folder: Path, keys: int) -> float:
    """Keys a second, of writing alone."""
    frame = pd.DataFrame({"key": [key_of(0)], **{name: [0.0] for name in FEATURES}, "at": [datetime.now(UTC)]})
    frame.to_parquet(folder / "source.parquet")
    entity = Entity(name="key", join_keys=["key"], value_type=ValueType.STRING)
    view = FeatureView(
        name="bench",
        entities=[entity],
        ttl=timedelta(days=1),
        schema=[Field(name="key", dtype=String), *(Field(name=name, dtype=Float64) for name in FEATURES)],
        source=FileSource(path=str(folder / "source.parquet"), timestamp_field="at"),
        online=True,
    )
    store.apply([entity, view])
    seconds = 0.0
    for start in range(0, keys, WRITE_ROWS):
        numbers = np.arange(start, min(start + WRITE_ROWS, keys))
        columns = {name: value_of(numbers, place) for place, name in enumerate(FEATURES)}
        rows = pd.DataFrame(
            {"key": [key_of(each) for each in numbers.tolist()], **columns, "at": datetime.now(UTC)}
        )
        begun_s = time.perf_counter()
        store.write_to_online_store("bench", rows)
        seconds += time.perf_counter() - begun_s
    return keys / seconds


def measured(store: Any, keys: int, rows: int, repeats: int) -> float:
    """The median of seconds for a read of so many keys, the values of which are checked."""
    names = [f"bench:{name}" for name in FEATURES]
    seconds = []
    for turn in range(repeats):
        numbers = asked_keys(keys, rows, seed=turn)
        asked = {"key": [key_of(each) for each in numbers.tolist()]}
        begun_s = time.perf_counter()
        read = store.get_online_features(features=names, entity_rows=asked).to_dict()
        seconds.append(time.perf_counter() - begun_s)
        for place, name in enumerate(FEATURES):
            assert read[name] == value_of(numbers, place).tolist(), name
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--keys", type=int, required=True)
    parser.add_argument("--batch", type=int, action="append", required=True)
    parser.add_argument("--repeats", type=int, required=True)
    options = parser.parse_args()
    store = opened(options.folder)
    put_per_s = fill(store, options.folder, options.keys)
    measured(store, options.keys, 100, 3)
    one_s = measured(store, options.keys, 1, options.repeats * 10)
    batches = {str(rows): rows / measured(store, options.keys, rows, options.repeats) for rows in options.batch}
    print(json.dumps({"one_key_us": one_s * 1e6, "keys_per_s": batches, "put_per_s": put_per_s}))


if __name__ == "__main__":
    main()
