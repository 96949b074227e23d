"""What is concluded from notes: each counts once, and what got through is free."""

import shutil
from pathlib import Path

import pytest

from penstock.log.records import TopicPartition
from penstock.streams.at_work import NoteFolder
from penstock.streams.inquest import Findings, Inquest
from penstock.streams.last_words import SILENT
from penstock.streams.suspect_folder import SuspectFolder
from penstock.streams.suspicion import AccusedRows, Suspect

SOURCE = TopicPartition("events", 3)
ABORTED = "Fatal Python error: Aborted\n\nCurrent thread 0x0000000000000001 (most recent call first):\n"


class Workers:
    """Who come and go, and share a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes = NoteFolder(folder / "notes")
        self.suspects = SuspectFolder(folder / "suspects")
        self.count = 0

    def end(
        self,
        at: Suspect | AccusedRows,
        words: str = "",
        *,
        within: bool = True,
        before: AccusedRows | None = None,
    ) -> None:
        """One with that at work, or with that done and not committed, after rows that have returned."""
        self.count += 1
        mine = self.notes.mine("living", 1)
        if before is not None:
            mine.rows(before)
            mine.rows_returned()
        if isinstance(at, Suspect):
            mine.records(at)
            if not within:
                mine.returned()
        else:
            mine.rows(at)
            if not within:
                mine.rows_returned()
        shutil.copyfile(self.folder / "notes/living.note", self.folder / f"notes/ended {self.count}.note")
        mine.close()
        if words:
            (self.folder / f"notes/ended {self.count}.words").write_text(words)

    def hold(self, position: int = 0, source: TopicPartition = SOURCE) -> Findings:
        return Inquest(self.suspects, self.notes, "me", 5.0).hold(source, position)


@pytest.fixture
def workers(tmp_path: Path) -> Workers:
    return Workers(tmp_path)


def records(begin: int, end: int, partition: int = 3) -> Suspect:
    return Suspect(topic="events", partition=partition, begin=begin, end=end, count=end - begin, sure=True)


def test_where_nobody_ended_nobody_is_suspected(workers: Workers) -> None:
    assert workers.hold() == Findings()


def test_what_was_at_work_is_suspected_by_whoever_has_the_partition(
    workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    workers.end(records(5, 25), words=ABORTED)
    workers.end(records(0, 9, partition=1))
    found = workers.hold().suspect
    assert found is not None
    assert (found.begin, found.end, found.reason, found.detail) == (5, 25, "crashed", "Aborted")
    assert (found.sure, found.ends, found.alone) == (False, 1, 0)
    assert "20 records from offset 5 suspected: crashed: Aborted" in caplog.text
    assert "Fatal Python error" in caplog.text
    assert workers.hold().suspect == found, "a note counts once, and what it said is kept"
    other = workers.hold(source=TopicPartition("events", 1)).suspect
    assert other is not None
    assert (other.count, other.detail) == (9, SILENT)


def test_what_was_committed_since_has_got_through(workers: Workers) -> None:
    workers.end(records(5, 25))
    assert workers.hold(position=25) == Findings()
    workers.end(records(25, 50))
    assert workers.hold(position=25).suspect is not None
    assert workers.hold(position=50) == Findings()
    assert workers.suspects.find(SOURCE) is None


def test_a_fatal_signal_counts_half_where_no_function_was_at_work_any_more(workers: Workers) -> None:
    for _ in range(4):
        workers.end(records(7, 8), words=ABORTED.replace("Aborted", "Bus error"), within=False)
    found = workers.hold().suspect
    assert found is not None
    assert not found.found
    assert found.detail == "Bus error; its functions had returned"


def test_several_notes_are_taken_in_their_order(workers: Workers) -> None:
    for each in (records(5, 25), records(7, 8), records(7, 8)):
        workers.end(each, words=ABORTED)
    found = workers.hold().suspect
    assert found is not None
    assert found.found


def test_rows_are_accused_beside_records(workers: Workers) -> None:
    workers.end(records(5, 25))
    workers.end(AccusedRows(topic="events", partition=3, step="map 1", count=4))
    found = workers.hold()
    assert found.suspect is not None
    assert found.rows is not None
    assert (found.rows.step, found.rows.count, found.rows.ends) == ("map 1", 4, 1)


def test_where_nothing_can_be_kept_the_notes_stay(
    workers: Workers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "suspects").touch()
    for count, each in enumerate((records(5, 25), records(7, 8), records(7, 8)), start=1):
        workers.end(each, words=ABORTED)
        found = workers.hold().suspect
        assert found is not None
        assert found.ends == count
    assert found.found
    assert "is not kept" in caplog.text


def test_fatal_signals_of_another_thread_count_half(workers: Workers) -> None:
    for _ in range(4):
        workers.end(records(7, 8), words=ABORTED.replace("01 (", "02 ("))
    found = workers.hold().suspect
    assert found is not None
    assert (found.found, found.alone) == (False, 3)
    workers.end(records(7, 8), words=ABORTED.replace("01 (", "02 ("))
    found = workers.hold().suspect
    assert found is not None
    assert found.found


def test_who_lives_has_ended_of_nothing_and_tells_once_it_has(workers: Workers) -> None:
    """It has lost its lease amid a function that held the interpreter's lock."""
    mine = workers.notes.mine("living", 1)
    mine.records(records(5, 25))
    assert workers.hold() == Findings()
    assert workers.suspects.find(SOURCE) is None
    mine.leave()
    found = workers.hold().suspect
    assert found is not None
    assert (found.begin, found.ends) == (5, 1)


def test_where_a_function_had_no_rows_what_is_known_stays(workers: Workers) -> None:
    rows = AccusedRows(topic="events", partition=3, step="map 1", rows=("ab", "cd"), count=2)
    workers.end(rows, words=ABORTED)
    known = workers.hold().rows
    assert known is not None
    workers.end(AccusedRows(topic="events", partition=3, step="map 1"), words=ABORTED)
    assert workers.hold().rows == known
    assert list(workers.notes.left_by_others("me")) == [], "that counts once, too"


MADE = AccusedRows(topic="events", partition=3, step="map 1", count=4, plan="p")


def test_of_ends_after_all_functions_the_third_makes_suspects_where_rows_were_at_work_too(
    workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    for ends in (1, 2):
        workers.end(records(5, 25), within=False, before=MADE)
        assert workers.hold() == Findings(ends=ends)
        assert "nobody is suspected yet" in caplog.text
    assert workers.hold() == Findings(ends=2), "a note counts once"
    workers.end(records(5, 25), within=False, before=MADE)
    found = workers.hold()
    assert found.suspect is not None
    assert (found.suspect.begin, found.suspect.end, found.rows) == (5, 25, None)
    workers.end(records(5, 6), within=False, before=MADE)
    found = workers.hold()
    assert found.suspect is not None
    assert (found.suspect.count, found.suspect.alone) == (1, 1), "from then on each one counts"


def test_what_was_committed_counts_as_no_end(workers: Workers) -> None:
    for _ in range(3):
        workers.end(records(5, 25), within=False, before=MADE)
    assert workers.hold(position=25) == Findings()


def test_of_a_single_record_the_made_rows_are_set_aside_before_it_is(workers: Workers) -> None:
    for each in (records(5, 25), records(5, 25), records(5, 25), records(7, 8)):
        workers.end(each, within=False, before=MADE)
    for _ in range(3):
        workers.end(records(7, 8), within=False, before=MADE)
    found = workers.hold()
    assert found.suspect is not None
    assert found.rows is not None
    assert not found.suspect.found
    assert (found.rows.withheld, found.rows.until, found.rows.plan) == (True, 8, "p")
    assert workers.hold() == found, "it is kept"
    workers.end(records(7, 8), within=False)
    found = workers.hold()
    assert found.suspect is not None
    assert found.suspect.found, "without rows it ended, too"
    assert found.rows is None
    assert workers.suspects.find_rows(SOURCE) is None


def test_rows_of_time_alone_are_set_aside_after_the_third_end(workers: Workers) -> None:
    for ends in (1, 2):
        workers.end(MADE, within=False)
        assert workers.hold() == Findings(ends=ends)
    workers.end(MADE, within=False)
    found = workers.hold()
    assert found.suspect is None
    assert found.rows is not None
    assert (found.rows.withheld, found.rows.until, found.rows.ends) == (True, -1, 3)
