"""Trains the demo's model on January to March; writes the model and sample rows to push it with."""

from pathlib import Path

import joblib
import polars as pl
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

TEXTS = ["carrier", "origin", "dest"]
NUMBERS = ["dep_delay", "distance", "sched_dep_minute", "sched_arr_minute", "weekday"]
"""What is known of a flight when it leaves the gate: a request has these, and `TEXTS`."""
FEATURES = [
    "recent_departures", "recent_delay", "worst_delay",
    "recent_arrivals", "carrier_delay",
    "temp", "wind_speed", "precip", "visib",
]  # fmt: skip
"""What the streams know of its airport and its carrier by then."""
SAMPLE_ROWS = 20_000


def train(flights: pl.DataFrame) -> Pipeline:
    """A pipeline fitted on flights with their features and `late`."""
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = ColumnTransformer([("text", encoder, TEXTS), ("numbers", "passthrough", [*NUMBERS, *FEATURES])])
    model = Pipeline(
        [("columns", columns), ("trees", HistGradientBoostingClassifier(max_iter=100, random_state=0))]
    )
    return model.fit(rows_of(flights), flights["late"].to_numpy().astype(int))


def write(model: Pipeline, flights: pl.DataFrame, folder: Path) -> tuple[Path, Path]:
    """The model's file and its samples' file, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    model_file, samples_file = folder / "late.joblib", folder / "samples.parquet"
    joblib.dump(model, model_file)
    rows_of(flights).sample(min(SAMPLE_ROWS, flights.height), seed=0).write_parquet(samples_file)
    return model_file, samples_file


def rows_of(flights: pl.DataFrame) -> pl.DataFrame:
    """As the model takes them."""
    numbers = [pl.col(name).cast(pl.Float32) for name in (*NUMBERS, *FEATURES)]
    return flights.select(*TEXTS, *numbers)
