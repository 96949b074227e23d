"""Notes outlive whoever wrote them, and go when they are of no more use."""

import os
import shutil
from pathlib import Path

import msgspec
import pytest

from penstock.log.records import TopicPartition
from penstock.streams.at_work import PLACES, PLACES_AT, AtWork, Blamed, LeftNote, NoteFolder
from penstock.streams.suspicion import AccusedRows, Suspect

SOURCE = TopicPartition("events", 3)
OTHER = TopicPartition("events", 4)
RECORDS = Suspect(topic="events", partition=3, begin=5, end=9, count=4)
OTHERS = Suspect(topic="events", partition=4, begin=0, end=1, count=1)
ROWS = AccusedRows(topic="events", partition=3, step="map 1", rows=("ab", "cd"), count=2)


def dead(mine: AtWork, name: str = "gone") -> None:
    """As if its process had ended now: the file stays, and nobody has it locked."""
    shutil.copyfile(mine._path, mine._path.with_name(f"{name}.note"))


def left(folder: Path, identity: str = "other") -> list[LeftNote]:
    return list(NoteFolder(folder).left_by_others(identity))


def blamed(note: LeftNote, source: TopicPartition = SOURCE) -> tuple[Suspect | AccusedRows | None, bool] | None:
    found = note.about(source)
    return None if found is None else (found.rows or found.records, found.within)


@pytest.fixture
def mine(tmp_path: Path) -> AtWork:
    return NoteFolder(tmp_path / "notes").mine("other", 77)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "notes"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_a_function_had_is_to_blame_and_nothing_that_it_gave_back(mine: AtWork, folder: Path) -> None:
    mine.records(OTHERS)
    mine.returned()
    mine.records(msgspec.structs.replace(RECORDS, detail="x" * 100))
    mine.records(RECORDS)
    dead(mine)
    (folder / "gone.words").write_text("Aborted")
    (note,) = left(folder)
    assert (note.words, note.thread) == ("Aborted", 77)
    assert blamed(note) == (RECORDS, True)
    assert blamed(note, OTHER) is None
    assert blamed(note, TopicPartition("other", 3)) is None
    note.forget(OTHER)
    note.forget(SOURCE)
    assert names(folder) == {"other.note"}


def test_what_was_given_back_and_not_committed_is_to_blame_where_nothing_else_is(
    mine: AtWork, folder: Path
) -> None:
    for each in (OTHERS, RECORDS):
        mine.records(each)
        mine.returned()
    dead(mine)
    (note,) = left(folder)
    assert blamed(note) == (RECORDS, False)
    assert blamed(note, OTHER) == (OTHERS, False)
    note.forget(SOURCE)
    (note,) = left(folder)
    assert blamed(note) is None, "it counts once"
    assert blamed(note, OTHER) == (OTHERS, False), "whoever has that has not looked"


def test_what_is_committed_is_wiped(mine: AtWork, folder: Path) -> None:
    mine.records(RECORDS)
    mine.returned()
    mine.settled()
    dead(mine)
    assert left(folder) == []
    assert names(folder) == {"other.note"}


def test_rows_are_to_blame_rather_than_the_records_that_they_stand_amid(mine: AtWork, folder: Path) -> None:
    mine.records(RECORDS)
    mine.rows(ROWS)
    dead(mine)
    mine.rows_returned()
    dead(mine, "later")
    os.utime(folder / "gone.note", (1, 1))
    first, second = left(folder)
    assert blamed(first) == (ROWS, True)
    assert blamed(second) == (RECORDS, True)
    first.forget(SOURCE)
    assert names(folder) == {"other.note", "later.note"}


UNNAMED = msgspec.structs.replace(ROWS, rows=())
EMPTY = msgspec.structs.replace(ROWS, rows=(), count=0)


def test_where_rows_were_before_an_end_after_all_functions_is_of_either(mine: AtWork, folder: Path) -> None:
    for rows in (ROWS, EMPTY):
        mine.records(RECORDS)
        mine.rows(rows)
        mine.rows_returned()
        mine.returned()
        dead(mine)
        (note,) = left(folder)
        unclear = Blamed(records=RECORDS, rows=UNNAMED, within=False, unclear=True)
        assert note.about(SOURCE) == (unclear if rows is ROWS else Blamed(records=RECORDS, within=False))
        mine.settled()


def test_rows_alone_may_be_to_blame_after_all_functions_once_for_each_partition(
    mine: AtWork, folder: Path
) -> None:
    for rows in (ROWS, msgspec.structs.replace(ROWS, partition=4), EMPTY):
        mine.rows(rows)
        mine.rows_returned()
    dead(mine)
    (note,) = left(folder)
    assert note.about(SOURCE) == Blamed(rows=UNNAMED, within=False, unclear=True)
    note.forget(SOURCE)
    (note,) = left(folder)
    assert note.about(SOURCE) is None
    found = note.about(OTHER)
    assert found is not None
    assert found.unclear
    note.forget(OTHER)
    assert names(folder) == {"other.note"}
    mine.settled()
    dead(mine)
    assert left(folder) == []


def test_more_rows_than_there_is_room_for_are_only_counted(mine: AtWork, folder: Path) -> None:
    mine.rows(msgspec.structs.replace(ROWS, rows=("0123456789abcdef",) * 50_000, count=50_000))
    dead(mine)
    (note,) = left(folder)
    assert blamed(note) == (msgspec.structs.replace(ROWS, rows=(), count=50_000), True)


def test_more_partitions_than_there_are_places_go_without(mine: AtWork, folder: Path) -> None:
    for partition in range(PLACES + 1):
        mine.records(msgspec.structs.replace(RECORDS, partition=partition))
        mine.returned()
    dead(mine)
    (note,) = left(folder)
    for partition in (0, 3, PLACES - 1):
        assert note.about(TopicPartition("events", partition)) is not None
    assert note.about(TopicPartition("events", PLACES)) is None


def test_a_name_without_room_goes_without(mine: AtWork, folder: Path) -> None:
    mine.records(msgspec.structs.replace(RECORDS, topic="t" * 600))
    dead(mine)
    assert left(folder) == []


def test_notes_without_anything_go_with_their_owner(
    mine: AtWork, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dead(mine)
    (folder / "gone.words").write_text("Fatal Python error: Aborted")
    assert left(folder, "me") == []
    assert names(folder) == {"other.note"}, "the other one lives"
    assert "Fatal Python error: Aborted" in caplog.text


def test_one_who_lost_its_partitions_goes_on_with_its_note(mine: AtWork, folder: Path) -> None:
    """Who has the partition now has wiped what it says of that, and no more."""
    mine.records(OTHERS)
    mine.records(RECORDS)
    (note,) = left(folder, "me")
    assert not note.owner_gone()
    note.forget(SOURCE)
    (note,) = left(folder, "me")
    assert blamed(note) is None
    mine.returned()
    mine.settled()
    assert left(folder, "me") == []
    mine.records(RECORDS)
    (note,) = left(folder, "me")
    assert blamed(note) == (RECORDS, True)
    mine.close()
    assert names(folder) == set()


def test_what_is_no_note_is_passed_over(mine: AtWork, folder: Path) -> None:
    (folder / "short.note").write_bytes(b"short")
    dead(mine, "spoilt")
    content = bytearray((folder / "spoilt.note").read_bytes())
    content[PLACES_AT : PLACES_AT + 8] = b"\1\3\0\0\0xyz"
    (folder / "spoilt.note").write_bytes(content)
    assert left(folder) == []


def test_where_there_can_be_no_file_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        NoteFolder(tmp_path / "file").mine("me", 1)
