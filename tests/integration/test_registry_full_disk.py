"""The registry on a disk that is really full, and past a real limit on the size of files."""

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from penstock.core.errors import StorageFailed
from penstock.core.signature import Signature
from penstock.models.registry import Candidate, FolderArtifactStore, Registry
from penstock.models.version import RuntimeKind, SourceFormat

PUSHES_MAX = 200


def make_candidate(folder: Path, content: bytes, parameter: str = "") -> Candidate:
    source = folder / "model.onnx"
    source.write_bytes(content)
    return Candidate(
        model="late",
        signature=Signature.of(inputs={"x": "FP32[-1]"}, outputs={"y": "FP32[-1]"}),
        runtime=RuntimeKind.ONNX,
        format=SourceFormat.ONNX,
        source=source,
        creator="test",
        parameters={"parameter": parameter},
    )


@contextmanager
def file_size_limit(limit_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def push_until_refused(registry: Registry, candidate: Candidate) -> tuple[int, StorageFailed]:
    for pushed in range(PUSHES_MAX):
        try:
            registry.push(candidate)
        except StorageFailed as error:
            return pushed, error
    raise AssertionError("the disk never filled up")


def check_whole(registry: Registry, store: FolderArtifactStore, pushed: int) -> None:
    versions = registry.versions("late")
    assert [version.number for version in versions] == list(range(pushed, 0, -1))
    for version in versions:
        registry.fetch(version)
    assert not [name for name in os.listdir(store.root) if name.endswith(".part")]


def test_an_artifact_past_a_limit_is_refused_whole(tmp_path: Path) -> None:
    store = FolderArtifactStore(tmp_path / "artifacts")
    with Registry.open(f"sqlite:///{tmp_path}/penstock.db", store) as registry:
        registry.push(make_candidate(tmp_path, b"small"))
        large = make_candidate(tmp_path, b"x" * 3_000_000)
        with file_size_limit(2_000_000), pytest.raises(StorageFailed, match="was not stored in") as caught:
            registry.push(large)
        assert "ulimit -f" in str(caught.value.hint)
        check_whole(registry, store, 1)
        assert registry.push(large).number == 2


def test_a_database_past_a_limit_refuses_and_goes_on_after(tmp_path: Path) -> None:
    store = FolderArtifactStore(tmp_path / "artifacts")
    with Registry.open(f"sqlite:///{tmp_path}/penstock.db", store) as registry:
        candidate = make_candidate(tmp_path, b"content", parameter="x" * 50_000)
        with file_size_limit(1_000_000):
            pushed, error = push_until_refused(registry, candidate)
            check_whole(registry, store, pushed)
        assert "no version of late was pushed" in error.message
        assert pushed > 1
        assert registry.push(candidate).number == pushed + 1
        check_whole(registry, store, pushed + 1)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as stream, suppress(OSError):
        while True:
            stream.write(b"x" * 4096)


@pytest.mark.parametrize("parameter_length", [0, 20_000], ids=["artifacts", "rows"])
def test_a_full_disk_refuses_a_push_and_keeps_what_it_has(
    small_disk: Path, tmp_path: Path, parameter_length: int
) -> None:
    store = FolderArtifactStore(small_disk / "artifacts")
    with Registry.open(f"sqlite:///{small_disk}/penstock.db", store) as registry:
        candidate = make_candidate(tmp_path, b"x" * 5_000, parameter="x" * parameter_length)
        ballast = small_disk / "ballast"
        if parameter_length:
            pushed, error = push_until_refused(registry, candidate)
        else:
            registry.push(candidate)
            fill(ballast)
            more, error = push_until_refused(registry, candidate)
            pushed = 1 + more
        assert error.hint is not None
        check_whole(registry, store, pushed)

        ballast.unlink(missing_ok=True)
        if not parameter_length:
            assert "the disk is full" in error.hint
            assert registry.push(candidate).number == pushed + 1
            check_whole(registry, store, pushed + 1)
