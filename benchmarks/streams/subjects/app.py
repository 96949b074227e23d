"""The pipeline as a user writes it. `BENCH_MODEL_ONNX` names the model's file."""

import os
from dataclasses import dataclass

import numpy as np
import polars as pl

import penstock as ps
from benchmarks.streams.peers.contest import Departure, Model

__all__ = ["app"]

WINDOWED = ("flight_id", "departures", "mean_delay", "worst_delay")
FEATURES = ("dep_delay", "distance", "hour", "departures", "mean_delay", "worst_delay")


@dataclass(frozen=True)
class Scorer:
    """Adds the model's probability to frames, and leaves of them what is a result."""

    model: Model

    def __call__(self, frame: pl.DataFrame) -> pl.DataFrame:
        rows = np.empty((frame.height, len(FEATURES)), dtype=np.float32)
        for place, name in enumerate(FEATURES):
            rows[:, place] = frame.get_column(name).to_numpy()
        columns = [frame.get_column(name) for name in WINDOWED]
        probability = pl.Series("probability", self.model.probabilities(rows))
        return pl.DataFrame([*columns, probability, frame.get_column("_time"), frame.get_column("_offset")])


app = ps.App("late")
departures = app.stream("departures", schema=Departure, time="departed_at").filter(
    pl.col("dep_delay").is_not_null()
)
congestion = departures.window(key=["origin", "carrier"], over="1h", every="5m").agg(
    departures=ps.count(), mean_delay=ps.mean("dep_delay"), worst_delay=ps.max("dep_delay")
)
departures.enrich(congestion).map(Scorer(Model(os.environ["BENCH_MODEL_ONNX"]))).into("predictions")
