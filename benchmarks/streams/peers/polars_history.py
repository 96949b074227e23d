"""Polars over the whole history at once: what a batch job would take, were everything there already."""

import io

import polars as pl

from benchmarks.streams.peers.contest import (
    OVER_TILES,
    TILE_MS,
    Contest,
    Model,
    Outcome,
    Results,
    compete,
)

SCHEMA = {
    "flight_id": pl.Int64,
    "departed_at": pl.Int64,
    "dep_delay": pl.Int64,
    "carrier": pl.String,
    "origin": pl.String,
    "dest": pl.String,
    "distance": pl.Int64,
    "hour": pl.Int64,
}
FEATURES = ("dep_delay", "distance", "hour", "departures", "mean_delay", "worst_delay")
KEY = ("origin", "carrier")
# A rolling window of Polars takes in all rows of the same time; as of each event means only those before it. So
# time is the tile's with the event's place among its tile's in it, which is below half a tile, and the window
# ends half a tile early: it then takes in the whole of the tiles in it, and of the last what came so far.
PERIOD = f"{OVER_TILES * TILE_MS - TILE_MS // 2}i"


def run(contest: Contest) -> Outcome:
    model = Model(contest.model)
    flights = (
        pl.read_ndjson(io.BytesIO(b"\n".join(contest.events)), schema=SCHEMA)
        .filter(pl.col("dep_delay").is_not_null())
        .with_columns(tile=pl.col("departed_at") // TILE_MS)
    )
    place = pl.int_range(pl.len()).over(*KEY, "tile")
    timed = flights.with_columns(at=pl.col("tile") * TILE_MS + place)
    windows = timed.rolling("at", period=PERIOD, group_by=KEY).agg(
        flight_id=pl.col("flight_id").last(),
        dep_delay=pl.col("dep_delay").last(),
        distance=pl.col("distance").last(),
        hour=pl.col("hour").last(),
        departures=pl.len(),
        mean_delay=pl.col("dep_delay").mean(),
        worst_delay=pl.col("dep_delay").max(),
    )
    features = windows.select(FEATURES).cast(pl.Float32).to_numpy(order="c")
    return Outcome(
        Results(
            windows["flight_id"],
            windows["departures"],
            windows["mean_delay"],
            windows["worst_delay"],
            model.probabilities(features),
        )
    )


if __name__ == "__main__":
    compete(run)
