"""A month of flights from New York: windows against Polars over the whole month."""

import zipfile

import polars as pl
import pytest
from examples.flights import data

from penstock.streams.operator import TIME, Moment
from penstock.streams.windows import WindowConfig
from penstock.streams.windows.aggregates import Count, Max, Mean

KEYS = ("origin", "carrier")
HOUR_MS, STEP_MS = 3_600_000, 300_000
AGGREGATES = {"departures": Count(), "mean_delay": Mean("dep_delay"), "worst_delay": Max("dep_delay")}


@pytest.fixture(scope="module")
def january() -> pl.DataFrame:
    """In the order of departure."""
    with zipfile.ZipFile(data._package_folder() / "flights.csv.zip") as archive:
        flights = pl.read_csv(archive.read("flights.csv"), null_values=["NA", ""])
    minutes = pl.col("sched_dep_time") // 100 * 60 + pl.col("sched_dep_time") % 100 + pl.col("dep_delay")
    midnight = pl.datetime("year", "month", "day").dt.epoch("ms")
    return (
        flights.filter(pl.col("month") == 1, pl.col("dep_delay").is_not_null())
        .select(*KEYS, "dep_delay", (midnight + minutes * 60_000).cast(pl.Int64).alias(TIME))
        .sort(TIME, maintain_order=True)
    )


def frames(flights: pl.DataFrame, rows: int) -> list[tuple[pl.DataFrame, Moment]]:
    cut, before_ms = [], -1
    for start in range(0, flights.height, rows):
        frame = flights[start : start + rows]
        cut.append((frame, Moment(watermark_ms=before_ms, next_watermark_ms=frame[TIME][-1], now_ms=0)))
        before_ms = frame[TIME][-1]
    end_ms = before_ms + 2 * HOUR_MS
    return [*cut, (flights.clear(), Moment(watermark_ms=before_ms, next_watermark_ms=end_ms, now_ms=0))]


@pytest.mark.parametrize("rows", [500, 10_000])
def test_as_of_reads(january: pl.DataFrame, rows: int) -> None:
    """What came by the event less what is out of its window: running sums, and a join as of a step."""
    window = WindowConfig(keys=KEYS, over_ms=HOUR_MS, every_ms=STEP_MS, aggregates=AGGREGATES).build(None)
    read = pl.concat([window.process(*frame) for frame in frames(january, rows)])
    step = pl.col(TIME) // STEP_MS
    running = january.with_columns(
        step=step,
        out_of_it=step - HOUR_MS // STEP_MS,
        count=pl.int_range(1, pl.len() + 1).over(KEYS),
        sum=pl.col("dep_delay").cum_sum().over(KEYS),
    )
    gone = running.group_by(*KEYS, "step", maintain_order=True).agg(
        gone_count=pl.col("count").last(), gone_sum=pl.col("sum").last()
    )
    expected = running.join_asof(
        gone, left_on="out_of_it", right_on="step", by=list(KEYS), check_sortedness=False
    ).with_columns(pl.col("gone_count", "gone_sum").fill_null(0))
    counts = expected["count"] - expected["gone_count"]
    means = (expected["sum"] - expected["gone_sum"]) / counts
    assert read["departures"].to_list() == counts.to_list()
    assert read["mean_delay"].to_list() == means.to_list()
    assert counts.max() > 10


def test_closed_windows(january: pl.DataFrame) -> None:
    window = WindowConfig(
        keys=KEYS, over_ms=HOUR_MS, every_ms=HOUR_MS, aggregates=AGGREGATES, reading=False, closing=True
    ).build(None)
    parts = []
    for frame in frames(january, 700):
        window.process(*frame)
        parts.append(window.take_closed())
    closed = pl.concat(parts)
    expected = (
        january.with_columns(window_start=pl.col(TIME).cast(pl.Datetime("ms", "UTC")))
        .group_by_dynamic("window_start", every="1h", group_by=list(KEYS))
        .agg(
            departures=pl.len().cast(pl.Int64),
            mean_delay=pl.col("dep_delay").mean(),
            worst_delay=pl.col("dep_delay").max(),
        )
        .sort("window_start", *KEYS)
    )
    assert closed.drop("window_end").equals(expected.select(*KEYS, "window_start", *AGGREGATES))
