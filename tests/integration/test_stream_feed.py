"""`penstock stream feed`: the rows of files are events, each once."""

import json
from pathlib import Path

import polars as pl
import pytest
from command_line import CommandLine

from penstock.core.clock import SystemClock
from penstock.core.errors import Fenced, InvalidInput
from penstock.log.opening import open_log
from penstock.log.records import TopicPartition
from penstock.streams import feeding
from penstock.streams.feeding import Feeder

APP = """
import penstock as ps
import polars as pl

app = ps.App("feeding")
app.stream("numbers", schema={"number": pl.Int64, "name": pl.String}, key="name", partitions=3)
"""


def file(folder: Path, name: str, begin: int, end: int) -> Path:
    frame = pl.DataFrame(
        {"number": range(begin, end), "name": [f"n{n % 7}" for n in range(begin, end)], "x": 1}
    )
    frame.write_parquet(folder / name)
    return folder / name


def events(folder: Path) -> list[int]:
    found = []
    with open_log("", folder / ".penstock", SystemClock()) as log:
        for partition in range(3):
            fetched = log.admin.read(TopicPartition("numbers", partition), 0, records_max=100_000)
            rows = [json.loads(value) for value in fetched.records.values]
            assert all(set(row) == {"number", "name"} for row in rows)
            assert [row["number"] for row in rows] == sorted(row["number"] for row in rows)
            found += [row["number"] for row in rows]
    return sorted(found)


def test_files_are_fed_once(tmp_path: Path) -> None:
    line = CommandLine(tmp_path)
    (tmp_path / "app.py").write_text(APP)
    one, two = file(tmp_path, "one.parquet", 0, 500), file(tmp_path, "two.parquet", 500, 800)
    assert "one.parquet: 500 rows" in line.run("stream", "feed", "app.py", "numbers", one).stderr
    said = line.run("stream", "feed", "app.py", "numbers", one, two).stderr
    assert "one.parquet: 0 rows" in said
    assert "two.parquet: 300 rows" in said
    assert events(tmp_path) == list(range(800))
    assert "declares no stream 'other'" in line.fails("stream", "feed", "app.py", "other", one)
    assert "no such file" in line.fails("stream", "feed", "app.py", "numbers", tmp_path / "none")
    assert "cannot be read as Parquet" in line.fails("stream", "feed", "app.py", "numbers", "app.py")


def test_what_was_begun_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import penstock as ps

    monkeypatch.setattr(feeding, "ROWS_AT_ONCE", 100)
    app = ps.App("feeding")
    app.stream("numbers", schema={"number": pl.Int64, "name": pl.String}, key="name", partitions=3)
    source = app.streams.graph.sources["numbers"]
    path = file(tmp_path, "one.parquet", 0, 450)
    with open_log("", tmp_path / ".penstock", SystemClock()) as log:
        first = Feeder(log, "feeding", source, lambda: 0)
        first._append(pl.read_parquet(path)[:100], feeding._Progress(first._opened(path).name, 100))
        second = Feeder(log, "feeding", source, lambda: 0)
        with pytest.raises(Fenced):
            first.feed(path)
        assert second.feed(path) == 350
        assert second.feed(path) == 0
        pl.DataFrame({"number": [1]}).write_parquet(tmp_path / "bare.parquet")
        with pytest.raises(InvalidInput, match="has no column 'name'"):
            second.feed(tmp_path / "bare.parquet")
    assert events(tmp_path) == list(range(450))
