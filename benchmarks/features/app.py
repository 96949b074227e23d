"""The app whose requests are measured: of a model without features, and of one with those of two views."""

import polars as pl

import penstock as ps

app = ps.App("bench", objective=ps.Objective(latency_ms=60_000))
departures = app.stream(
    "departures",
    schema={"origin": pl.Int64, "carrier": pl.Int64, "delay": pl.Float64, "at": pl.Int64},
    time="at",
)
congestion = app.features(
    "congestion",
    departures.window(key="origin", over="1h", every="5m", name="by origin").agg(
        departures=ps.count(), mean_delay=ps.mean("delay"), worst_delay=ps.max("delay")
    ),
    defaults={"mean_delay": 0.0, "worst_delay": 0.0},
)
punctuality = app.features(
    "punctuality",
    departures.window(key="carrier", over="1h", every="5m", name="by carrier").agg(
        flights=ps.count(), mean=ps.mean("delay"), least=ps.min("delay")
    ),
    defaults={"mean": 0.0, "least": 0.0},
)
app.model("plain")
app.model("featured", features=[congestion, punctuality])
