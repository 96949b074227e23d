"""Delta tables: each row added once, whatever ended where."""

import sys
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from penstock.app.sinks import delta
from penstock.core.errors import ConfigurationError, StorageFailed
from penstock.log.records import TopicPartition
from penstock.streams.delta import DeltaSink
from penstock.streams.gathering import PENDING
from penstock.streams.operator import Moment
from penstock.streams.outputs import Effect, Outlet

NOW = Moment(watermark_ms=0, next_watermark_ms=0, now_ms=0)


def outlet_of(folder: Path, partition: int = 0, state: bytes | None = None) -> Outlet:
    place = SimpleNamespace(app="app", stage="events", output="to table")
    config = DeltaSink(folder=folder, rows_max=2).output(place)  # type: ignore[arg-type]
    return config.build(TopicPartition("events", partition), state)


def put(outlet: Outlet, *numbers: int) -> Effect:
    count = pl.Series([7] * len(numbers), dtype=pl.UInt32)
    (effect,) = outlet.put(
        pl.DataFrame({"number": numbers, "count": count, "_time": numbers}), NOW, False
    ).effects
    effect.prepare()
    outlet.take_changes()
    return effect


def rows(folder: Path) -> list[int]:
    table = DeltaTable(str(folder))
    return sorted(pl.DataFrame(pl.scan_parquet(table.file_uris()).collect())["number"].to_list())


def test_rows_are_added(tmp_path: Path) -> None:
    outlet = outlet_of(tmp_path / "table")
    put(outlet, 1, 2).publish()
    put(outlet, 3, 4).publish()
    assert rows(tmp_path / "table") == [1, 2, 3, 4]
    assert {field.name for field in DeltaTable(str(tmp_path / "table")).schema().fields} == {"number", "count"}
    assert not list((tmp_path / "table" / PENDING).iterdir())


def test_what_was_committed_is_added_once(tmp_path: Path) -> None:
    outlet = outlet_of(tmp_path)
    put(outlet, 1, 2).publish()
    effect = put(outlet, 3, 4)
    pending = tmp_path / PENDING / effect.name
    content = pending.read_bytes()
    for _ in range(2):
        again = outlet_of(tmp_path, state=outlet.snapshot())
        again.recover([effect.name])
        # It ended after the table's commit, before the file was removed.
        pending.write_bytes(content)
    assert rows(tmp_path) == [1, 2, 3, 4]
    effect.publish()
    assert rows(tmp_path) == [1, 2, 3, 4]


def test_what_was_not_committed_is_nowhere(tmp_path: Path) -> None:
    outlet = outlet_of(tmp_path)
    put(outlet, 1, 2).publish()
    state = outlet.snapshot()
    put(outlet, 3, 4)
    again = outlet_of(tmp_path, state=state)
    again.recover(())
    assert not list((tmp_path / PENDING).iterdir())
    put(again, 5, 6).publish()
    assert rows(tmp_path) == [1, 2, 5, 6]


def test_state_that_begins_anew_adds_nevertheless(tmp_path: Path) -> None:
    put(outlet_of(tmp_path), 1, 2).publish()
    again = outlet_of(tmp_path)
    again.recover(())
    put(again, 1, 2).publish()
    assert rows(tmp_path) == [1, 1, 2, 2]


def test_partitions_add_beside_each_other(tmp_path: Path) -> None:
    first, second = put(outlet_of(tmp_path, 0), 1, 2), put(outlet_of(tmp_path, 1), 3, 4)
    second.publish()
    first.publish()
    assert rows(tmp_path) == [1, 2, 3, 4]


def test_a_table_of_other_columns_is_told_before_the_commit(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path), pl.DataFrame({"number": ["one"], "count": [1]}))
    with pytest.raises(StorageFailed, match="not those of the rows: number"):
        put(outlet_of(tmp_path), 1, 2)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError) as caught:
        delta("table")
    assert caught.value.hint == "pip install 'penstock[delta]'"


def test_it_is_loaded_where_it_is_used() -> None:
    import subprocess

    code = "import sys, penstock.app.sinks; print('deltalake' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False\n"
