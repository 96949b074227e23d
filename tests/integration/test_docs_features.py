"""docs/features.md, done as it says."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
from command_line import PATIENCE_S, PENSTOCK, CommandLine
from running_server import running

PAGE = Path(__file__).parents[2] / "docs" / "features.md"


def blocks(language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )


def test_from_events_to_a_training_set(tmp_path: Path) -> None:
    app, python = blocks("python")
    _, commands, _, join, backfill = blocks("sh")
    shown = blocks("text")[0].splitlines()
    line = CommandLine(tmp_path)
    with running(line, app) as server:
        wait_for(lambda: line.inside("log", "tail", "departures").status == 0, "the topics")
        *produced, show = commands.splitlines()
        shell("\n".join(produced), tmp_path)
        wait_for(lambda: "16.0" in line.inside(*show.split()[1:]).stdout, "the features")
        assert [row.split() for row in shell(show, tmp_path).splitlines()] == [row.split() for row in shown]
        wait_for(lambda: any((tmp_path / "history").glob("*.parquet")), "the history")
        assert server.end() == 0
    assert "  stream congestion.features  from topic flights.congestion.features" in server.log
    now_ms = int(time.time() * 1000) + 60_000
    origins = ["EWR", "JFK", "LGA"]
    labels = pl.DataFrame({"origin": origins, "asked_at": [1357031400000] * 3, "then": [now_ms] * 3})
    labels.write_parquet(tmp_path / "labels.parquet")
    # By that time nothing was available: it is years after.
    shell(join, tmp_path)
    assert pl.read_parquet(tmp_path / "training.parquet")["departures"].to_list() == [0, 0, 0]
    shell(join.replace("--out", "--available then --out"), tmp_path)
    known = pl.read_parquet(tmp_path / "training.parquet").select("departures", "mean_delay", "congested")
    assert known.rows() == [(2, 16.0, True), (1, -3.5, False), (0, 0.0, False)]
    # What has been backfilled was available in its time.
    shell(backfill.splitlines()[1], tmp_path)
    (tmp_path / "use.py").write_text(python + "\nprint(training['mean_delay'].to_list())\n")
    (tmp_path / "app.py").write_text(app)
    assert shell("python use.py", tmp_path).strip() == "[16.0, -3.5, 0.0]"


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"{what} did not come"
        time.sleep(0.1)


def shell(commands: str, folder: Path) -> str:
    """What a user's shell prints."""
    written = commands.replace("penstock ", f"{PENSTOCK} ").replace("python ", f"{sys.executable} ")
    done = subprocess.run(
        ["bash", "-euc", written],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done
    return done.stdout
