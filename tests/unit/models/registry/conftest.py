"""A registry in a temporary folder, and candidates to push to it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.core.clock import ManualClock
from penstock.core.signature import Signature
from penstock.models.registry import Candidate, FolderArtifactStore, Registry
from penstock.models.version import RuntimeKind, SourceFormat

MakeCandidate = Callable[..., Candidate]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(tmp_path: Path) -> FolderArtifactStore:
    return FolderArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/penstock.db"


@pytest.fixture
def registry(database_url: str, store: FolderArtifactStore, clock: ManualClock) -> Iterator[Registry]:
    with Registry.open(database_url, store, clock=clock) as registry:
        yield registry


@pytest.fixture
def candidate(tmp_path: Path) -> MakeCandidate:
    def make(content: bytes = b"a model", **facts: Any) -> Candidate:
        source = tmp_path / "late.onnx"
        source.write_bytes(content)
        defaults: dict[str, Any] = {
            "model": "late",
            "signature": Signature.of(inputs={"x": "FP32[-1, 3]"}, outputs={"y": "FP32[-1]"}),
            "runtime": RuntimeKind.ONNX,
            "format": SourceFormat.ONNX,
            "source": source,
            "creator": "ada",
        }
        return Candidate(**{**defaults, **facts})

    return make
