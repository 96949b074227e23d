"""`penstock features`: what is listed, computed from older events, and joined."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from command_line import PENSTOCK, CommandLine

APP = """
import penstock as ps
import polars as pl

app = ps.App("flights")
departures = app.stream(
    "departures", schema={"origin": pl.String, "delay": pl.Float64, "at": pl.Int64}, time="at",
    expect={"an origin": pl.col("origin").str.len_chars() == 3},
)
app.features(
    "congestion",
    departures.window(key="origin", over="1h", every="5m").agg(n=ps.count(), mean=ps.mean("delay")),
    (pl.col("mean") > 15).alias("late"),
    defaults={"mean": 0.0}, stale="1m", history=ps.delta("history"),
)
"""
NOON_MS = int(datetime(2013, 1, 1, 12, tzinfo=UTC).timestamp() * 1000)
EVENTS = pl.DataFrame(
    {
        "origin": ["JFK", "EWR", "JFK", "?", "JFK"],
        "delay": [10.0, 5.0, 30.0, 1.0, None],
        "at": [NOON_MS + minute * 60_000 for minute in (0, 1, 20, 21, 80)],
    }
)
LABELS = pl.DataFrame(
    {
        "airport": ["JFK", "JFK", "LGA", "JFK"],
        "asked": [
            datetime(2013, 1, 1, hour, minute, tzinfo=UTC)
            for hour, minute in [(12, 0), (12, 30), (12, 30), (13, 10)]
        ],
    }
)


@pytest.fixture
def line(tmp_path: Path) -> CommandLine:
    (tmp_path / "app.py").write_text(APP)
    EVENTS.write_parquet(tmp_path / "events.parquet")
    LABELS.write_parquet(tmp_path / "labels.parquet")
    return CommandLine(tmp_path)


def test_views_are_listed(line: CommandLine) -> None:
    listed = line.inside("features", "list", "app.py")
    assert listed.status == 0
    assert [" ".join(row.split()) for row in listed.stdout.splitlines()] == [
        "view key feature type default stale after history",
        "congestion origin n INT64 0 1m history",
        "congestion origin mean FP64 0.0 1m history",
        "congestion origin late BOOL False 1m history",
    ]
    (view,) = json.loads(line.inside("features", "list", "app.py", "--json").stdout)
    assert view["topic"] == "flights.congestion.features"
    assert view["features"][1] == {"name": "mean", "datatype": "FP64", "default": 0.0}


def test_a_history_is_made_and_joined(line: CommandLine, tmp_path: Path) -> None:
    made = line.inside("features", "backfill", "app.py", "congestion", "--from", "events.parquet", "--online")
    assert made.status == 0, made.stderr
    assert "5 events, " in made.stderr
    assert "1 refused: expectation" in made.stderr
    assert "2 keys can be read of which nothing was known" in made.stderr
    again = line.inside("features", "backfill", "app.py", "congestion", "--from", "events.parquet", "--json")
    assert json.loads(again.stdout)["written"] == 0

    joined = line.inside(
        "features", "join", "app.py", "labels.parquet", "--view", "congestion", "--time", "asked",
        "--key", "origin=airport", "--out", "training.parquet",
    )  # fmt: skip

    assert joined.status == 0, joined.stderr
    assert "4 rows with 3 features in training.parquet" in joined.stderr
    training = pl.read_parquet(tmp_path / "training.parquet")
    assert training.drop("n", "mean", "late").equals(LABELS)
    assert training.select("n", "mean", "late").rows() == [
        (1, 10.0, False), (2, 20.0, True), (0, 0.0, False), (1, 30.0, True),
    ]  # fmt: skip


def test_or_from_what_is_in_the_log(line: CommandLine, tmp_path: Path) -> None:
    EVENTS.write_ndjson(tmp_path / "events.ndjson")
    with (tmp_path / "events.ndjson").open() as events:
        command = [PENSTOCK, "log", "produce", "departures", "--partitions", "1"]
        subprocess.run(command, cwd=tmp_path, stdin=events, check=True, capture_output=True)
    made = line.inside("features", "backfill", "app.py", "congestion", "--from", "topic", "--into", "elsewhere")
    assert made.status == 0, made.stderr
    assert list((tmp_path / "elsewhere").glob("*.parquet"))


def test_what_is_not_there_is_said(line: CommandLine) -> None:
    for arguments, said in (
        (("features", "list", "other.py"), "other.py: no such file"),
        (
            ("features", "backfill", "app.py", "weather", "--from", "events.parquet"),
            "there is no view 'weather'",
        ),
        (
            ("features", "backfill", "app.py", "congestion", "--from", "nowhere"),
            "no file, folder or table nowhere",
        ),
        (("features", "backfill", "app.py", "congestion", "--from", "topic:other"), "no topic 'other'"),
        (
            (
                *("features", "join", "app.py", "labels.parquet"),
                "--view",
                "congestion",
                "--time",
                "at",
                "--out",
                "o",
            ),
            "no column 'at' for the time",
        ),
    ):
        refused = line.inside(*arguments)
        assert refused.status == 1
        assert said in " ".join(refused.error.split())
