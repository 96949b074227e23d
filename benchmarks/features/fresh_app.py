"""The app whose features are to be fresh."""

import polars as pl

import penstock as ps

app = ps.App("fresh")
departures = app.stream(
    "departures", schema={"origin": pl.String, "delay": pl.Float64, "at": pl.Int64}, time="at", key="origin"
)
app.features(
    "congestion",
    departures.window(key="origin", over="1h", every="5m").agg(
        departures=ps.count(), mean_delay=ps.mean("delay"), worst_delay=ps.max("delay")
    ),
)
