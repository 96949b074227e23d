import errno
import fcntl
import hashlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, NoReturn, Self

import pytest

from penstock.core.errors import CorruptArtifact, InvalidInput, NotFound, StorageFailed
from penstock.models.registry import FolderArtifactStore

CONTENT = b"the bytes of a model" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(CONTENT)
    return path


def test_a_file_and_its_bytes_are_stored_alike(store: FolderArtifactStore, source: Path) -> None:
    stored = store.put(source)
    assert (stored.digest, stored.size_bytes) == (DIGEST, len(CONTENT))
    assert store.put(CONTENT).digest == DIGEST
    assert [artifact.digest for artifact in store.list()] == [DIGEST]
    assert store.fetch(DIGEST).read_bytes() == CONTENT
    assert os.listdir(store.root) == [DIGEST], "no temporary file stays"


def test_more_than_a_chunk_is_stored_whole(store: FolderArtifactStore) -> None:
    content = os.urandom(2_500_000)
    stored = store.put(content)
    assert stored.size_bytes == len(content)
    assert store.fetch(stored.digest).read_bytes() == content


def test_stored_files_are_read_only(store: FolderArtifactStore) -> None:
    assert store.fetch(store.put(CONTENT).digest).stat().st_mode & 0o222 == 0


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    replace(path, bytes(content))


def truncate(path: Path) -> None:
    replace(path, path.read_bytes()[:-1])


def empty(path: Path) -> None:
    replace(path, b"")


def replace(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, empty])
def test_damage_is_found_and_putting_the_file_again_mends_it(store: FolderArtifactStore, damage) -> None:
    path = store.fetch(store.put(CONTENT).digest)
    damage(path)
    with pytest.raises(CorruptArtifact) as caught:
        store.fetch(DIGEST)
    assert DIGEST in caught.value.message
    assert str(path) in caught.value.message
    assert "push the model again" in str(caught.value.hint)
    store.put(CONTENT)
    assert store.fetch(DIGEST).read_bytes() == CONTENT


def test_a_missing_artifact_is_named(store: FolderArtifactStore) -> None:
    with pytest.raises(CorruptArtifact, match=f"{DIGEST} is missing") as caught:
        store.fetch(DIGEST)
    assert caught.value.hint is not None
    assert not store.exists(DIGEST)
    assert store.stat(DIGEST) is None


@pytest.mark.parametrize("digest", ["", "../" + "a" * 61, "A" * 64, DIGEST + "0"])
def test_what_is_no_digest_never_reaches_the_folder(store: FolderArtifactStore, digest: str) -> None:
    for verb in (store.fetch, store.exists, store.delete):
        with pytest.raises(CorruptArtifact, match="is not a SHA-256"):
            verb(digest)


def test_a_missing_source_is_named(store: FolderArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no file .*nothing.onnx"):
        store.put(tmp_path / "nothing.onnx")


def test_a_source_that_is_no_file_is_named(store: FolderArtifactStore, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(InvalidInput, match="is not a file") as caught:
            store.put(path)
        assert caught.value.where == str(path)


def test_delete_twice_is_as_good_as_once(store: FolderArtifactStore) -> None:
    store.put(CONTENT)
    store.delete(DIGEST)
    store.delete(DIGEST)
    assert not store.exists(DIGEST)


def failing(error_number: int):
    def fail(*_: object) -> NoReturn:
        raise OSError(error_number, os.strerror(error_number))

    return fail


@pytest.mark.parametrize("error_number", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EDQUOT])
@pytest.mark.parametrize("call", ["fsync", "fchmod"])
def test_a_disk_that_refuses_leaves_nothing_behind(
    store: FolderArtifactStore, source: Path, monkeypatch: pytest.MonkeyPatch, error_number: int, call: str
) -> None:
    store.put(b"what was there before")
    monkeypatch.setattr(f"penstock.models.registry.artifacts.os.{call}", failing(error_number))
    with pytest.raises(StorageFailed, match=r"model.onnx was not stored in .*artifacts") as caught:
        store.put(source)
    assert os.strerror(error_number) in caught.value.message
    assert caught.value.hint is not None
    monkeypatch.undo()
    assert len(os.listdir(store.root)) == 1
    assert not store.exists(DIGEST)


def test_a_source_that_fails_while_read_is_the_sources_fault(
    store: FolderArtifactStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        read = staticmethod(failing(errno.EIO))

    monkeypatch.setattr("penstock.models.registry.artifacts.open_source", lambda _: Failing())
    with pytest.raises(InvalidInput, match=r"model.onnx cannot be read"):
        store.put(source)
    assert os.listdir(store.root) == []


def test_a_store_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_bytes(b"")
    store = FolderArtifactStore(tmp_path / "artifacts")
    for verb in (lambda: store.put(CONTENT), lambda: list(store.list()), lambda: store.fetch(DIGEST)):
        with pytest.raises(StorageFailed, match="artifacts"):
            verb()


def test_only_old_unfinished_files_are_swept(store: FolderArtifactStore) -> None:
    store.put(CONTENT)
    now = datetime(2030, 1, 1, tzinfo=UTC)
    for name, age_s in (("old", 20), ("young", 5)):
        part = store.root / f".{name}.part"
        part.write_bytes(b"123")
        written_at = now.timestamp() - age_s
        os.utime(part, (written_at, written_at))
    assert store.sweep(now - timedelta(seconds=10)) == (3,)
    assert sorted(os.listdir(store.root)) == [".young.part", DIGEST]


def test_a_store_that_is_not_there_yet_is_empty(store: FolderArtifactStore) -> None:
    assert list(store.list()) == []
    assert store.sweep(datetime(2030, 1, 1, tzinfo=UTC)) == ()


def test_putting_it_again_makes_it_young(store: FolderArtifactStore) -> None:
    path = store.fetch(store.put(CONTENT).digest)
    os.utime(path, (0, 0))
    store.put(CONTENT)
    stored = store.stat(DIGEST)
    assert stored is not None
    assert stored.stored_at.year > 1970


def test_the_files_of_puts_under_way_are_not_swept(tmp_path: Path) -> None:
    swept: list[tuple[int, ...]] = []
    store = FolderArtifactStore(
        tmp_path / "artifacts", on_step=lambda _: swept.append(store.sweep(datetime(2130, 1, 1, tzinfo=UTC)))
    )
    assert store.fetch(store.put(CONTENT).digest).read_bytes() == CONTENT
    assert swept == [(), (), ()]


def test_a_file_swept_before_it_was_locked_is_made_anew(
    store: FolderArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = 0
    flock = fcntl.flock

    def sweep_first(file: BinaryIO, operation: int) -> None:
        nonlocal locks
        locks += 1
        if locks == 1:
            Path(file.name).unlink()
        flock(file, operation)

    monkeypatch.setattr("penstock.models.registry.artifacts.fcntl.flock", sweep_first)
    assert store.fetch(store.put(CONTENT).digest).read_bytes() == CONTENT
    assert locks == 2


def test_sweeps_without_end_are_an_error_and_not_a_loop(
    store: FolderArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "penstock.models.registry.artifacts.fcntl.flock", lambda file, _: Path(file.name).unlink()
    )
    with pytest.raises(StorageFailed, match="swept at once"):
        store.put(CONTENT)
