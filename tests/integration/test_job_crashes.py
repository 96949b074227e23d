"""Processes that have jobs are killed at each step: what was acknowledged is answered, once, and told."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from command_line import PATIENCE_S
from job_hooks import Hooks, hooks
from test_jobs import job_events

from penstock.core.clock import SystemClock
from penstock.core.failpoints import FAILPOINT_VARIABLE
from penstock.serving.jobs.database import JobDatabase
from penstock.serving.jobs.reading import count_jobs, read_latest, read_results

COUNT = 16
STEPS = ("enqueue", "claim", "run", "end", "claim-webhook", "webhook", "end-webhook", "log", "told", "keep")
EVERY = [*STEPS, *(f"{step}-done" for step in STEPS if step not in ("run", "webhook", "log"))]
SOME = ["enqueue-done", "claim-done", "run", "end", "webhook", "log"]
CRASHES = int(os.environ.get("CRASHES", "0"))
PLACES = EVERY if CRASHES else SOME
"""`make crash-jobs` for all of them."""
COUNTS = {"run": 9, "webhook": 9, "keep": 1, "keep-done": 1, "log": 1, "told": 1, "told-done": 1}


def process(home: Path, url: str, failpoint: str | None = None) -> tuple[int, dict[int, str]]:
    """Its exit status, and the jobs that it acknowledged."""
    environment = {name: value for name, value in os.environ.items() if name != FAILPOINT_VARIABLE}
    if failpoint is not None:
        environment[FAILPOINT_VARIABLE] = failpoint
    script = Path(__file__).with_name("job_process.py")
    done = subprocess.run(
        [sys.executable, script, home, url, str(COUNT)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=PATIENCE_S,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    lines = (line.split() for line in done.stdout.splitlines())
    return done.returncode, {int(number): name for number, name in lines}


def check(home: Path, hook: Hooks, acknowledged: dict[int, str]) -> None:
    """All of it is so whichever process was killed when."""
    database = JobDatabase.open(home, SystemClock())
    with database.reading() as connection:
        jobs = read_latest(connection, state=None, count=10 * COUNT)
        results = read_results(connection, [acknowledged[number] for number in range(COUNT)])
        assert count_jobs(connection).untold == 0
    database.close()
    assert len(jobs) == COUNT
    for number, result in enumerate(results):
        assert result is not None, f"{number} was acknowledged and is lost"
        job, answer = result
        assert (job.state.value, answer is not None and answer.body) == ("done", str(number**2).encode())
    assert Counter(set(hook.ids())) == Counter(acknowledged.values())
    events = {(each["job"], each["sequence"], each["event"]) for each in job_events(home, "crashing")}
    wanted = {
        (name, place, event)
        for name in acknowledged.values()
        for place, event in ((1, "accepted"), (2, "done"))
    }
    assert events == wanted


@pytest.mark.parametrize("place", PLACES)
def test_a_kill_at_every_step(tmp_path: Path, place: str) -> None:
    with hooks() as hook:
        status, before = process(tmp_path, hook.url, f"jobs-{place}:{COUNTS.get(place, 3)}:kill")
        assert status == -signal.SIGKILL, "it was not killed there"
        status, after = process(tmp_path, hook.url)
        assert status == 0
        for number, name in before.items():
            assert after[number] == name, f"{number} was acknowledged, and its key stands for another job now"
        check(tmp_path, hook, after)
        runs = Counter((tmp_path / "ledger").read_text().split())
        # What ran while it was killed runs again; nothing else does.
        assert sum(runs.values()) <= COUNT + 8


def test_a_step_that_fails_is_taken_again(tmp_path: Path) -> None:
    """As on a full disk: what could not be written is not acknowledged, or written later."""
    for place in ("claim", "end", "end-webhook", "told") if CRASHES else ("end",):
        home = tmp_path / place
        home.mkdir()
        with hooks() as hook:
            status, acknowledged = process(home, hook.url, f"jobs-{place}:2:raise")
            assert status == 0
            check(home, hook, acknowledged)


def test_a_job_that_kills_its_process_fails_and_its_neighbours_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POISON", "2")
    with hooks() as hook:
        kills = 0
        while (found := process(tmp_path, hook.url))[0] == -signal.SIGKILL:
            kills += 1
            assert kills <= 2, "it was run more often than it may lose its process"
        status, acknowledged = found
    assert (status, kills) == (0, 2)
    database = JobDatabase.open(tmp_path, SystemClock())
    with database.reading() as connection:
        jobs = {job.id: job for job in read_latest(connection, state=None, count=10 * COUNT)}
    database.close()
    poison = jobs.pop(acknowledged[2])
    assert (poison.state.value, "2 times its process ended" in poison.error) == ("failed", True)
    assert Counter((job.state.value, job.attempts) for job in jobs.values()) == {("done", 1): COUNT - 1}
    runs = Counter((tmp_path / "ledger").read_text().split())
    # Beside it they ran once for nothing; the second time it was alone.
    assert max(runs.values()) == runs["2"] == 2
