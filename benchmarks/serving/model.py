"""The one model and the rows that every system under test is given."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["MODEL_VERSION", "ModelFiles", "Rows", "ensure_model", "load_rows", "rename_input"]

MODEL_VERSION = 1
"""Counts up when what is made here changes, so that files of an older form are made anew."""

FEATURES = 30
TRAINING_ROWS = 20_000
ASKED_ROWS = 64
SAMPLE_ROWS = 2_000
SEED = 0


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """One folder: the fitted model, the same as ONNX (input `x`), sample rows, and rows to ask with answers."""

    folder: Path

    @property
    def native(self) -> Path:
        return self.folder / "late.joblib"

    @property
    def onnx(self) -> Path:
        return self.folder / "late.onnx"

    @property
    def samples(self) -> Path:
        return self.folder / "samples.npy"

    @property
    def asked(self) -> Path:
        return self.folder / "asked.json"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows to ask, with the probability that scikit-learn gives for each."""

    features: list[list[float]]
    probabilities: list[float]


def load_rows(files: ModelFiles) -> Rows:
    return Rows(**json.loads(files.asked.read_text()))


def ensure_model(folder: Path) -> ModelFiles:
    """Fit and convert, unless it was done before."""
    files = ModelFiles(folder=folder)
    stamp = folder / "version"
    if stamp.exists() and stamp.read_text() == str(MODEL_VERSION):
        return files
    folder.mkdir(parents=True, exist_ok=True)
    _make(files)
    stamp.write_text(str(MODEL_VERSION))
    return files


def _make(files: ModelFiles) -> None:
    import joblib
    from skl2onnx import to_onnx
    from sklearn.datasets import make_classification
    from sklearn.ensemble import HistGradientBoostingClassifier

    rows, labels = make_classification(
        n_samples=TRAINING_ROWS, n_features=FEATURES, n_informative=15, random_state=SEED
    )
    # Four decimals, as measured values have: what a request carries is then what the model was fitted on.
    rows = rows.round(4).astype(np.float32)
    model = HistGradientBoostingClassifier(max_iter=100, random_state=SEED).fit(rows, labels)
    joblib.dump(model, files.native)
    graph = to_onnx(model, rows[:1], options={"zipmap": False})
    rename_input(graph.graph, "x")
    files.onnx.write_bytes(graph.SerializeToString())
    np.save(files.samples, rows[:SAMPLE_ROWS])
    asked = rows[-ASKED_ROWS:]
    features = [[round(float(value), 4) for value in row] for row in asked]
    probabilities = [float(p) for p in model.predict_proba(asked)[:, 1]]
    files.asked.write_text(json.dumps({"features": features, "probabilities": probabilities}))


def rename_input(graph, name: str) -> None:  # type: ignore[no-untyped-def]
    """The graph's one input, wherever it is used."""
    before = graph.input[0].name
    graph.input[0].name = name
    for node in graph.node:
        for position, source in enumerate(node.input):
            if source == before:
                node.input[position] = name
