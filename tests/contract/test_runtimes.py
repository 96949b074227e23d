"""One contract, held against every runtime: ONNX, a native library in a process, a Python callable in one."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from penstock.app.loading import file_version
from penstock.core.clock import SystemClock
from penstock.models.compilation import compile_to_onnx
from penstock.models.formats import open_native
from penstock.models.runtimes.onnx import OnnxRuntime
from penstock.models.runtimes.process import ProcessRuntime, WorkerCommand
from penstock.models.runtimes.runtime import Runtime
from penstock.models.version import SourceFormat

TIMEOUT_S = 60.0
APP = """
import joblib
import penstock as ps

app = ps.App("contract")
SIGNATURE = ps.Signature.of(
    inputs={"x": "FP32[-1, 3]"}, outputs={"label": "INT64[-1]", "probabilities": "FP32[-1, 2]"}
)


@app.callable("late", signature=SIGNATURE)
class Late:
    def __init__(self):
        self.model = joblib.load(FILE)

    def __call__(self, inputs):
        x = inputs["x"]
        return {"label": self.model.predict(x), "probabilities": self.model.predict_proba(x)}
"""


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(500, 3)).astype("<f4")


@pytest.fixture(scope="module")
def model(rows: np.ndarray) -> LogisticRegression:
    return LogisticRegression().fit(rows, (rows.sum(axis=1) > 0).astype(int))


@pytest.fixture(scope="module", params=["onnx", "native", "callable"])
def runtime(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, rows: np.ndarray, model: object
) -> Iterator[Runtime]:
    folder = tmp_path_factory.mktemp("runtime")
    file = folder / "late.joblib"
    joblib.dump(model, file)
    opened: Runtime = {"onnx": over_onnx, "native": over_native, "callable": over_callable}[request.param](
        folder, file, rows
    )
    yield opened
    opened.close()


def over_onnx(folder: Path, file: Path, rows: np.ndarray) -> Runtime:
    native = open_native(file, SourceFormat.PICKLE, trust_pickle=True, samples=rows)
    onnx, _ = compile_to_onnx(native, {"x": rows})
    assert onnx is not None
    graph = folder / "late.onnx"
    graph.write_bytes(onnx)
    return OnnxRuntime(graph, native.signature, digest=hashlib.sha256(onnx).hexdigest())


def over_native(folder: Path, file: Path, rows: np.ndarray) -> Runtime:
    import msgspec

    native = open_native(file, SourceFormat.PICKLE, trust_pickle=True, samples=rows)
    arguments = {
        "path": str(file),
        "digest": hashlib.sha256(file.read_bytes()).hexdigest(),
        "kind": "pickle",
        "trust_pickle": True,
        "signature": msgspec.to_builtins(native.signature),
    }
    loader = "penstock.models.runtimes.native:load_native"
    return ProcessRuntime(WorkerCommand(model="late", loader=loader, arguments=arguments), SystemClock())


def over_callable(folder: Path, file: Path, rows: np.ndarray) -> Runtime:
    app = folder / "app.py"
    app.write_text(APP.replace("FILE", repr(str(file))))
    arguments = {"file": str(app), "app": "contract", "model": "late", "version": file_version(app)}
    loader = "penstock.app.loading:load_callable"
    return ProcessRuntime(WorkerCommand(model="late", loader=loader, arguments=arguments), SystemClock())


@pytest.mark.parametrize("count", [1, 7, 500])
def test_answers_are_the_librarys(
    runtime: Runtime, rows: np.ndarray, model: LogisticRegression, count: int
) -> None:
    outputs = runtime.run({"x": rows[:count]}, TIMEOUT_S)
    assert outputs["label"].tolist() == model.predict(rows[:count]).tolist()
    np.testing.assert_allclose(outputs["probabilities"], model.predict_proba(rows[:count]), atol=1e-5)


def test_answers_keep_to_the_signature(runtime: Runtime, rows: np.ndarray) -> None:
    outputs = runtime.run({"x": rows[:3]}, TIMEOUT_S)
    assert list(outputs) == [spec.name for spec in runtime.signature.outputs]
    for spec in runtime.signature.outputs:
        assert outputs[spec.name].dtype == spec.dtype
        assert spec.fit_shape(outputs[spec.name].shape) == outputs[spec.name].shape


def test_rows_are_answered_by_themselves(runtime: Runtime, rows: np.ndarray) -> None:
    together = runtime.run({"x": rows[:20]}, TIMEOUT_S)["probabilities"]
    apart = [runtime.run({"x": rows[n : n + 1]}, TIMEOUT_S)["probabilities"] for n in range(20)]
    np.testing.assert_allclose(together, np.concatenate(apart), atol=1e-6)


def test_what_was_given_is_not_changed(runtime: Runtime, rows: np.ndarray) -> None:
    given = rows[:5].copy()
    runtime.run({"x": given}, TIMEOUT_S)
    assert np.array_equal(given, rows[:5])
