"""Reads features of random keys from the online store, as serving processes do: first as they were when they
were read before; then by one that holds nothing, so that all come from the file; then such as have changed
since they were read, by one that holds them. Prints what it took.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.features.online_keys import FEATURES, asked_keys, key_of, value_of
from penstock.core.errors import PenstockError
from penstock.core.tensors import DataType
from penstock.features.embedded import EmbeddedOnlineStore
from penstock.features.online import OnlineWriter, Progress, Update
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


def updates(numbers: npt.NDArray[np.int64], offset: int) -> list[Update]:
    """Of keys by number; from that offset on."""
    columns = [np.repeat(value_of(numbers, place), STEPS + 1) for place in range(len(FEATURES))]
    from_ms = np.tile(np.arange(STEPS + 1) * STEP_MS, len(numbers))
    lengths = np.full(len(numbers), STEPS + 1)
    timelines = write_timelines(TimelineRows(from_ms, columns, [None] * len(FEATURES), lengths))
    encoded = encode_keys([[key_of(number) for number in numbers.tolist()]])
    return [
        Update(key, offset + place, 0, line)
        for place, (key, line) in enumerate(zip(encoded, timelines, strict=True))
    ]


def fill(writer: OnlineWriter, keys: int) -> float:
    """Keys a second."""
    begun_s = time.perf_counter()
    for start in range(0, keys, PUT_ROWS):
        numbers = np.arange(start, min(start + PUT_ROWS, keys))
        writer.put(0, updates(numbers, start), Progress(0, STEP_MS, start + len(numbers), 0))
    return keys / (time.perf_counter() - begun_s)


class Readings:
    """Reads random keys, all of which `reader` has read before. Where there is a `writer`, each key has a new
    record whenever it is read.
    """

    def __init__(self, reader: ViewReader, keys: int, writer: OnlineWriter | None) -> None:
        self._reader = reader
        self._keys = keys
        self._writer = writer
        self._offset = keys

    def measured(self, rows: int, repeats: int) -> float:
        """The median of seconds for a read of so many keys, the values of which are checked."""
        seconds = []
        for turn in range(repeats):
            numbers = asked_keys(self._keys, rows, seed=turn)
            asked = [key_of(number) for number in numbers.tolist()]
            if self._writer is not None:
                self._writer.put(
                    0, updates(numbers, self._offset), Progress(0, STEP_MS, self._offset + rows, 0)
                )
                self._offset += rows
            begun_s = time.perf_counter()
            reading = self._reader.read([asked])
            seconds.append(time.perf_counter() - begun_s)
            assert all(
                np.array_equal(reading.columns[place], value_of(numbers, place))
                for place in range(len(FEATURES))
            )
        return statistics.median(seconds)

    def rates(self, batches: list[int], repeats: int) -> dict[str, object]:
        one_s = self.measured(1, repeats * 50)
        return {
            "one_key_us": one_s * 1e6,
            "keys_per_s": {str(rows): rows / self.measured(rows, repeats * 5) for rows in batches},
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--keys", type=int, required=True)
    parser.add_argument("--batch", type=int, action="append", required=True)
    parser.add_argument("--repeats", type=int, required=True)
    options = parser.parse_args()
    store = EmbeddedOnlineStore(options.folder)
    writer = store.writer(VIEW)
    put_per_s = fill(writer, options.keys)
    reader = ViewReader(VIEW, store.reader(), lambda: 0, Strict())
    for start in range(0, options.keys, PUT_ROWS):
        reader.read([[key_of(number) for number in range(start, min(start + PUT_ROWS, options.keys))]])
    held = Readings(reader, options.keys, None).rates(options.batch, options.repeats)
    forgetful = ViewReader(VIEW, store.reader(), lambda: 0, Strict(), 0)
    stored = Readings(forgetful, options.keys, None).rates(options.batch, options.repeats)
    changed = Readings(reader, options.keys, writer).rates(options.batch, options.repeats)
    bytes_per_key = store.path.stat().st_size / options.keys
    told = {
        **held,
        "stored": stored,
        "changed": changed,
        "put_per_s": put_per_s,
        "bytes_per_key": bytes_per_key,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
