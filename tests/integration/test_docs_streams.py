"""docs/streams.md, done as it says."""

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
from command_line import PATIENCE_S, PENSTOCK, CommandLine
from running_server import running

PAGE = Path(__file__).parents[2] / "docs" / "streams.md"


def blocks(language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )


def test_from_a_topic_to_a_windowed_result(tmp_path: Path) -> None:
    app, commands, expected = blocks("python")[0], blocks("sh")[1], blocks("text")[0]
    line = CommandLine(tmp_path)
    with running(line, app) as server:
        wait_for(lambda: line.inside("log", "tail", "departures").status == 0, "the topics")
        (produced, *others) = re.split(r"(?<=^END\n)", commands, flags=re.MULTILINE)
        shell(produced, tmp_path)
        wait_for(
            lambda: "10:00:00Z" in line.inside("log", "tail", "congestion", "-n", "10").stdout, "the windows"
        )
        said = {command: shell(command, tmp_path) for command in "".join(others).splitlines()}
        assert said["penstock log tail congestion -n 10"].strip().splitlines() == expected.strip().splitlines()
        lines = said["penstock log tail departures-enriched -n 10"].splitlines()
        enriched = [json.loads(line.split("  ", maxsplit=3)[3]) for line in lines]
        assert [(row["flight"], row["departures"], row["worst_delay"]) for row in enriched] == [
            ("UA1", 1, 2.0),
            ("AA7", 1, -3.5),
            ("UA3", 2, 30.0),
            ("B65", 1, 12.0),
        ]
        assert "schema" in said["penstock dlq list"]
        wait_for(lambda: "dead letters 1" in line.inside("status").stdout, "the count")
        assert re.search(r"stream worker 1 +serving.*\n.*departures/0 +lag 0", line.inside("status").stdout)
        with server.client() as client:
            metrics = client.get("/metrics").text
        assert 'penstock_stream_events_total{stage="departures"} 4' in metrics
        assert server.end() == 0
    assert "  stream departures  from topic departures, 1 partition" in server.log


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"{what} did not come"
        time.sleep(0.1)


def shell(commands: str, folder: Path) -> str:
    """What a user's shell prints."""
    done = subprocess.run(
        ["bash", "-euc", commands.replace("penstock ", f"{PENSTOCK} ")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done
    return done.stdout


def test_a_fed_stream(tmp_path: Path) -> None:
    line = CommandLine(tmp_path)
    (tmp_path / "flights").mkdir()
    hours = {number: 1_357_030_800_000 + number * 600_000 for number in range(40)}
    rows = [{"flight": f"F{n}", "origin": "EWR", "departed_at": at, "delay": 1.0} for n, at in hours.items()]
    later = {"flight": "F40", "origin": "JFK", "departed_at": hours[39] + 3 * 86_400_000, "delay": 0.0}
    pl.DataFrame([*rows, later]).write_parquet(tmp_path / "flights" / "1.parquet")
    (tmp_path / "flights" / "2.parquet").write_bytes(b"not yet whole")
    with running(line, blocks("python")[1]) as server:
        wait_for(lambda: "15:00:00Z" in line.inside("log", "tail", "departures-by-hour").stdout, "the windows")
        told = line.inside("log", "tail", "departures-by-hour", "-n", "20").stdout.splitlines()
        counts = [json.loads(row.split("  ", maxsplit=3)[3])["departures"] for row in told]
        assert sum(counts) == 40
        table = tmp_path / "flights-table"
        wait_for(lambda: sum(len(pl.read_parquet(each)) for each in table.glob("*.parquet")) == 41, "the table")
        stuck = re.compile(r"history\.flights\.feed/0 +STUCK")
        wait_for(lambda: stuck.search(line.inside("status").stdout) is not None, "the status")
        assert "2.parquet cannot be read" in line.inside("status").stdout
        assert server.end() == 0
    assert "  feed flights  from flights to topic flights" in server.log


def test_sessions_tables_branches_and_functions(tmp_path: Path) -> None:
    (app,) = [block for block in blocks("python") if "# shop.py" in block]
    (commands,) = [block for block in blocks("sh") if "produce clicks" in block]
    line = CommandLine(tmp_path)
    with running(line, app) as server:
        wait_for(lambda: line.inside("status").status == 0, "the worker")
        wait_for(lambda: line.inside("log", "tail", "clicks").status == 0, "the topics")
        shell(commands, tmp_path)
        wait_for(lambda: len(line.inside("log", "tail", "gold-scored").stdout.splitlines()) == 2, "the scores")
        later = json.dumps({"user": "eve", "page": "home", "at": 1_357_040_000_000, "seconds": 1.0})
        shell(f"echo '{later}' | penstock log produce clicks", tmp_path)
        wait_for(lambda: len(line.inside("log", "tail", "sessions").stdout.splitlines()) == 3, "the sessions")
        wait_for(lambda: len(list((tmp_path / "rest").glob("*.parquet"))) > 0, "the files")
        sessions = [
            row.split("  ", maxsplit=3)[2] for row in line.inside("log", "tail", "sessions").stdout.splitlines()
        ]
        assert sorted(sessions) == ["ada", "ada", "bob"]
        assert (tmp_path / "notified.txt").read_text().split() == ["bob", "ada"]
        assert "bob" in set(pl.read_parquet(tmp_path / "rest" / "*.parquet")["user"])
        assert server.end() == 0
    assert "stream clicks  from topic clicks, 1 partition  to " in server.log


def test_scores(tmp_path: Path) -> None:
    (app,) = [block for block in blocks("python") if "# scores.py" in block]
    (commands,) = [block for block in blocks("sh") if "produce payments" in block]
    (expected,) = [block for block in blocks("text") if "prediction_id" in block]
    line = CommandLine(tmp_path)
    with running(line, app) as server:
        wait_for(lambda: line.inside("log", "tail", "payments").status == 0, "the topics")
        shell(commands, tmp_path)
        wait_for(lambda: line.inside("log", "tail", "predictions").stdout != "", "the scores")
        (told,) = line.inside("log", "tail", "predictions").stdout.splitlines()
        scored = json.loads(told[told.index("{") :])
        version = scored["model_version"]
        assert scored == json.loads(expected.replace('"…"', json.dumps(version)))
        assert "raised" in line.inside("dlq", "list").stdout
        counted = f'penstock_stream_scored_rows_total{{model="risk",rung="model",version="{version}"}} 1'
        with server.client() as client:
            wait_for(lambda: counted in client.get("/metrics").text, "the count")
        assert server.end() == 0
