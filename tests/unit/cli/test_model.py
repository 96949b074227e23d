from datetime import UTC, datetime

import pytest

from penstock.cli.model import _pulled_names
from penstock.core.errors import CorruptArtifact
from penstock.core.signature import Signature
from penstock.models.version import Artifact, Lineage, ModelVersion, RuntimeKind, SourceFormat


def version(source: str, compiled: str | None) -> ModelVersion:
    def artifact(name: str) -> Artifact:
        return Artifact(digest="0" * 64, size_bytes=1, filename=name)

    return ModelVersion(
        model="late",
        number=1,
        signature=Signature.of(inputs={"x": "FP32[-1]"}, outputs={"y": "FP32[-1]"}),
        runtime=RuntimeKind.ONNX,
        format=SourceFormat.ONNX,
        source=artifact(source),
        compiled=None if compiled is None else artifact(compiled),
        golden=None,
        trusted_pickle=False,
        compilations=(),
        metrics={},
        parameters={},
        lineage=Lineage(),
        creator="ann",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        digest="0" * 64,
    )


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "a\0b"])
def test_a_name_that_leads_out_of_the_folder_is_refused(name: str) -> None:
    with pytest.raises(CorruptArtifact, match="late:1"):
        _pulled_names(version(name, "model.onnx"))
    with pytest.raises(CorruptArtifact, match="cannot name its compiled file"):
        _pulled_names(version("late.joblib", name))


def test_two_files_have_two_names() -> None:
    assert _pulled_names(version("late.joblib", None)) == {"source": "late.joblib"}
    expected = {"source": "Model.onnx", "compiled": "compiled-model.onnx"}
    assert _pulled_names(version("Model.onnx", "model.onnx")) == expected
