"""Departures scored in the stream by a model of the registry, with features of their own window, which are kept
for requests, too.
"""

import polars as pl

import penstock as ps
from benchmarks.streams.peers.contest import Departure

__all__ = ["app"]

INPUTS = ["dep_delay", "distance", "hour", "departures", "mean_delay", "worst_delay"]

app = ps.App("late")
departures = app.stream("departures", schema=Departure, time="departed_at").filter(
    pl.col("dep_delay").is_not_null()
)
congestion = app.features(
    "congestion",
    departures.window(key=["origin", "carrier"], over="1h", every="5m").agg(
        departures=ps.count(), mean_delay=ps.mean("dep_delay"), worst_delay=ps.max("dep_delay")
    ),
)
app.model("late")
departures.enrich(congestion).score(
    "late", inputs={"x": INPUTS}, outputs={"probabilities": pl.List(pl.Float32)}, into="predictions"
)
