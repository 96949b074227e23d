"""Suspects are kept by partition."""

from pathlib import Path

from penstock.log.records import TopicPartition
from penstock.streams.suspect_folder import SuspectFolder
from penstock.streams.suspicion import AccusedRows, Suspect

SOURCE = TopicPartition("events", 3)


def test_suspects_are_kept_by_partition(tmp_path: Path) -> None:
    folder = SuspectFolder(tmp_path / "new")
    suspect = Suspect(topic="events", partition=3, begin=5, end=9, count=4, detail="slow", ends=2, alone=1)
    assert folder.find(SOURCE) is None
    folder.clear(SOURCE)
    folder.keep(suspect)
    assert folder.find(SOURCE) == suspect
    assert folder.find(TopicPartition("events", 2)) is None
    folder.clear(SOURCE)
    assert folder.find(SOURCE) is None


def test_rows_are_kept_beside_them(tmp_path: Path) -> None:
    folder = SuspectFolder(tmp_path / "new")
    accused = AccusedRows(
        topic="events", partition=3, step="map 1", rows=("ab",), found={"cd": ("crashed", "Aborted")}, until=9
    )
    folder.keep_rows(accused)
    assert folder.find_rows(SOURCE) == accused
    assert folder.find(SOURCE) is None
    folder.clear_rows(SOURCE)
    assert folder.find_rows(SOURCE) is None


def test_what_cannot_be_read_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "events-3.json").write_text("{")
    (tmp_path / "events-3.rows.json").write_text("[]")
    assert SuspectFolder(tmp_path).find(SOURCE) is None
    assert SuspectFolder(tmp_path).find_rows(SOURCE) is None
