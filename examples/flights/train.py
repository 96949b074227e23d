"""Trains the demo's model on January to March; writes the model and sample rows to push it with."""

from pathlib import Path

import joblib
import polars as pl
from examples.flights.data import FEATURES, NUMBER_FEATURES, TEXT_FEATURES
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

SAMPLE_ROWS = 20_000


def train(departures: pl.DataFrame) -> Pipeline:
    """A pipeline fitted on the first quarter's flights of which the delay is known."""
    known = departures.filter(pl.col("month") <= 3, pl.col("late").is_not_null())
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    model = Pipeline(
        [
            (
                "columns",
                ColumnTransformer(
                    [("text", encoder, TEXT_FEATURES), ("numbers", "passthrough", NUMBER_FEATURES)]
                ),
            ),
            ("trees", HistGradientBoostingClassifier(max_iter=100, random_state=0)),
        ]
    )
    return model.fit(known.select(FEATURES), known["late"].to_numpy().astype(int))


def write(model: Pipeline, departures: pl.DataFrame, folder: Path) -> tuple[Path, Path]:
    """The model's file and its samples' file, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    model_file, samples_file = folder / "late.joblib", folder / "samples.parquet"
    joblib.dump(model, model_file)
    known = departures.filter(pl.col("month") <= 3).select(FEATURES)
    known.sample(SAMPLE_ROWS, seed=0).write_parquet(samples_file)
    return model_file, samples_file
