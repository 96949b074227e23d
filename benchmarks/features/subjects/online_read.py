"""Reads features of random keys from the online store, as serving processes do; prints what it took."""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

from benchmarks.features.online_keys import FEATURES, asked_keys, key_of, value_of
from penstock.core.errors import PenstockError
from penstock.core.tensors import DataType
from penstock.features.embedded import EmbeddedOnlineStore
from penstock.features.online import Progress, Update
from penstock.features.reader import Reading, ViewReader
from penstock.features.timeline import TimelineRows, write_timelines
from penstock.features.view import Feature, FeatureView, KeyColumn, encode_keys

STEPS = 12
"""A window of an hour in steps of five minutes: so many changes of a key are known beforehand."""
STEP_MS = 300_000
PUT_ROWS = 10_000
VIEW = FeatureView(
    name="bench",
    keys=(KeyColumn(name="key", datatype=DataType.STRING),),
    features=tuple(Feature(name=name, datatype=DataType.FP64, default=0.0) for name in FEATURES),
    topic="bench.bench.features",
)


class Strict:
    """Counts nothing, and lets nothing pass."""

    def read(self, view: FeatureView, reading: Reading) -> None:
        """Nothing to count."""

    def failed(self, view: FeatureView, error: PenstockError) -> None:
        raise AssertionError(f"{view.name}: {error}")


def fill(store: EmbeddedOnlineStore, keys: int) -> float:
    """Keys a second."""
    writer = store.writer(VIEW)
    begun_s = time.perf_counter()
    for start in range(0, keys, PUT_ROWS):
        numbers = np.arange(start, min(start + PUT_ROWS, keys))
        rows = len(numbers) * (STEPS + 1)
        columns = [np.repeat(value_of(numbers, place), STEPS + 1) for place in range(len(FEATURES))]
        from_ms = np.tile(np.arange(STEPS + 1) * STEP_MS, len(numbers))
        lengths = np.full(len(numbers), STEPS + 1)
        timelines = write_timelines(TimelineRows(from_ms, columns, [None] * len(FEATURES), lengths))
        assert len(from_ms) == rows
        encoded = encode_keys([[key_of(number) for number in numbers.tolist()]])
        updates = [
            Update(key, start + place, 0, line)
            for place, (key, line) in enumerate(zip(encoded, timelines, strict=True))
        ]
        writer.put(0, updates, Progress(0, STEP_MS, start + len(numbers), 0))
    took_s = time.perf_counter() - begun_s
    writer.close()
    return keys / took_s


def measured(reader: ViewReader, keys: int, rows: int, repeats: int) -> float:
    """The median of seconds for a read of so many keys, the values of which are checked."""
    seconds = []
    for turn in range(repeats):
        numbers = asked_keys(keys, rows, seed=turn)
        asked = [key_of(number) for number in numbers.tolist()]
        begun_s = time.perf_counter()
        reading = reader.read([asked])
        seconds.append(time.perf_counter() - begun_s)
        assert all(
            np.array_equal(reading.columns[place], value_of(numbers, place)) for place in range(len(FEATURES))
        )
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--keys", type=int, required=True)
    parser.add_argument("--batch", type=int, action="append", required=True)
    parser.add_argument("--repeats", type=int, required=True)
    options = parser.parse_args()
    store = EmbeddedOnlineStore(options.folder)
    put_per_s = fill(store, options.keys)
    reader = ViewReader(VIEW, store.reader(), lambda: 0, Strict())
    measured(reader, options.keys, 1000, 5)
    one_s = measured(reader, options.keys, 1, options.repeats * 50)
    batches = {}
    for rows in options.batch:
        batches[str(rows)] = rows / measured(reader, options.keys, rows, options.repeats)
    bytes_per_key = store.path.stat().st_size / options.keys
    told = {
        "one_key_us": one_s * 1e6,
        "keys_per_s": batches,
        "put_per_s": put_per_s,
        "bytes_per_key": bytes_per_key,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
