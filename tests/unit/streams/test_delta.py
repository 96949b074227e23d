"""A Delta table: each row once, however often it is published."""

from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from penstock.core.errors import StorageFailed
from penstock.log.records import TopicPartition
from penstock.streams.delta import DeltaSink
from penstock.streams.operator import Moment
from penstock.streams.parquet import PENDING

pytest.importorskip("deltalake")


def config_of(folder: Path):  # type: ignore[no-untyped-def]
    place = SimpleNamespace(app="app", stage="events", output="to table")
    return DeltaSink(folder=folder, rows_max=2, every_ms=1000).output(place)  # type: ignore[arg-type]


def frame(*numbers: int) -> pl.DataFrame:
    times = pl.Series(numbers, dtype=pl.Datetime("ms", "UTC"))
    return pl.DataFrame({"number": numbers, "at": times, "_time": numbers, "_offset": numbers})


def moment() -> Moment:
    return Moment(watermark_ms=0, next_watermark_ms=0, now_ms=0)


def rows(folder: Path) -> list[int]:
    return sorted(pl.read_delta(str(folder))["number"].to_list())


def test_rows_are_in_the_table_once(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    outlets = [config.build(TopicPartition("events", partition), None) for partition in range(2)]
    for numbers in ((1, 2), (3, 4)):
        for partition, outlet in enumerate(outlets):
            (effect,) = outlet.put(frame(*(n + 10 * partition for n in numbers)), moment(), False).effects
            effect.prepare()
            kept = next((tmp_path / PENDING).iterdir()).read_bytes()
            effect.publish()
            # As after a crash between the append and the file's end.
            (tmp_path / PENDING / effect.name).write_bytes(kept)
            effect.publish()
            effect.publish()
    assert rows(tmp_path) == [1, 2, 3, 4, 11, 12, 13, 14]
    assert not list((tmp_path / PENDING).iterdir())


def test_a_restart_publishes_what_was_committed_and_nothing_else(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    outlet = config.build(TopicPartition("events", 0), None)
    (committed,) = outlet.put(frame(1, 2), moment(), False).effects
    committed.prepare()
    changes = outlet.take_changes()
    (lost,) = outlet.put(frame(3, 4), moment(), False).effects
    lost.prepare()
    again = config.build(TopicPartition("events", 0), None)
    again.apply_changes(changes)
    again.recover([committed.name])
    assert rows(tmp_path) == [1, 2]
    (effect,) = again.put(frame(3, 4), moment(), False).effects
    effect.prepare()
    effect.publish()
    assert rows(tmp_path) == [1, 2, 3, 4]


def test_a_table_with_other_columns_is_told(tmp_path: Path) -> None:
    pl.DataFrame({"other": ["x"]}).write_delta(str(tmp_path))
    (effect,) = (
        config_of(tmp_path).build(TopicPartition("events", 0), None).put(frame(1, 2), moment(), False).effects
    )
    effect.prepare()
    with pytest.raises(StorageFailed, match="Delta table"):
        effect.publish()
