"""Rows of files, in chunks of every size, from every position: each once, in order."""

import logging
import os
from pathlib import Path

import msgspec
import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from penstock.core.errors import InvalidInput
from penstock.streams.delta import DeltaSink
from penstock.streams.feeds import files
from penstock.streams.feeds.reading import Reader
from penstock.streams.parquet import ParquetSink

COLUMNS = {"number": pl.Int64(), "day": pl.String()}


def parquet(folder: Path) -> Reader:
    return ParquetSink(folder=folder).reader(COLUMNS)


def delta(folder: Path) -> Reader:
    return DeltaSink(folder=folder).reader(COLUMNS)


def write(path: Path, *numbers: int) -> None:
    pl.DataFrame(
        {"other": numbers, "number": numbers}, schema={"other": pl.Int64, "number": pl.Int64}
    ).write_parquet(path)


def read_all(reader: Reader, position: object = None, rows_max: int = 3) -> tuple[list[int], object]:
    found: list[int] = []
    while (chunk := reader.read(position, rows_max)) is not None:
        assert chunk.frame.height <= rows_max
        found += chunk.frame["number"].to_list() if chunk.frame.height else []
        position = msgspec.json.decode(msgspec.json.encode(chunk.position))
    return found, position


@pytest.mark.parametrize("buffer_rows", [2, 5, 100])
@pytest.mark.parametrize("rows_max", [1, 3, 100])
def test_every_row_once_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buffer_rows: int, rows_max: int
) -> None:
    monkeypatch.setattr(files, "BUFFER_ROWS", buffer_rows)
    write(tmp_path / "b.parquet", 8, 9)
    write(tmp_path / "a.parquet", *range(8))
    write(tmp_path / "aa.parquet")
    assert read_all(parquet(tmp_path), rows_max=rows_max)[0] == list(range(10))


def test_a_reader_goes_on_at_each_position(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", *range(5))
    write(tmp_path / "b.parquet", *range(5, 9))
    found: list[int] = []
    position: object = None
    while (chunk := parquet(tmp_path).read(position, 2)) is not None:
        found += chunk.frame["number"].to_list()
        position = chunk.position
    assert found == list(range(9))


def test_what_comes_later_is_read_when_its_name_sorts_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "b.parquet", 1)
    reader = parquet(tmp_path)
    _, position = read_all(reader)
    write(tmp_path / "c.parquet", 2)
    write(tmp_path / "a.parquet", 3)
    (tmp_path / "b.parquet").unlink()
    with caplog.at_level(logging.WARNING):
        assert read_all(reader, position)[0] == [2]
    assert caplog.text.count("came after") == 1
    assert "a.parquet came after" in caplog.text


def test_patterns_and_what_is_hidden(tmp_path: Path) -> None:
    for name in ("2/x.parquet", "1/y.parquet", "_pending/z.parquet", "1/_z.parquet", "1/.z.parquet", "1/z.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, ord(name[0]))
    assert read_all(parquet(tmp_path / "**" / "*.parquet"))[0] == [ord("1"), ord("2")]


@pytest.mark.parametrize("rows_read", [2, 4])
def test_a_file_that_changed_is_told(tmp_path: Path, rows_read: int) -> None:
    path = tmp_path / "a.parquet"
    write(path, 1, 2, 3, 4)
    chunk = parquet(tmp_path).read(None, rows_read)
    assert chunk is not None
    stat = path.stat()
    write(path, 1, 2, 3, 5)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    with pytest.raises(InvalidInput, match=r"a\.parquet is another file"):
        parquet(tmp_path).read(chunk.position, 2)
    write(path, 1, 2, 3, 4)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert read_all(parquet(tmp_path), chunk.position)[0] == [1, 2, 3, 4][rows_read:]


def test_a_file_that_went_is_told(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 1, 2)
    chunk = parquet(tmp_path).read(None, 1)
    assert chunk is not None
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(InvalidInput, match=r"a\.parquet is gone, and was read in part"):
        parquet(tmp_path).read(chunk.position, 1)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no folder"):
        parquet(tmp_path / "missing").read(None, 1)
    assert parquet(tmp_path).read(None, 1) is None
    (tmp_path / "a.parquet").write_bytes(b"PAR1 half of it")
    with pytest.raises(InvalidInput, match="cannot be read"):
        parquet(tmp_path).read(None, 1)
    pl.DataFrame({"else": [1]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(InvalidInput, match="none of the stream's columns"):
        parquet(tmp_path).read(None, 1)
    with pytest.raises(InvalidInput, match="is no position"):
        parquet(tmp_path).read({"version": 3}, 1)


def add(folder: Path, *numbers: int, day: str = "a day/1") -> None:
    frame = pl.DataFrame({"number": numbers, "day": [day] * len(numbers)})
    write_deltalake(str(folder), frame, mode="append", partition_by=["day"])


def test_a_table_and_what_is_added_to_it(tmp_path: Path) -> None:
    add(tmp_path, 1, 2, 3)
    add(tmp_path, 4)
    found, position = read_all(delta(tmp_path), rows_max=2)
    assert sorted(found) == [1, 2, 3, 4]
    assert delta(tmp_path).read(None, 1).frame["day"].to_list() == ["a day/1"]  # type: ignore[union-attr]
    add(tmp_path, 5, 6)
    DeltaTable(str(tmp_path)).optimize.compact()
    add(tmp_path, 7, day="2")
    assert read_all(delta(tmp_path), position)[0] == [5, 6, 7]


def test_a_reader_of_a_table_goes_on_in_the_version_that_it_began(tmp_path: Path) -> None:
    for number in range(4):
        add(tmp_path, number, number + 10)
    chunk = delta(tmp_path).read(None, 1)
    assert chunk is not None
    add(tmp_path, 50)
    DeltaTable(str(tmp_path)).optimize.compact()
    found = chunk.frame["number"].to_list() + read_all(delta(tmp_path), chunk.position)[0]
    assert sorted(found) == [0, 1, 2, 3, 10, 11, 12, 13, 50]
    assert found[-1] == 50


def test_a_table_whose_rows_go_is_told(tmp_path: Path) -> None:
    add(tmp_path, 1, 2, 3)
    _, position = read_all(delta(tmp_path))
    DeltaTable(str(tmp_path)).delete("number = 2")
    with pytest.raises(InvalidInput, match=r"version 1 of table .* takes rows away"):
        delta(tmp_path).read(position, 1)


def test_tables_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        delta(tmp_path).read(None, 1)
