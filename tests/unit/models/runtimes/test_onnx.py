"""The ONNX runtime opens what has the version's digest, and nothing else."""

import hashlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from penstock.core.errors import CorruptArtifact
from penstock.core.memory import give_back_memory, resident_bytes
from penstock.core.signature import Signature
from penstock.models.runtimes.onnx import OnnxRuntime

LARGE_ROWS = 1 << 25
DOUBLE = Signature.of(inputs={"x": "FP32[-1]"}, outputs={"y": "FP32[-1]"})


def write_graph(folder: Path) -> tuple[Path, str]:
    """A file that doubles x, and its digest."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = folder / "artifact"
    path.write_bytes(model.SerializeToString())
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def test_it_runs(tmp_path: Path) -> None:
    path, digest = write_graph(tmp_path)
    runtime = OnnxRuntime(path, DOUBLE, digest=digest)
    assert runtime.run({"x": np.array([1, 2], "<f4")}, 1.0)["y"].tolist() == [2, 4]
    runtime.close()


def test_at_rest_it_keeps_nothing_of_the_largest_run(tmp_path: Path) -> None:
    """In a process of its own: what other tests' libraries give back meanwhile would count, too."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        kept_bytes, left_bytes = process.submit(kept_and_left_bytes, tmp_path).result(timeout=60)
    assert kept_bytes > 0.9 * 4 * LARGE_ROWS, "it keeps it for the next one"
    assert left_bytes < 0.1 * 4 * LARGE_ROWS


def kept_and_left_bytes(folder: Path) -> tuple[int, int]:
    """What a runtime holds after a large run, and after it has rested."""
    path, digest = write_graph(folder)
    runtime = OnnxRuntime(path, DOUBLE, digest=digest)

    def held_bytes() -> int:
        give_back_memory()
        return resident_bytes()

    small = {"x": np.ones(1, "<f4")}
    runtime.run(small, 1.0)
    before_bytes = held_bytes()
    assert len(runtime.run({"x": np.ones(LARGE_ROWS, "<f4")}, 60.0)["y"]) == LARGE_ROWS
    kept_bytes = held_bytes() - before_bytes
    runtime.rest(small)
    left_bytes = held_bytes() - before_bytes
    assert runtime.run(small, 1.0)["y"].tolist() == [2]
    runtime.rest({"x": np.array(["no number"])})  # never raises
    runtime.close()
    runtime.rest(small)
    return kept_bytes, left_bytes


def test_another_digest_is_not_opened(tmp_path: Path) -> None:
    path, digest = write_graph(tmp_path)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(CorruptArtifact, match="is not the file that was pushed"):
        OnnxRuntime(path, DOUBLE, digest=digest)
