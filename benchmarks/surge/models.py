"""Models whose rows cost a known processor time, all taking 30 floats and giving two probabilities.

The ONNX graphs make a 64×64 matrix of each row and multiply it again and again with a rotation, so that a row
costs the same alone as in a batch: with vectors in place of matrices, a batch would cost hardly more than one
row and no load could be ten times capacity. How often is found by measuring, on the machine at hand.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.harness.report import machine
from benchmarks.serving.model import ModelFiles

__all__ = ["COSTS_MS", "FOREST", "Cost", "CostlyModel", "costly_graph", "ensure_models", "layers_for"]

FORM = 2
"""Counts up when what is made here changes, so that files of an older form are made anew."""

COSTS_MS = {"0.3ms": 0.3, "1ms": 1.0, "3ms": 3.0, "10ms": 10.0}
FOREST = "forest"
FOREST_MS = 4.0

FEATURES = 30
WIDTH = 64
ASKED_ROWS = 64
SAMPLE_ROWS = 128
BATCHES = (1, 8, 32)
MEASURE_S = 0.25
RUNS_MIN = 5
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Processor time of one run of a batch of `rows`, as the library itself takes it."""

    rows: int
    run_ms: float


@dataclass(frozen=True, kw_only=True)
class CostlyModel:
    """A model's files, and what it was measured to cost. `native` is served by its own library, holding the
    interpreter's lock; else ONNX Runtime runs it, which lets go of the lock.
    """

    name: str
    files: ModelFiles
    native: bool
    costs: tuple[Cost, ...]

    @property
    def row_ms(self) -> float:
        """Of a batch of one."""
        return self.costs[0].run_ms

    @property
    def busy_row_ms(self) -> float:
        """A row's part of what is run under load: of the largest batch, but a native model runs row by row."""
        most = self.costs[0] if self.native else self.costs[-1]
        return most.run_ms / most.rows

    def facts(self) -> dict[str, float]:
        return {f"run_ms_of_{cost.rows}": round(cost.run_ms, 3) for cost in self.costs}


def ensure_models(folder: Path, names: tuple[str, ...], say: Callable[[str], None]) -> dict[str, CostlyModel]:
    """The named models, made where that was not done before on this kind of machine."""
    return {name: _ensure(folder / name, name, say) for name in names}


def _ensure(folder: Path, name: str, say: Callable[[str], None]) -> CostlyModel:
    files = ModelFiles(folder=folder)
    facts = folder / "costs.json"
    stamp = {"form": FORM, "processor": machine()["processor"]}
    if facts.exists():
        known = json.loads(facts.read_text())
        if known["stamp"] == stamp:
            return _model(name, files, [Cost(**cost) for cost in known["costs"]])
    folder.mkdir(parents=True, exist_ok=True)
    costs = _make_forest(files) if name == FOREST else _make_graph(files, COSTS_MS[name])
    facts.write_text(json.dumps({"stamp": stamp, "costs": [vars(cost) for cost in costs]}))
    model = _model(name, files, costs)
    say(f"made the model {name}: " + ", ".join(f"{cost.rows} rows {cost.run_ms:.2f} ms" for cost in costs))
    return model


def _model(name: str, files: ModelFiles, costs: list[Cost]) -> CostlyModel:
    return CostlyModel(name=name, files=files, native=name == FOREST, costs=tuple(costs))


def layers_for(wanted_ms: float, few: tuple[int, float], many: tuple[int, float]) -> int:
    """How many layers cost `wanted_ms`, on the line through two measured points (layers, milliseconds)."""
    per_layer_ms = (many[1] - few[1]) / (many[0] - few[0])
    assert per_layer_ms > 0, "more layers cost more"
    fixed_ms = few[1] - per_layer_ms * few[0]
    return max(1, round((wanted_ms - fixed_ms) / per_layer_ms))


def _make_graph(files: ModelFiles, wanted_ms: float) -> list[Cost]:
    rows = _rows()
    few, many = (
        (layers, _run_ms(_session(costly_graph(layers)), rows[:1])) for layers in _tried_layers(wanted_ms)
    )
    files.onnx.write_bytes(costly_graph(layers_for(wanted_ms, few, many)))
    run = _session(files.onnx.read_bytes())
    _write_rows(files, rows, run)
    return [Cost(rows=count, run_ms=_run_ms(run, rows[:count])) for count in BATCHES]


def _tried_layers(wanted_ms: float) -> tuple[int, int]:
    """Few and many, around a first guess of 25 µs a layer."""
    guess = max(4, round(wanted_ms / 0.025))
    return guess // 2, guess


def costly_graph(layers: int) -> bytes:
    """The ONNX graph with so many multiplications: `x` [rows, 30] to `probabilities` [rows, 2]."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(SEED)
    rotation = np.linalg.qr(random.normal(size=(WIDTH, WIDTH)))[0]
    constants = {
        "widen": random.normal(size=(FEATURES, WIDTH)) / np.sqrt(FEATURES),
        "spread": random.normal(size=(1, 1, WIDTH)) / np.sqrt(WIDTH),
        "rotation": rotation,
        "decide": random.normal(size=(WIDTH, 2)) * 8,  # so that the answers spread from 0 to 1
        "last": np.array([2]),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "widen"], ["wide"]),
        helper.make_node("Unsqueeze", ["wide", "last"], ["column"]),
        helper.make_node("Mul", ["column", "spread"], ["matrix_0"]),
        *(
            helper.make_node("MatMul", [f"matrix_{layer}", "rotation"], [f"matrix_{layer + 1}"])
            for layer in range(layers)
        ),
        helper.make_node("ReduceMean", [f"matrix_{layers}"], ["folded"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["folded", "decide"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "costly",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", FEATURES])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", 2])],
        [
            numpy_helper.from_array(value.astype(np.int64 if name == "last" else np.float32), name)
            for name, value in constants.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    serialized: bytes = model.SerializeToString()
    return serialized


def _make_forest(files: ModelFiles) -> list[Cost]:
    import joblib
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier

    training, labels = make_classification(
        n_samples=4000, n_features=FEATURES, n_informative=15, random_state=SEED
    )
    rows = training[:SAMPLE_ROWS].round(4).astype(np.float32)

    def forest(trees: int) -> Callable[[np.ndarray], np.ndarray]:
        fitted = RandomForestClassifier(trees, max_depth=10, random_state=SEED).fit(training, labels)
        joblib.dump(fitted, files.native)
        predict: Callable[[np.ndarray], np.ndarray] = fitted.predict_proba
        return predict

    few, many = ((trees, _run_ms(forest(trees), rows[:1])) for trees in (20, 80))
    run = forest(layers_for(FOREST_MS, few, many))
    _write_rows(files, rows, run)
    return [Cost(rows=count, run_ms=_run_ms(run, rows[:count])) for count in BATCHES]


def _rows() -> np.ndarray:
    """Rows of four decimals, as measured values have."""
    return np.random.default_rng(SEED).normal(size=(SAMPLE_ROWS, FEATURES)).round(4).astype(np.float32)


def _write_rows(files: ModelFiles, rows: np.ndarray, run: Callable[[np.ndarray], np.ndarray]) -> None:
    np.save(files.samples, rows)
    asked = rows[:ASKED_ROWS]
    features = [[round(float(value), 4) for value in row] for row in asked]
    probabilities = [float(run(row[None])[0, 1]) for row in asked]
    files.asked.write_text(json.dumps({"features": features, "probabilities": probabilities}))


def _session(graph: bytes) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda rows: session.run(["probabilities"], {"x": rows})[0]


def _run_ms(run: Callable[[np.ndarray], np.ndarray], rows: np.ndarray) -> float:
    """The median processor time of a run, in milliseconds."""
    os.sched_yield()
    run(rows)
    taken: list[float] = []
    until_s = time.monotonic() + MEASURE_S
    while time.monotonic() < until_s or len(taken) < RUNS_MIN:
        start_s = time.process_time()
        run(rows)
        taken.append(time.process_time() - start_s)
    return float(np.median(taken)) * 1000
