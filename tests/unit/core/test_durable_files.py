"""What is synced, in which order: seen by watching the calls, since nobody cuts the power here."""

import errno
import os
from pathlib import Path

import pytest

from penstock.core.durable_files import make_folder, replace_file, sync_folder


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The inodes of files and folders in the order in which they were synced."""
    inodes: list[int] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        fsync(descriptor)
        inodes.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", watched)
    return inodes


def inodes(*paths: Path) -> list[int]:
    return [path.stat().st_ino for path in paths]


def test_each_folder_is_made_and_the_one_above_it_synced(tmp_path: Path, synced: list[int]) -> None:
    make_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    assert synced == inodes(tmp_path, tmp_path / "a", tmp_path / "a" / "b")


def test_a_folder_that_is_there_costs_no_sync(tmp_path: Path, synced: list[int]) -> None:
    make_folder(tmp_path)
    assert synced == []


def test_a_file_in_the_way_of_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "a")
    with pytest.raises(OSError, match="a"):
        make_folder(tmp_path / "a" / "b")


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    before = os.listdir("/dev/fd")
    sync_folder(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync_folder(tmp_path / "missing")
    with pytest.raises(NotADirectoryError):
        sync_folder(Path(__file__))
    assert os.listdir("/dev/fd") == before


def test_a_file_is_synced_before_it_has_its_name_and_its_folder_after(
    tmp_path: Path, synced: list[int]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    replace_file(path, b"ne", b"w")
    assert path.read_bytes() == b"new"
    assert synced == inodes(path, tmp_path)
    assert os.listdir(tmp_path) == ["file"]


def test_a_disk_that_refuses_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_what_a_process_that_died_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "file.new").write_bytes(b"half of something that is long")
    replace_file(tmp_path / "file", b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["file"]
