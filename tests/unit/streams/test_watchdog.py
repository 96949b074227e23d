"""What hangs is found by halves."""

from pathlib import Path

import numpy as np
import pytest

from penstock.core.clock import ManualClock
from penstock.log.records import Fetched, Records, TopicPartition
from penstock.streams.suspect_folder import SuspectFolder
from penstock.streams.suspicion import AccusedRows, Suspect, pieces
from penstock.streams.watchdog import HUNG_STATUS, Watchdog

SOURCE = TopicPartition("events", 3)


def fetched(begin: int, count: int, step: int = 1) -> Fetched:
    offsets = np.arange(begin, begin + count * step, step, dtype=np.int64)
    return Fetched(
        source=SOURCE,
        offsets=offsets,
        records=Records(
            values=[str(offset).encode() for offset in offsets],
            times_ms=offsets,
            keys=[b"k"] * count,
            headers=[None] * count,
        ),
        next_offset=begin + count * step,
    )


@pytest.mark.parametrize("culprit", [0, 1, 42, 63, 98, 99])
@pytest.mark.parametrize("step", [1, 3])
def test_the_culprit_is_found_and_all_others_are_processed(tmp_path: Path, culprit: int, step: int) -> None:
    clock, folder = ManualClock(), SuspectFolder(tmp_path)
    records = fetched(1000, 100, step)
    poison = str(1000 + culprit * step).encode()
    for _ in range(12):
        ended: list[int] = []
        watchdog = Watchdog(folder, 5.0, clock, ended.append)
        suspect = folder.find(SOURCE)
        done: list[bytes] = []
        for piece, found in pieces(records, suspect) if suspect is not None else [(records, False)]:
            if found:
                assert list(piece.records.values) == [poison]
                continue
            watchdog.begin(piece)
            if poison in piece.records.values:
                clock.advance(6)
                watchdog.look()
                break
            watchdog.look()
            watchdog.end()
            done += piece.records.values
        if not ended:
            break
        assert ended == [HUNG_STATUS]
    assert done == [value for value in records.records.values if value != poison]


def test_who_is_in_time_is_left_alone(tmp_path: Path) -> None:
    clock, ended = ManualClock(), []
    watchdog = Watchdog(SuspectFolder(tmp_path), 5.0, clock, ended.append)  # type: ignore[arg-type]
    watchdog.look()
    watchdog.begin(fetched(0, 5))
    clock.advance(5)
    watchdog.look()
    watchdog.end()
    clock.advance(50)
    watchdog.look()
    assert not ended


def test_a_process_that_was_stopped_does_not_hang(tmp_path: Path) -> None:
    clock, ended = ManualClock(), list[int]()
    watchdog = Watchdog(SuspectFolder(tmp_path), 5.0, clock, ended.append)
    watchdog.begin(fetched(0, 1))
    clock.advance(60)
    watchdog.looked_late(59.75)
    watchdog.look()
    assert ended == []
    clock.advance(5)
    watchdog.looked_late(0.1)
    watchdog.look()
    assert ended == [HUNG_STATUS]


class Noted:
    """What stands in a note."""

    def __init__(self) -> None:
        self.at: Suspect | None = None
        self.at_rows: AccusedRows | None = None
        self.within = False

    def records(self, suspect: Suspect) -> None:
        self.at = suspect
        self.within = True

    def returned(self) -> None:
        self.within = False

    def settled(self) -> None:
        self.at = None

    def rows(self, accused: AccusedRows) -> None:
        self.at_rows = accused

    def rows_returned(self) -> None:
        self.at_rows = None


ROWS = AccusedRows(topic="events", partition=3, step="map 1", count=2)


def test_what_is_at_work_is_noted_for_as_long_as_it_is(tmp_path: Path) -> None:
    watchdog = Watchdog(SuspectFolder(tmp_path), 5.0, ManualClock(), lambda _: pytest.fail("nobody hangs"))
    noted = watchdog.note = Noted()
    watchdog.begin(fetched(10, 5, 2))
    assert noted.at is not None
    assert (noted.at.begin, noted.at.end, noted.at.count) == (10, 20, 5)
    before = watchdog.begin_rows(lambda _: pytest.fail("nobody hangs"), ROWS)
    assert noted.at_rows == ROWS
    watchdog.end_rows(before)
    assert noted.at_rows is None
    assert noted.within
    watchdog.end()
    assert noted.at is not None
    assert not noted.within, "it has returned, and nothing is committed"
    watchdog.settled()
    assert noted.at is None


def test_what_the_watchdog_has_kept_itself_is_not_left_to_the_note(tmp_path: Path) -> None:
    clock, folder, ended = ManualClock(), SuspectFolder(tmp_path), list[int]()
    for end in (1, 2):
        watchdog = Watchdog(folder, 5.0, clock, ended.append)
        noted = watchdog.note = Noted()
        watchdog.begin(fetched(10, 1))
        clock.advance(6)
        watchdog.look()
        assert ended == [HUNG_STATUS] * end
        assert noted.at is None
        suspect = folder.find(SOURCE)
        assert suspect is not None
        assert (suspect.found, suspect.ends) == (True, end)


def test_where_it_cannot_be_kept_the_note_stays(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    clock, ended = ManualClock(), list[int]()
    watchdog = Watchdog(SuspectFolder(tmp_path / "file"), 5.0, clock, ended.append)
    noted = watchdog.note = Noted()
    watchdog.begin(fetched(10, 1))
    clock.advance(6)
    watchdog.look()
    assert ended == [HUNG_STATUS]
    assert noted.at is not None


def test_the_timer_runs_while_anything_is_at_work_and_is_put_off_by_looks(tmp_path: Path) -> None:
    expected: list[float] = []
    watchdog = Watchdog(SuspectFolder(tmp_path), 5.0, ManualClock(), lambda _: None, expected.append)
    watchdog.look()
    assert expected == [], "nothing is at work, and nothing runs"
    watchdog.begin(fetched(0, 1))
    assert expected == [6.0]
    watchdog.end()
    watchdog.begin(fetched(1, 1))
    assert expected == [6.0], "a batch puts off nothing: that would cost each of them a call"
    watchdog.look()
    assert expected == [6.0, 6.0]
    watchdog.end()
    watchdog.look()
    assert expected == [6.0, 6.0, 0]
    watchdog.end_rows(watchdog.begin_rows(lambda _: ROWS, ROWS))
    assert expected == [6.0, 6.0, 0, 6.0]
    watchdog.stop()
    assert expected == [6.0, 6.0, 0, 6.0, 0]


def test_a_timer_that_has_gone_off_is_left_alone(tmp_path: Path) -> None:
    """The process was stopped, and goes on: whichever thread is first, it ends."""
    clock, expected = ManualClock(), list[float]()
    watchdog = Watchdog(SuspectFolder(tmp_path), 5.0, clock, lambda _: None, expected.append)
    watchdog.begin(fetched(0, 1))
    clock.advance(6)
    watchdog.looked_late(5.75)
    watchdog.look()
    assert expected == [6.0, 6.0], "it has a moment yet"
    clock.advance(6.5)
    watchdog.looked_late(6.25)
    watchdog.look()
    watchdog.end()
    watchdog.look()
    assert expected == [6.0, 6.0]
