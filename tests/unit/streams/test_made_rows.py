"""Functions that hang on rows which no record is: the rows are found, in the order of the others."""

from pathlib import Path

import polars as pl
import pytest

from penstock.core.clock import ManualClock
from penstock.log.records import TopicPartition
from penstock.streams.isolating import Transformed
from penstock.streams.made_rows import MadeRows
from penstock.streams.mapping import Map
from penstock.streams.transforming import Transform
from penstock.streams.watchdog import HUNG_STATUS, SuspectFolder, Watchdog

SOURCE = TopicPartition("events", 3)
SCHEMA = pl.Schema({"number": pl.Int64()})


class Ended(BaseException):
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
            rows = MadeRows(SOURCE, self.folder, watchdog)
            transform = self.function(watchdog)
            try:
                done = rows.apply("map 1", transform, frame)
            except Ended:
                self.ends += 1
                continue
            rows.committed()
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
    rows = MadeRows(SOURCE, processes.folder, watchdog)
    with pytest.raises(Ended):
        rows.apply("map 1", processes.function(watchdog), closed(range(40, 44)))
    done = processes.run(closed(range(30, 60), offset=8))
    assert [row.row for row in done.failed] == [12]


def test_the_time_of_such_rows_does_not_count_for_the_records(tmp_path: Path) -> None:
    clock, ended = ManualClock(), []
    watchdog = Watchdog(SuspectFolder(tmp_path), 5.0, clock, ended.append)  # type: ignore[arg-type]
    watchdog.end_rows(watchdog.begin_rows(lambda _: pytest.fail("nobody hangs")))
    clock.advance(50)
    watchdog.look()
    assert not ended
