"""A window with ever more keys: events a second, memory, and how long a restart with all of them takes.

`python -m benchmarks.streams.subjects.keys --keys N --frames N --folder FOLDER` fills a window with N keys,
takes some frames more and leaves a snapshot. With `--restart` it takes that up again, in a process of its own;
with `--model FILE` it measures the whole pipeline instead, from JSON to the model's result.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import polars as pl
import psutil

from benchmarks.streams.peers.contest import OVER_TILES, TILE_MS
from benchmarks.streams.subjects.frames import SOURCE, Collected, stage_of
from penstock.log.records import Fetched, Records
from penstock.streams.intake import Instant
from penstock.streams.operator import OFFSET, TIME, Moment
from penstock.streams.stage import Stage
from penstock.streams.windows.aggregates import Count, Max, Mean
from penstock.streams.windows.window import Window, WindowConfig

FRAME = 10_000
BEGIN_MS = 1_357_000_000_000
SPAN_MS = OVER_TILES * TILE_MS
"""All keys come once, in event time, within so long: they are all in the window then."""
SEED = 0
NOW_MS = 1_700_000_000_000

CONFIG = WindowConfig(
    keys=("origin", "carrier"),
    over_ms=SPAN_MS,
    every_ms=TILE_MS,
    aggregates={"departures": Count(), "mean_delay": Mean("dep_delay"), "worst_delay": Max("dep_delay")},
)


class Frames:
    """Frames of random keys among so many, each of which comes about three times in the window's length."""

    def __init__(self, keys: int) -> None:
        self._keys = keys
        self._rng = np.random.default_rng(SEED)
        self._origins = pl.Series([f"airport-{number:04}" for number in range(1000)])
        self._carriers = pl.Series([f"carrier-{number:04}" for number in range(max(1, keys // 1000))])
        self._row = 0

    def next(self, among: np.ndarray | None = None) -> pl.DataFrame:
        """One frame; of the keys of those numbers where they are given."""
        numbers = self._rng.integers(0, self._keys, FRAME) if among is None else among
        rows = np.arange(self._row, self._row + len(numbers), dtype=np.int64)
        self._row += len(numbers)
        return pl.DataFrame(
            {
                "origin": self._origins.gather(numbers % 1000),
                "carrier": self._carriers.gather(numbers // 1000),
                "dep_delay": self._rng.integers(-10, 120, len(numbers)),
                TIME: BEGIN_MS + rows * SPAN_MS // (3 * max(self._keys, FRAME)),
                OFFSET: rows,
            }
        )


def take(window: Window, frame: pl.DataFrame) -> None:
    times = frame.get_column(TIME)
    moment = Moment(watermark_ms=int(times[0]), next_watermark_ms=int(times[-1]), now_ms=int(times[-1]))
    window.process(frame, moment)
    window.take_changes()


def filled(keys: int, frames: Frames) -> Window:
    """Each key once, in an order of chance."""
    window = CONFIG.build(None)
    order = np.random.default_rng(SEED).permutation(keys)
    for begin in range(0, keys, FRAME):
        take(window, frames.next(order[begin : begin + FRAME]))
    return window


def measure(keys: int, count: int, path: Path) -> dict[str, float]:
    frames = Frames(keys)
    process = psutil.Process()
    before_bytes = process.memory_info().rss
    window = filled(keys, frames)
    made = [frames.next() for _ in range(count)]
    resident_bytes = process.memory_info().rss - before_bytes - sum(frame.estimated_size() for frame in made)
    seconds = []
    for frame in made:
        begun_s = time.perf_counter()
        take(window, frame)
        seconds.append(time.perf_counter() - begun_s)
    seen = window.statistics()
    begun_s = time.perf_counter()
    snapshot = window.snapshot()
    snapshot_s = time.perf_counter() - begun_s
    path.write_bytes(snapshot)
    return {
        "keys": seen.keys,
        "tiles": seen.tiles,
        "events_per_s": FRAME / float(np.median(seconds)),
        "slowest_frame_ms": max(seconds) * 1e3,
        "arena_bytes_per_tile": seen.size_bytes / seen.tiles,
        "resident_bytes_per_key": resident_bytes / seen.keys,
        "snapshot_s": snapshot_s,
        "snapshot_bytes_per_key": len(snapshot) / seen.keys,
    }


def restart(path: Path) -> dict[str, float]:
    """From the start of this process until the window that was in the file can take frames."""
    window = CONFIG.build(path.read_bytes())
    return {"restart_s": time.time() - psutil.Process().create_time(), "keys": window.statistics().keys}


def fetched(frame: pl.DataFrame) -> Fetched:
    """The frame's events as records of JSON."""
    wire = frame.select(
        pl.col(OFFSET).alias("flight_id"),
        pl.col(TIME).alias("departed_at"),
        *("dep_delay", "carrier", "origin"),
        pl.lit("IAH").alias("dest"),
        (pl.col(OFFSET) % 2500).alias("distance"),
        (pl.col(OFFSET) % 24).alias("hour"),
    )
    values = wire.write_ndjson().encode().splitlines()
    offsets = frame.get_column(OFFSET).to_numpy()
    records = Records(values=values, times_ms=frame.get_column(TIME).to_numpy())
    return Fetched(source=SOURCE, offsets=offsets, records=records, next_offset=int(offsets[-1]) + 1)


def take_records(stage: Stage, records: Fetched) -> float:
    """How long it took, in seconds."""
    begun_s = time.perf_counter()
    stage.process(records, Instant(now_ms=NOW_MS, monotonic_ms=0.0))
    stage.take_changes()
    return time.perf_counter() - begun_s


def measure_pipeline(keys: int, count: int) -> dict[str, float]:
    out, frames = Collected([]), Frames(keys)
    stage = stage_of(out)
    order = np.random.default_rng(SEED).permutation(keys)
    for begin in range(0, keys, FRAME):
        take_records(stage, fetched(frames.next(order[begin : begin + FRAME])))
        out.frames.clear()
    seconds = [take_records(stage, fetched(frames.next())) for _ in range(count)]
    return {"pipeline_events_per_s": FRAME / float(np.median(seconds)), "slowest_ms": max(seconds) * 1e3}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--keys", type=int, required=True)
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--restart", action="store_true")
    parser.add_argument("--model")
    options = parser.parse_args()
    path = options.folder / f"window-{options.keys}.snapshot"
    if options.restart:
        seen = restart(path)
    elif options.model:
        os.environ["BENCH_MODEL_ONNX"] = options.model
        seen = measure_pipeline(options.keys, options.frames)
    else:
        seen = measure(options.keys, options.frames, path)
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
