"""The model that scores every departure: gradient boosting on the flight and on its window, as ONNX."""

from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.serving.model import rename_input
from benchmarks.streams.events import EventFiles
from benchmarks.streams.oracle import window_features

__all__ = ["MODEL_VERSION", "ensure_model"]

MODEL_VERSION = 1
"""Counts up when what is made here changes."""
TRAINING_FLIGHTS = 60_000
TREES = 25
SEED = 0


def ensure_model(folder: Path, events: EventFiles) -> Path:
    """Fit on the first flights of the year and convert, unless it was done before."""
    path, stamp = folder / "late.onnx", folder / "model.version"
    if stamp.exists() and stamp.read_text() == str(MODEL_VERSION):
        return path
    from skl2onnx import to_onnx
    from sklearn.ensemble import HistGradientBoostingClassifier

    flights, features = window_features(events.sparse)
    labels = pl.read_parquet(events.labels)["late"].to_numpy()[flights]
    rows = features[:TRAINING_FLIGHTS].astype(np.float32)
    model = HistGradientBoostingClassifier(max_iter=TREES, random_state=SEED).fit(
        rows, labels[:TRAINING_FLIGHTS]
    )
    graph = to_onnx(model, rows[:1], options={"zipmap": False})
    rename_input(graph.graph, "x")
    path.write_bytes(graph.SerializeToString())
    stamp.write_text(str(MODEL_VERSION))
    return path
