"""What hangs is found by halves."""

from pathlib import Path

import numpy as np
import pytest

from penstock.core.clock import ManualClock
from penstock.log.records import Fetched, Records, TopicPartition
from penstock.streams.watchdog import HUNG_STATUS, Suspect, SuspectFolder, Watchdog, cut, pieces

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


def test_suspects_are_kept_by_partition(tmp_path: Path) -> None:
    folder = SuspectFolder(tmp_path / "new")
    suspect = Suspect(topic="events", partition=3, begin=5, end=9, count=4, detail="slow")
    assert folder.find(SOURCE) is None
    folder.clear(SOURCE)
    folder.keep(suspect)
    assert folder.find(SOURCE) == suspect
    assert folder.find(TopicPartition("events", 2)) is None
    folder.clear(SOURCE)
    assert folder.find(SOURCE) is None


def test_pieces_of_records_that_are_no_suspects_are_whole() -> None:
    suspect = Suspect(topic="events", partition=3, begin=50, end=60, count=10)
    assert [len(piece.records) for piece, _ in pieces(fetched(0, 10), suspect)] == [10]
    parts = [(int(piece.offsets[0]), piece.next_offset) for piece, _ in pieces(fetched(40, 30), suspect)]
    assert parts == [(40, 50), (50, 55), (55, 60), (60, 70)]


def test_a_cut_goes_on_where_the_next_begins() -> None:
    records = fetched(10, 4, 5)
    assert cut(records, 0, 2).next_offset == 20
    assert cut(records, 2, 4).next_offset == 30
    assert list(cut(records, 1, 3).records.values) == [b"15", b"20"]


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
