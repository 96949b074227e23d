"""Moving an alias under load: nobody's request fails, no answer mixes versions, a bad version stays out."""

import json
import os
import signal
import time
from collections.abc import Callable

import httpx
from command_line import CommandLine
from moving_models import COLUMNS, Callers, push_adding
from running_server import RunningServer, running

APP = """
import penstock as ps
app = ps.App("swap", objective=ps.Objective(latency_ms=60_000))
app.model("adding")
"""


def ask(server: RunningServer, path: str = "/v2/models/adding") -> httpx.Response:
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, COLUMNS], "data": [0] * COLUMNS}]}
    with server.client() as client:
        return client.post(f"{path}/infer", json=body)


def version(server: RunningServer) -> str:
    answered: str = ask(server).json()["model_version"]
    return answered


def wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    started_s = time.monotonic()
    while not holds():
        assert time.monotonic() - started_s < seconds, "it never came to hold"
        time.sleep(0.02)


def move(commands: CommandLine, number: int) -> None:
    commands.succeeds_inside("model", "alias", "adding", "champion", str(number))


def damage(commands: CommandLine, number: int) -> None:
    shown = json.loads(commands.succeeds_inside("model", "show", f"adding:{number}", "--json"))
    stored = commands.folder / ".penstock" / "artifacts" / shown["source"]["digest"]
    stored.chmod(0o644)
    stored.write_bytes(stored.read_bytes()[:-3] + b"xyz")


def problems(commands: CommandLine) -> list[str]:
    shown = json.loads(commands.inside("status", "--json").stdout)
    return [
        problem
        for each in shown
        for worker in each["workers"]
        for problem in worker["report"]["problems"].values()
    ]


def test_a_moved_alias_switches_without_a_failed_or_mixed_answer(commands: CommandLine) -> None:
    push_adding(commands, 4)
    with running(commands, APP, "--workers", "2") as server, Callers(server, 3) as callers:
        for number in (2, 3, 4, 1, 3):
            move(commands, number)
            wait_until(lambda number=number: version(server) == str(number))  # type: ignore[misc]
            # Every worker, not just the one that answered: many fresh connections see one version.
            wait_until(lambda number=number: {version(server) for _ in range(12)} == {str(number)})  # type: ignore[misc]
    assert (callers.failures, callers.mixed) == ([], [])
    assert set(callers.versions) == {"1", "2", "3", "4"}
    assert "ERROR" not in server.log


def test_a_bad_version_leaves_the_old_one_and_says_why(commands: CommandLine) -> None:
    push_adding(commands, 3)
    damage(commands, 2)
    with running(commands, APP) as server, Callers(server) as callers:
        move(commands, 2)
        wait_until(lambda: "version 2 is not served" in server.log)
        assert version(server) == "1"
        wait_until(lambda: len(problems(commands)) == 1)
        (problem,) = problems(commands)
        assert "version 2 is not served" in problem
        assert "is corrupt" in problem
        assert "version 1 answers" in problem
        with server.client() as client:
            assert client.get("/v2/health/ready").status_code == 200  # what is wanted can be answered
        move(commands, 3)
        wait_until(lambda: version(server) == "3")
        wait_until(lambda: problems(commands) == [])
    assert (callers.failures, callers.mixed) == ([], [])
    assert set(callers.versions) <= {"1", "3"}


def test_a_worker_that_comes_later_serves_what_the_others_do(commands: CommandLine) -> None:
    push_adding(commands, 2)
    with running(commands, APP, "--workers", "1") as server:
        damage(commands, 2)
        move(commands, 2)
        wait_until(lambda: len(problems(commands)) == 1)
        (worker,) = json.loads(commands.inside("status", "--json").stdout)[0]["workers"]
        os.kill(worker["pid"], signal.SIGKILL)
        wait_until(lambda: ask(server).status_code == 200)  # by the new worker, whose champion is damaged
        assert version(server) == "1"
        wait_until(lambda: len(problems(commands)) == 1)
        assert "version 2 is not served" in problems(commands)[0]


def test_what_answered_before_stays_loaded_to_be_switched_back_to(commands: CommandLine) -> None:
    push_adding(commands, 4)
    with running(commands, APP) as server:
        for number in (2, 3, 4):
            move(commands, number)
            wait_until(lambda number=number: version(server) == str(number))  # type: ignore[misc]
        with server.client() as client:
            # Two stay besides the one that answers; they answer where they are named.
            wait_until(lambda: client.get("/v2/models/adding").json()["versions"] == ["4", "2", "3"])
        assert ask(server, "/v2/models/adding/versions/3").json()["model_version"] == "3"
        assert ask(server, "/v2/models/adding/versions/1").status_code == 404
        artifacts = commands.folder / ".penstock" / "artifacts"
        artifacts.rename(commands.folder / "elsewhere")  # nothing can be loaded any more
        move(commands, 3)
        wait_until(lambda: version(server) == "3")


def test_the_memory_budget_decides_what_stays(commands: CommandLine) -> None:
    push_adding(commands, 3, weight_bytes=1_000_000)
    budget = "runtime.memory_bytes_max=5000000"  # room for two: each holds its graph twice
    with running(commands, APP, "--set", budget) as server, server.client() as client:
        for number in (2, 3):
            move(commands, number)
            wait_until(lambda number=number: version(server) == str(number))  # type: ignore[misc]
        wait_until(lambda: client.get("/v2/models/adding").json()["versions"] == ["3", "2"])


def test_a_version_that_does_not_fit_is_not_loaded(commands: CommandLine) -> None:
    push_adding(commands, 2, weight_bytes=1_000_000)
    with running(commands, APP, "--set", "runtime.memory_bytes_max=3000000") as server:
        move(commands, 2)
        wait_until(lambda: "version 2 is not served" in server.log)
        assert "runtime.memory_bytes_max" in server.log or "needs about" in server.log
        assert version(server) == "1"
    said = commands.fails("run", "app.py", "--port", "0", "--set", "runtime.memory_bytes_max=1000")
    assert "runtime.memory_bytes_max" in said


def test_versions_beside_the_one_that_answers(commands: CommandLine) -> None:
    push_adding(commands, 4)
    commands.succeeds("model", "alias", "adding", "challenger", "2")
    app = APP.replace('"adding"', '"adding", beside=("challenger", 4)')
    with running(commands, app) as server, server.client() as client:
        assert sorted(client.get("/v2/models/adding").json()["versions"]) == ["1", "2", "4"]
        for number in ("2", "4"):
            assert ask(server, f"/v2/models/adding/versions/{number}").json()["model_version"] == number
        assert version(server) == "1"
        commands.succeeds("model", "alias", "adding", "challenger", "3")
        wait_until(lambda: ask(server, "/v2/models/adding/versions/3").status_code == 200)
        wait_until(lambda: ask(server, "/v2/models/adding/versions/2").status_code == 404)
        assert version(server) == "1"
