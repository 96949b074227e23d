"""Parquet files: each row in exactly one, wherever it ended."""

from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from penstock.core.errors import ConfigurationError, CorruptState, StorageFailed
from penstock.log.records import TopicPartition
from penstock.streams.gathering import PENDING
from penstock.streams.operator import Moment
from penstock.streams.outputs import Outlet
from penstock.streams.parquet import ParquetSink

SOURCE = TopicPartition("events", 0)


def config_of(folder: Path, rows_max: int = 3, every_ms: int = 1000):  # type: ignore[no-untyped-def]
    place = SimpleNamespace(app="app", stage="events", output="to files")
    return ParquetSink(folder=folder, rows_max=rows_max, every_ms=every_ms).output(place)  # type: ignore[arg-type]


def frame(*numbers: int) -> pl.DataFrame:
    return pl.DataFrame({"number": numbers, "_time": numbers, "_offset": numbers})


def at(now_ms: int) -> Moment:
    return Moment(watermark_ms=0, next_watermark_ms=0, now_ms=now_ms)


def files(folder: Path) -> list[int]:
    found = [pl.read_parquet(path)["number"].to_list() for path in sorted(folder.glob("*.parquet"))]
    return [number for each in found for number in each]


def committed(outlet: Outlet, *puts) -> tuple[bytes, list[str]]:  # type: ignore[no-untyped-def]
    """As a worker commits: prepared, kept, published."""
    effects = [effect for put in puts for effect in put.effects]
    for effect in effects:
        effect.prepare()
    changes = outlet.take_changes()
    for effect in effects:
        effect.publish()
    return changes, [effect.name for effect in effects]


def test_a_file_when_there_are_enough_rows(tmp_path: Path) -> None:
    outlet = config_of(tmp_path).build(SOURCE, None)
    committed(outlet, outlet.put(frame(1, 2), at(0), False))
    assert not files(tmp_path)
    committed(outlet, outlet.put(frame(3), at(1), False))
    assert files(tmp_path) == [1, 2, 3]
    (path,) = tmp_path.glob("*.parquet")
    assert pl.read_parquet(path).columns == ["number"]


def test_a_file_when_the_first_row_is_old_enough(tmp_path: Path) -> None:
    outlet = config_of(tmp_path).build(SOURCE, None)
    committed(outlet, outlet.put(frame(1), at(0), False))
    committed(outlet, outlet.tick(999))
    assert not files(tmp_path)
    committed(outlet, outlet.tick(1000))
    assert files(tmp_path) == [1]
    assert not outlet.tick(5000).effects


def test_what_ended_before_the_commit_is_nowhere(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    outlet = config.build(SOURCE, None)
    changes, _ = committed(outlet, outlet.put(frame(1), at(0), False))
    for effect in outlet.put(frame(2, 3), at(1), False).effects:
        effect.prepare()
    again = config.build(SOURCE, None)
    again.apply_changes(changes)
    again.recover(())
    assert not list((tmp_path / PENDING).iterdir())
    committed(again, again.put(frame(2, 3), at(2), False))
    assert files(tmp_path) == [1, 2, 3]


@pytest.mark.parametrize("by_snapshot", [False, True])
def test_what_ended_after_the_commit_is_published_once(tmp_path: Path, by_snapshot: bool) -> None:
    config = config_of(tmp_path)
    outlet = config.build(SOURCE, None)
    put = outlet.put(frame(1, 2, 3), at(0), False)
    for effect in put.effects:
        effect.prepare()
    changes = outlet.take_changes()
    again = config.build(SOURCE, outlet.snapshot() if by_snapshot else None)
    if not by_snapshot:
        again.apply_changes(changes)
    for _ in range(2):
        again.recover([effect.name for effect in put.effects])
    assert files(tmp_path) == [1, 2, 3]
    committed(again, again.put(frame(4, 5, 6), at(0), False))
    assert files(tmp_path) == [1, 2, 3, 4, 5, 6]


def test_partitions_leave_each_others_files_alone(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    outlet = config.build(SOURCE, None)
    for effect in outlet.put(frame(1, 2, 3), at(0), False).effects:
        effect.prepare()
    config.build(TopicPartition("events", 1), None).recover(())
    assert len(list((tmp_path / PENDING).iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    outlet = config_of(tmp_path / "file").build(SOURCE, None)
    (effect,) = outlet.put(frame(1, 2, 3), at(0), False).effects
    with pytest.raises(StorageFailed, match="no Parquet file was written"):
        effect.prepare()


def test_what_cannot_be() -> None:
    with pytest.raises(ConfigurationError):
        config_of(Path("x"), rows_max=0)
    with pytest.raises(CorruptState):
        config_of(Path("x")).build(SOURCE, b"junk")
