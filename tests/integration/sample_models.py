"""Models as users have them: trained here, saved by their own libraries, with sample rows beside them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import polars as pl
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

CARRIERS = ("AA", "B6", "Zürich Air")
ORIGINS = ("EWR", "JFK", "LGA")
TEXT = ["carrier", "origin"]
NUMBERS = ["delay", "distance"]
COLUMNS = [*TEXT, *NUMBERS]
SAMPLE_ROWS = 12_000
MATRIX_COLUMNS = 6


@dataclass(frozen=True, kw_only=True)
class SampleModel:
    """A saved model, the rows that it was fitted on, and the library's own object: the oracle."""

    file: Path
    samples: Path
    rows: Any
    native: Any


def make_flights(rows: int, seed: int) -> pl.DataFrame:
    """Flights with two columns of text and two of numbers, no two alike."""
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "carrier": random.choice(CARRIERS, rows),
            "origin": random.choice(ORIGINS, rows),
            "delay": random.normal(10, 30, rows).astype(np.float32),
            "distance": random.uniform(100, 5000, rows).astype(np.float32),
        }
    )


def late_pipeline(folder: Path) -> SampleModel:
    """A pipeline over named columns whose encoder knows its categories only, and that has no place for NaN."""
    flights = make_flights(SAMPLE_ROWS, seed=1)
    random = np.random.default_rng(2)
    late = flights["delay"].to_numpy() + random.normal(0, 20, SAMPLE_ROWS) > np.where(
        flights["carrier"].to_numpy() == "AA", 25, 10
    )
    model = Pipeline(
        [
            (
                "columns",
                ColumnTransformer([("text", OneHotEncoder(), TEXT), ("numbers", StandardScaler(), NUMBERS)]),
            ),
            ("linear", LogisticRegression()),
        ]
    ).fit(flights, np.where(late, "late", "on time"))
    file, samples = folder / "late.joblib", folder / "late.parquet"
    joblib.dump(model, file)
    flights.write_parquet(samples)
    return SampleModel(file=file, samples=samples, rows=flights, native=model)


def make_matrix(rows: int, seed: int) -> Any:
    return np.random.default_rng(seed).normal(size=(rows, MATRIX_COLUMNS)).astype(np.float32)


def _labelled(folder: Path) -> tuple[Any, Any, Path]:
    matrix = make_matrix(SAMPLE_ROWS, seed=3)
    labels = (matrix[:, 0] * matrix[:, 1] + matrix[:, 2] > 0).astype(np.int64)
    samples = folder / "matrix.npy"
    np.save(samples, matrix)
    return matrix, labels, samples


def linear_onnx(folder: Path) -> SampleModel:
    """An ONNX file of a logistic regression over a matrix."""
    from skl2onnx import to_onnx

    matrix, labels, samples = _labelled(folder)
    model = LogisticRegression().fit(matrix, labels)
    file = folder / "linear.onnx"
    file.write_bytes(to_onnx(model, matrix[:1], options={"zipmap": False}).SerializeToString())
    return SampleModel(file=file, samples=samples, rows=matrix, native=model)


def xgboost_file(folder: Path, suffix: str) -> SampleModel:
    import xgboost

    matrix, labels, samples = _labelled(folder)
    model = xgboost.XGBClassifier(n_estimators=5, max_depth=3, n_jobs=1).fit(matrix, labels)
    file = folder / f"trees{suffix}"
    model.get_booster().save_model(file)
    return SampleModel(file=file, samples=samples, rows=matrix, native=model)


def lightgbm_text(folder: Path) -> SampleModel:
    import lightgbm

    matrix, labels, samples = _labelled(folder)
    model = lightgbm.LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1).fit(matrix, labels)
    file = folder / "leaves.txt"
    model.booster_.save_model(file)
    return SampleModel(file=file, samples=samples, rows=matrix, native=model)
