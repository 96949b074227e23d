"""Several worker processes behind one port: killed, crashing, reloaded, counted together."""

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from command_line import CommandLine
from moving_models import Callers, push_adding
from running_server import RunningServer, running
from test_server_life import all_gone, nothing_left, shared_memory

APP = """
import penstock as ps
app = ps.App("workers", objective=ps.Objective(latency_ms=60_000))
app.model("adding")
"""
BREAKABLE = """
import os
from pathlib import Path
import penstock as ps
app = ps.App("breakable", objective=ps.Objective(latency_ms=60_000))
NUMBER = ps.Signature.of(inputs={"x": "FP32[-1]"}, outputs={"y": "FP32[-1]"})

@app.callable("fragile", signature=NUMBER)
class Fragile:
    def __init__(self):
        if Path("broken").exists():
            os._exit(7)
    def __call__(self, inputs):
        return {"y": inputs["x"]}
"""
IN_FLIGHT_MAX = 3


@pytest.fixture
def adding(commands: CommandLine) -> CommandLine:
    push_adding(commands, 1)
    return commands


def status(commands: CommandLine) -> dict[str, Any]:
    (instance,) = json.loads(commands.inside("status", "--json").stdout)
    found: dict[str, Any] = instance
    return found


def pids(commands: CommandLine) -> list[int]:
    """Of the workers that serve."""
    return [each["pid"] for each in status(commands)["workers"] if each["state"] == "serving"]


def wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    started_s = time.monotonic()
    while not holds():
        assert time.monotonic() - started_s < seconds, "it never came to hold"
        time.sleep(0.05)


def ready(server: RunningServer) -> int:
    with server.client() as client:
        return client.get("/v2/health/ready").status_code


def counted(server: RunningServer) -> float:
    with server.client() as client:
        text = client.get("/metrics").text
    return sum(
        float(value) for value in re.findall(r"^penstock_requests_total\{.*\} (.*)$", text, re.MULTILINE)
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV], ids=["kill -9", "segmentation fault"])
def test_only_what_a_dead_worker_had_in_flight_fails(adding: CommandLine, number: signal.Signals) -> None:
    with (
        running(adding, APP, "--workers", "2") as server,
        Callers(server, IN_FLIGHT_MAX, fresh=True) as callers,
    ):
        for _ in range(3):
            before = pids(adding)
            failed = len(callers.failures)
            os.kill(before[0], number)
            wait_until(lambda before=before: len(set(pids(adding)) - {before[0]}) == 2)  # type: ignore[misc]
            assert len(callers.failures) - failed <= IN_FLIGHT_MAX
            assert ready(server) == 200
        workers = status(adding)["workers"]
        assert sum(worker["restarts"] for worker in workers) == 3
        assert all(number.name in worker["cause"] for worker in workers if worker["restarts"])
    assert callers.mixed == []
    assert callers.versions["1"] > 20


def test_the_port_answers_while_the_only_worker_is_away(adding: CommandLine) -> None:
    with running(adding, APP) as server:
        os.kill(pids(adding)[0], signal.SIGKILL)
        with server.client() as client:
            # It waits in the backlog that the supervisor keeps; who would wait long (where a process takes more
            # than two seconds to start) is told so.
            assert client.get("/v2/health/live").status_code in (200, 503)
            wait_until(lambda: client.get("/v2/health/live").status_code == 200)


def test_counters_never_run_backwards(adding: CommandLine) -> None:
    with running(adding, APP, "--workers", "2") as server, Callers(server, 2, fresh=True) as callers:
        seen = 0.0
        for turn in range(20):
            if turn % 5 == 2:
                wait_until(lambda: len(pids(adding)) == 2)  # one of them is always there to ask
                os.kill(pids(adding)[0], signal.SIGKILL)
            now = counted(server)
            assert now >= seen
            seen = now
            time.sleep(0.1)
    assert seen > 0
    assert callers.mixed == []


def test_a_model_that_keeps_dying_is_named_and_nobody_is_told_it_is_ready(commands: CommandLine) -> None:
    with running(commands, BREAKABLE, "--workers", "1") as server:
        (model,) = status(commands)["workers"][0]["report"]["models"]
        (commands.folder / "broken").touch()
        os.kill(model["pid"], signal.SIGKILL)
        wait_until(lambda: ready(server) == 503)
        with server.client() as client:
            assert client.get("/v2/models/fragile/ready").status_code == 503
            assert client.get("/v2/health/live").status_code == 200
        wait_until(lambda: "ended with status 7" in commands.run("status").stdout)
        assert commands.run("status").status == 1
        assert "NOT READY" in commands.run("status").stdout
        (commands.folder / "broken").unlink()
        wait_until(lambda: ready(server) == 200)  # nobody has asked the model anything
        assert commands.run("status").status == 0


def test_a_crash_loop_is_named_with_its_cause(commands: CommandLine) -> None:
    crashing = 'from pathlib import Path\nif Path("broken").exists():\n    raise RuntimeError("no such luck")\n'
    with running(commands, crashing + BREAKABLE, "--workers", "2") as server:
        (commands.folder / "broken").touch()
        doomed, other = pids(commands)
        os.kill(doomed, signal.SIGKILL)
        wait_until(lambda: "in a row" in server.log)
        assert "no such luck" in commands.run("status").stdout
        assert ready(server) == 200
        assert pids(commands) == [other]
        (commands.folder / "broken").unlink()
        wait_until(lambda: len(pids(commands)) == 2)


def test_while_nobody_serves_clients_are_told_at_once(commands: CommandLine) -> None:
    crashing = 'from pathlib import Path\nif Path("broken").exists():\n    raise RuntimeError("no such luck")\n'
    with running(commands, crashing + BREAKABLE) as server:
        (commands.folder / "broken").touch()
        os.kill(pids(commands)[0], signal.SIGKILL)
        wait_until(lambda: "in a row" in server.log)
        with server.client() as client:
            response = client.post("/v2/models/fragile/infer", content=b"x" * 100_000)
        assert response.status_code == 503
        assert response.headers["content-type"] == "application/json"
        assert "no process of this server" in response.json()["error"]
        assert int(response.headers["retry-after"]) > 0
        (commands.folder / "broken").unlink()
        wait_until(lambda: ready(server) == 200)


@pytest.mark.parametrize("victim", ["supervisor", "worker", "all workers"])
def test_nothing_is_left_whatever_dies_first(commands: CommandLine, victim: str) -> None:
    before = shared_memory()
    with running(commands, BREAKABLE, "--workers", "2") as server:
        family = server.children()
        workers = pids(commands)
        if victim == "supervisor":
            assert server.end(signal.SIGKILL) == -signal.SIGKILL
        else:
            for pid in workers if victim == "all workers" else workers[:1]:
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: len(set(pids(commands)) - set(workers)) == (1 if victim == "worker" else 2))
            family += server.children()
            assert server.end() == 0
        assert all_gone(family)
    assert nothing_left(before)
    assert "nothing runs from" in commands.fails("status")
    run = commands.folder / ".penstock" / "run"
    assert not run.exists() or list(run.iterdir()) == []


def test_a_stopped_worker_does_not_keep_the_others_from_answering(adding: CommandLine) -> None:
    with running(adding, APP, "--workers", "2") as server:
        stopped, other = pids(adding)
        os.kill(stopped, signal.SIGSTOP)
        try:
            time.sleep(0.3)
            with server.client() as client:
                for _ in range(20):
                    response = client.get("/v2/health/live", headers={"connection": "close"})
                    assert response.status_code == 200
            # It says nothing, so in the end it is killed, and replaced.
            wait_until(lambda: stopped not in [each["pid"] for each in status(adding)["workers"]])
            wait_until(lambda: len(pids(adding)) == 2)
            assert other in pids(adding)
            assert "said nothing for" in server.log
        finally:
            if psutil.pid_exists(stopped):
                os.kill(stopped, signal.SIGCONT)


SAME = """
NUMBER = ps.Signature.of(inputs={"x": "FP32[-1]"}, outputs={"x": "FP32[-1]"})

@app.callable("same", signature=NUMBER)
def same(inputs):
    return inputs
"""
SETTINGS = """
[server]
workers = {workers}
request_timeout_s = {timeout_s}
"""


def hang_up(server: RunningServer) -> None:
    server.process.send_signal(signal.SIGHUP)


def write_settings(commands: CommandLine, **values: object) -> None:
    (commands.folder / "penstock.toml").write_text(SETTINGS.format(**values))


def test_sighup_reads_settings_and_app_file_again_and_nobody_notices(adding: CommandLine) -> None:
    write_settings(adding, workers=1, timeout_s=30)
    with running(adding, APP) as server, Callers(server, 2) as callers:
        (old,) = pids(adding)
        write_settings(adding, workers=2, timeout_s=25)
        (adding.folder / "app.py").write_text(APP + SAME)
        hang_up(server)
        wait_until(lambda: len(pids(adding)) == 2 and old not in pids(adding))
        wait_until(lambda: "every worker is new" in server.log)
        with server.client() as client:
            assert client.get("/v2/models/same").status_code == 200
        write_settings(adding, workers=1, timeout_s=25)
        hang_up(server)
        wait_until(lambda: len(pids(adding)) == 1)
    # A keep-alive connection is told with its last answer that it is, and clients come back elsewhere.
    assert (callers.failures, callers.mixed) == ([], [])


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("penstock.toml", 'log_level = "loud"\n', "the settings were not read again"),
        ("penstock.toml", "[server\n", "the settings were not read again"),
        ("app.py", "import penstock\n1 / 0\n", "ZeroDivisionError"),
        ("app.py", 'import penstock as ps\napp = ps.App("a")\napp.model("none")\n', "there is no model 'none'"),
    ],
    ids=["value", "syntax", "app file", "model"],
)
def test_what_cannot_be_used_leaves_all_as_it_was(adding: CommandLine, file: str, text: str, said: str) -> None:
    with running(adding, APP, "--workers", "2") as server, Callers(server, 1) as callers:
        before = pids(adding)
        (adding.folder / file).write_text(text)
        hang_up(server)
        wait_until(lambda: said in server.log)
        time.sleep(0.5)
        assert {each.pid for each in psutil.Process(server.process.pid).children()} == set(before)
        assert ready(server) == 200
        (adding.folder / "penstock.toml").unlink(missing_ok=True)
    assert (callers.failures, callers.mixed) == ([], [])


def test_a_crash_while_starting_is_said_and_ends_it(commands: CommandLine) -> None:
    (commands.folder / "app.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    said = commands.fails("run", "app.py", "--port", "0", "--workers", "2")
    assert "a worker cannot start" in said
    assert "SIGSEGV" in said


def test_a_worker_that_comes_to_stand_at_its_second_start_fails_nothing(adding: CommandLine) -> None:
    # Which worker makes the folder is the first; the other waits until that one serves, and raises once.
    halting = (
        "import time\nfrom pathlib import Path\ntry:\n    Path('one').mkdir()\nexcept FileExistsError:\n"
        "    if not Path('two').exists():\n        Path('two').touch()\n        time.sleep(3)\n"
        "        raise RuntimeError('once') from None\n"
    )
    with running(adding, halting + APP, "--workers", "2") as server:
        assert "once" in server.log
        assert server.end() == 0


def test_nothing_runs(commands: CommandLine) -> None:
    assert "nothing runs from .penstock" in commands.fails("status")
    run = Path(commands.folder / ".penstock" / "run")
    assert not run.exists()


def test_load_balancers_get_their_grace(adding: CommandLine) -> None:
    with running(adding, APP, "--set", "server.grace_s=1.5") as server, httpx.Client(trust_env=False) as client:
        kept = server.client()
        assert kept.get("/v2/health/ready").status_code == 200
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: ready(server) == 503)
        answer = kept.get("/v2/health/live")
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert client.get(f"{server.url}/v2/models/adding").status_code == 200
        assert server.process.wait(20) == 0
        kept.close()
