"""Snapshots: the newest that is whole counts, and what it was before stays until then."""

from pathlib import Path

import pytest

from penstock.core.errors import StorageFailed
from penstock.streams.state import Snapshot, SnapshotFolder


def write(folder: SnapshotFolder, *offsets: int) -> list[int]:
    return [folder.write(Snapshot(offset=offset, state=f"state {offset}".encode())) for offset in offsets]


def offsets(folder: SnapshotFolder) -> list[int]:
    found = list(folder.newest_first())
    assert all(each.state == f"state {each.offset}".encode() for each in found)
    return [each.offset for each in found]


def test_the_last_two_are_kept_and_say_what_of_the_changelog_is_needed(tmp_path: Path) -> None:
    folder = SnapshotFolder(tmp_path / "new")
    assert offsets(folder) == []
    assert write(folder, 5, 90, 700) == [0, 5, 90]
    assert offsets(folder) == [700, 90]


@pytest.mark.parametrize("place", [0, 10, 20, 30, -1])
def test_one_with_a_flipped_bit_is_passed_over(tmp_path: Path, place: int) -> None:
    folder = SnapshotFolder(tmp_path)
    write(folder, 5, 90)
    path = max(tmp_path.iterdir())
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    assert offsets(folder) == [5]


@pytest.mark.parametrize("length", [0, 3, 28, 33])
def test_one_that_was_cut_off_is_passed_over(tmp_path: Path, length: int) -> None:
    folder = SnapshotFolder(tmp_path)
    write(folder, 5, 90)
    path = max(tmp_path.iterdir())
    path.write_bytes(path.read_bytes()[:length])
    assert offsets(folder) == [5]


def test_a_damaged_one_is_not_counted_among_those_kept(tmp_path: Path) -> None:
    folder = SnapshotFolder(tmp_path)
    write(folder, 5, 90)
    max(tmp_path.iterdir()).write_bytes(b"")
    assert write(folder, 200) == [5]
    assert offsets(folder) == [200, 5]


def test_one_under_another_ones_name_is_none(tmp_path: Path) -> None:
    folder = SnapshotFolder(tmp_path)
    write(folder, 5)
    (path,) = tmp_path.iterdir()
    path.rename(path.with_name(path.name.replace("5", "6")))
    assert offsets(folder) == []


def test_what_was_half_written_is_removed(tmp_path: Path) -> None:
    folder = SnapshotFolder(tmp_path)
    (tmp_path / "00000000000000000001.state.new").write_bytes(b"half")
    write(folder, 5)
    assert [path.suffix for path in tmp_path.iterdir()] == [".state"]


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailed, match="snapshot"):
        write(SnapshotFolder(tmp_path / "file"), 5)
