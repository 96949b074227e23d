"""Functions that hang on rows which no record is: the rows are found, in the order of the others."""

from pathlib import Path

import polars as pl
import pytest

from penstock.core.clock import ManualClock
from penstock.core.errors import StorageFailed
from penstock.log.records import TopicPartition
from penstock.streams import made_rows
from penstock.streams.isolating import Transformed
from penstock.streams.made_rows import MadeRows
from penstock.streams.mapping import Map
from penstock.streams.suspect_folder import SuspectFolder
from penstock.streams.suspicion import AccusedRows, Cause, Suspect, rows_after_end, withheld_after
from penstock.streams.transforming import Transform
from penstock.streams.watchdog import HUNG_STATUS, Watchdog

SOURCE = TopicPartition("events", 3)
SCHEMA = pl.Schema({"number": pl.Int64()})
WHY = Cause("crashed", "Aborted", told=True)


class Ended(KeyboardInterrupt):
    """The process is no more."""


class Processes:
    """One after the other, each with the same function over the rows of a closed window."""

    def __init__(self, folder: Path, culprits: set[int]) -> None:
        self.folder = SuspectFolder(folder)
        self.clock = ManualClock()
        self.culprits = culprits
        self.ends = 0

    def run(self, frame: pl.DataFrame) -> Transformed:
        while True:
            watchdog = Watchdog(self.folder, 5.0, self.clock, self.end)
            rows = MadeRows(SOURCE, self.folder, watchdog, self.folder.find_rows(SOURCE))
            transform = self.function(watchdog)
            try:
                done = rows.apply("map 1", transform.apply, frame)
            except Ended:
                self.ends += 1
                continue
            rows.committed(0)
            return done

    def function(self, watchdog: Watchdog) -> Transform:
        return Map(function=lambda given: self._hangs(given, watchdog), schema=SCHEMA).build(SCHEMA)

    def end(self, status: int) -> None:
        assert status == HUNG_STATUS
        raise Ended

    def _hangs(self, given: pl.DataFrame, watchdog: Watchdog) -> pl.DataFrame:
        self.clock.advance(4)
        watchdog.look()
        if self.culprits & set(given.get_column("number").to_list()):
            self.clock.advance(4)
            watchdog.look()
        return given


def closed(numbers: range, offset: int = 7) -> pl.DataFrame:
    return pl.DataFrame({"number": numbers, "_time": numbers, "_offset": [offset] * len(numbers)})


@pytest.mark.parametrize("culprits", [{0}, {99}, {42}, {3, 4, 90}])
def test_the_rows_that_a_function_hangs_on_are_found(tmp_path: Path, culprits: set[int]) -> None:
    processes = Processes(tmp_path, culprits)
    done = processes.run(closed(range(100)))
    assert done.frame.get_column("number").to_list() == [n for n in range(100) if n not in culprits]
    assert [(row.row, row.reason, row.detail) for row in done.failed] == [
        (n, "hung", "not done within 5 s") for n in sorted(culprits)
    ]
    assert processes.ends <= 8 * len(culprits)
    assert processes.folder.find_rows(SOURCE) is None
    assert processes.folder.find(SOURCE) is None, "no record is at fault"


def test_rows_are_known_again_among_others_and_behind_another_record(tmp_path: Path) -> None:
    processes = Processes(tmp_path, {42})
    watchdog = Watchdog(processes.folder, 5.0, processes.clock, processes.end)
    rows = MadeRows(SOURCE, processes.folder, watchdog, None)
    with pytest.raises(Ended):
        rows.apply("map 1", processes.function(watchdog).apply, closed(range(40, 44)))
    done = processes.run(closed(range(30, 60), offset=8))
    assert [row.row for row in done.failed] == [12]


def test_the_time_of_such_rows_does_not_count_for_the_records(tmp_path: Path) -> None:
    clock, ended = ManualClock(), []
    watchdog = Watchdog(SuspectFolder(tmp_path), 5.0, clock, ended.append)  # type: ignore[arg-type]
    at = AccusedRows(topic="events", partition=3, step="map 1")
    watchdog.end_rows(watchdog.begin_rows(lambda _: pytest.fail("nobody hangs"), at))
    clock.advance(50)
    watchdog.look()
    assert not ended


class Noted:
    """What stands in a note of rows."""

    def __init__(self) -> None:
        self.at: AccusedRows | None = None

    def records(self, suspect: Suspect) -> None:
        pass

    def returned(self) -> None:
        pass

    def settled(self) -> None:
        pass

    def rows(self, accused: AccusedRows) -> None:
        self.at = accused

    def rows_returned(self) -> None:
        self.at = None


class Crashing:
    """Processes that end in the function without a word, and leave their notes."""

    def __init__(self, folder: Path, culprits: set[int]) -> None:
        self.folder = SuspectFolder(folder)
        self.culprits = culprits
        self.ends = 0
        self.settled = 0

    def run(self, frames: list[pl.DataFrame]) -> list[Transformed]:
        """The frames that a process commits after each other: what was, it is not given again."""
        done: list[Transformed] = []
        while len(done) < len(frames):
            watchdog = Watchdog(self.folder, 5.0, ManualClock(), lambda _: pytest.fail("nobody looks"))
            noted = watchdog.note = Noted()
            rows = MadeRows(SOURCE, self.folder, watchdog, self.folder.find_rows(SOURCE))
            transform = Map(function=lambda given, noted=noted: self._ends(given, noted), schema=SCHEMA).build(
                SCHEMA
            )
            try:
                for frame in frames[len(done) :]:
                    done.append(rows.apply("map 1", transform.apply, frame))
                    self.settled += rows.committed(0)
            except Ended:
                continue
        return done

    def _ends(self, given: pl.DataFrame, noted: Noted) -> pl.DataFrame:
        if self.culprits & set(given.get_column("number").to_list()):
            assert noted.at is not None
            self.ends += 1
            assert self.ends < 40, "it is never found"
            before = self.folder.find_rows(SOURCE)
            self.folder.keep_rows(rows_after_end(before, noted.at, WHY))
            raise Ended
        return given


@pytest.mark.parametrize("culprits", [{0}, {999}, {42}, {3, 4, 900}])
def test_the_rows_that_end_the_process_are_found(tmp_path: Path, culprits: set[int]) -> None:
    processes = Crashing(tmp_path, culprits)
    (done,) = processes.run([closed(range(1000))])
    assert done.frame.get_column("number").to_list() == [n for n in range(1000) if n not in culprits]
    assert [(row.row, row.reason, row.detail) for row in done.failed] == [
        (n, "crashed", "Aborted") for n in sorted(culprits)
    ]
    assert processes.ends <= 4 * len(culprits)
    assert processes.settled == processes.ends
    assert processes.folder.find_rows(SOURCE) is None


def test_one_is_careful_until_as_many_rows_have_got_through(tmp_path: Path) -> None:
    """The next process may be given them in smaller frames, of which the first has none at fault."""
    processes = Crashing(tmp_path, {42})
    watchdog = Watchdog(processes.folder, 5.0, ManualClock(), lambda _: pytest.fail("nobody looks"))
    noted = watchdog.note = Noted()
    rows = MadeRows(SOURCE, processes.folder, watchdog, None)
    transform = Map(function=lambda given: processes._ends(given, noted), schema=SCHEMA).build(SCHEMA)
    with pytest.raises(Ended):
        rows.apply("map 1", transform.apply, closed(range(50)))
    done = processes.run([closed(range(20)), closed(range(20, 30)), closed(range(30, 50))])
    assert [[row.row for row in each.failed] for each in done] == [[], [], [12]]
    assert processes.ends == 4


def test_who_only_was_at_work_is_free_once_it_has_got_through(tmp_path: Path) -> None:
    processes = Crashing(tmp_path, set())
    at = AccusedRows(topic="events", partition=3, step="map 1", count=30)
    processes.folder.keep_rows(rows_after_end(None, at, WHY))
    done = processes.run([closed(range(20)), closed(range(20, 50))])
    assert [each.frame.height for each in done] == [20, 30]
    assert not any(each.failed for each in done)
    assert processes.settled == 1
    assert processes.folder.find_rows(SOURCE) is None


def test_rows_of_another_plan_are_not_waited_for(tmp_path: Path) -> None:
    folder, clock = SuspectFolder(tmp_path), ManualClock()
    watchdog = Watchdog(folder, 5.0, clock, lambda _: pytest.fail("nobody hangs"))
    accused = AccusedRows(topic="events", partition=3, step="map 1", rows=("ab",), count=1, plan="this")
    folder.keep_rows(accused)
    assert MadeRows(SOURCE, folder, watchdog, accused, "this").accused == accused
    assert MadeRows(SOURCE, folder, watchdog, accused, "other").accused is None
    assert folder.find_rows(SOURCE) is None


@pytest.mark.parametrize("until", [-1, 50])
def test_rows_that_never_come_again_are_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: int
) -> None:
    monkeypatch.setattr(made_rows, "OTHERS_MAX", 300)
    folder, clock = SuspectFolder(tmp_path), ManualClock()
    watchdog = Watchdog(folder, 5.0, clock, lambda _: pytest.fail("nobody hangs"))
    accused = AccusedRows(topic="events", partition=3, step="map 1", rows=("ab",), count=1, until=until, ends=2)
    folder.keep_rows(accused)
    rows = MadeRows(SOURCE, folder, watchdog, accused)
    transform = Map(function=lambda given: given, schema=SCHEMA).build(SCHEMA)
    for begin in range(0, 400, 100):
        rows.apply("map 1", transform.apply, closed(range(begin, begin + 100)))
        settled = rows.committed(begin // 10)
        assert settled == (2 if begin == 200 and until < 0 else 0)
    assert rows.committed(50) == (0 if until < 0 else 2)
    assert folder.find_rows(SOURCE) is None


def test_where_a_function_hangs_on_no_rows_what_is_known_stays(tmp_path: Path) -> None:
    processes = Processes(tmp_path, set())
    watchdog = Watchdog(processes.folder, 5.0, processes.clock, processes.end)
    accused = AccusedRows(topic="events", partition=3, step="map 1", rows=("ab",), count=1)
    processes.folder.keep_rows(accused)
    rows = MadeRows(SOURCE, processes.folder, watchdog, accused)

    def hangs(given: pl.DataFrame) -> Transformed:
        processes.clock.advance(9)
        watchdog.look()
        return Transformed(frame=given)

    with pytest.raises(Ended):
        rows.apply("map 1", hangs, closed(range(0)))
    assert processes.folder.find_rows(SOURCE) == accused


def passes(given: pl.DataFrame) -> pl.DataFrame:
    return given


@pytest.mark.parametrize("until", [-1, 9])
def test_rows_of_which_nobody_knows_which_are_set_aside_once(tmp_path: Path, until: int) -> None:
    folder, clock = SuspectFolder(tmp_path), ManualClock()
    watchdog = Watchdog(folder, 5.0, clock, lambda _: pytest.fail("nobody hangs"))
    last = AccusedRows(topic="events", partition=3, step="map 1", count=4)
    accused = withheld_after(None, last, WHY, ends=3, until=until)
    folder.keep_rows(accused)
    rows = MadeRows(SOURCE, folder, watchdog, accused)
    transform = Map(function=passes, schema=SCHEMA).build(SCHEMA)
    assert rows.committed(8) == 0, "none have come yet"
    for step in ("map 1", "into out"):
        done = rows.apply(step, transform.apply, closed(range(5)))
        assert done.frame.is_empty()
        assert [(row.row, row.reason, row.detail) for row in done.failed] == [
            (n, "crashed", "Aborted") for n in range(5)
        ]
    assert rows.committed(8) == 3
    assert folder.find_rows(SOURCE) is None
    assert rows.apply("map 1", transform.apply, closed(range(5))).frame.height == 5


def test_rows_are_not_set_aside_any_more_once_the_record_is_committed(tmp_path: Path) -> None:
    folder, clock = SuspectFolder(tmp_path), ManualClock()
    watchdog = Watchdog(folder, 5.0, clock, lambda _: pytest.fail("nobody hangs"))
    last = AccusedRows(topic="events", partition=3, step="map 1", count=4)
    rows = MadeRows(SOURCE, folder, watchdog, withheld_after(None, last, WHY, until=9))
    rows.committed(8)
    assert rows.accused is not None
    rows.committed(9)
    assert rows.accused is None


def test_ends_of_nobody_known_are_over_once_rows_have_got_through(tmp_path: Path) -> None:
    folder, clock = SuspectFolder(tmp_path), ManualClock()
    watchdog = Watchdog(folder, 5.0, clock, lambda _: pytest.fail("nobody hangs"))
    folder.keep_ends(SOURCE, 2)
    rows = MadeRows(SOURCE, folder, watchdog, None, ends=2)
    transform = Map(function=passes, schema=SCHEMA).build(SCHEMA)
    rows.committed(5)
    rows.apply("map 1", transform.apply, closed(range(0)))
    rows.committed(5)
    assert (rows.doubted, folder.ends(SOURCE)) == (True, 2), "no rows were at work"
    rows.apply("map 1", transform.apply, closed(range(3)))
    rows.committed(5)
    assert (rows.doubted, folder.ends(SOURCE)) == (False, 0)


def test_what_ends_the_engine_leaves_the_rows_in_the_note_and_an_error_does_not(tmp_path: Path) -> None:
    watchdog = Watchdog(SuspectFolder(tmp_path), 5.0, ManualClock(), lambda _: pytest.fail("nobody looks"))
    noted = watchdog.note = Noted()
    rows = MadeRows(SOURCE, SuspectFolder(tmp_path), watchdog, None)
    for error in (KeyboardInterrupt(), StorageFailed("full")):

        def raises(given: pl.DataFrame, error: BaseException = error) -> Transformed:
            raise error

        with pytest.raises(type(error)):
            rows.apply("map 1", raises, closed(range(5)))
        assert (noted.at is not None) is isinstance(error, KeyboardInterrupt)
