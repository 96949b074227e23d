"""New York's departures, scored as they leave the gate, by requests and in the stream alike."""

import os
from pathlib import Path

import polars as pl

import penstock as ps

HISTORY = Path(os.environ.get("PENSTOCK_HOME", ".penstock")) / "history"

app = ps.App("flights", objective=ps.Objective(latency_ms=100))

departures = app.stream(
    "departures",
    schema={
        "flight": pl.String,
        "carrier": pl.String,
        "origin": pl.String,
        "dest": pl.String,
        "distance": pl.Float64,
        "sched_dep_minute": pl.Float64,
        "sched_arr_minute": pl.Float64,
        "weekday": pl.Int64,
        "dep_delay": pl.Float64,
        "departed_at": pl.Int64,
    },
    time="departed_at",
    lateness="1h",
    expect={"distance is sane": pl.col("distance") > 0},
)
arrivals = app.stream(
    "arrivals",
    schema={
        "flight": pl.String,
        "carrier": pl.String,
        "dest": pl.String,
        "arr_delay": pl.Float64,
        "arrived_at": pl.Int64,
    },
    time="arrived_at",
    lateness="1h",
)
weather = app.stream(
    "weather",
    schema={
        "origin": pl.String,
        "temp": pl.Float64,
        "wind_speed": pl.Float64,
        "precip": pl.Float64,
        "visib": pl.Float64,
        "observed_at": pl.Int64,
    },
    time="observed_at",
    lateness="1h",
)

congestion = app.features(
    "congestion",
    departures.window(key="origin", over="2h", every="5m").agg(
        recent_departures=ps.count(), recent_delay=ps.mean("dep_delay"), worst_delay=ps.max("dep_delay")
    ),
    history=ps.parquet(HISTORY / "congestion", every="5s"),
)
punctuality = app.features(
    "punctuality",
    arrivals.window(key="carrier", over="6h", every="30m").agg(
        recent_arrivals=ps.count(), carrier_delay=ps.mean("arr_delay")
    ),
    history=ps.parquet(HISTORY / "punctuality", every="5s"),
)
conditions = app.features(
    "conditions",
    weather.latest(key="origin", ttl="6h", columns=["temp", "wind_speed", "precip", "visib"]),
    history=ps.parquet(HISTORY / "conditions", every="5s"),
)

late = app.model("late", features=[congestion, punctuality, conditions])
departures.score(late, outputs={"probabilities": pl.List(pl.Float32)}, into="predictions")
