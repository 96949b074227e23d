import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from penstock.core.errors import InvalidInput, StorageFailed
from penstock.models.push import Provenance, prepare
from penstock.models.registry.artifacts import FolderArtifactStore
from penstock.models.registry.candidate import Candidate
from penstock.models.registry.registry import Registry


def linear() -> onnx.ModelProto:
    weights = numpy_helper.from_array(np.ones((64, 64), dtype=np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 64])],
        [weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def prepared(file: Path) -> Candidate:
    provenance = Provenance(creator="ann")
    return prepare("linear", file, samples=None, trust_pickle=False, provenance=provenance)


def test_a_graph_with_weights_beside_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "linear.onnx"
    onnx.save_model(linear(), file, save_as_external_data=True, location="weights", size_threshold=0)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match="keeps its weights in another file") as caught:
        prepared(file)
    assert "save_as_external_data=False" in (caught.value.hint or "")


def test_the_digest_is_that_of_what_was_opened(tmp_path: Path) -> None:
    file = tmp_path / "linear.onnx"
    onnx.save_model(linear(), file)
    assert prepared(file).source_digest == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_file_that_changes_before_it_is_stored_makes_no_version(tmp_path: Path) -> None:
    file = tmp_path / "linear.onnx"
    onnx.save_model(linear(), file)
    candidate = prepared(file)
    file.write_bytes(file.read_bytes() + b"\0")
    store = FolderArtifactStore(tmp_path / "artifacts")
    with Registry.open(f"sqlite:///{tmp_path / 'control.db'}", store) as registry:
        with pytest.raises(StorageFailed, match="changed while it was pushed"):
            registry.push(candidate)
        assert registry.models() == ()
