"""Versions of a real server that begin to answer wrongly while they serve."""

import time
from collections.abc import Callable

import httpx
import numpy as np
from command_line import CommandLine
from running_server import RunningServer, outputs, running, v2_json

APP = """
import os
import numpy as np
import penstock as ps
app = ps.App("health", objective=ps.Objective(latency_ms=60_000))
NUMBER = ps.Signature.of(inputs={"x": "FP32[-1]"}, outputs={"y": "FP32[-1]"})
CHECKED = ps.Health(every="200ms", failures=3, inputs={"x": [1, 2]}, outputs={"y": [2, 4]})

def double(inputs):
    return {"y": (3 if os.path.exists("wrong") else 2) * inputs["x"]}

app.callable("alone", signature=NUMBER, health=CHECKED)(double)
app.callable("laddered", signature=NUMBER, health=CHECKED, fallback=[ps.constant(y=0.5)])(double)
"""
OFTEN = "health.runtime_share=1"


def ask(server: RunningServer, model: str) -> httpx.Response:
    with server.client() as client:
        body = v2_json({"x": np.array([5], dtype=np.float32)})
        return client.post(f"/v2/models/{model}/infer", json=body)


def wait_until(holds: Callable[[], bool], server: RunningServer) -> None:
    deadline_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline_s, server.log
        time.sleep(0.1)


def ready(server: RunningServer) -> bool:
    with server.client() as client:
        return client.get("/v2/health/ready").status_code == 200


def test_a_version_that_answers_wrongly_is_taken_out_and_comes_back(commands: CommandLine) -> None:
    with running(commands, APP, "--set", OFTEN) as server:
        assert ready(server)
        assert outputs(ask(server, "alone"))["y"].tolist() == [10.0]
        (commands.folder / "wrong").touch()
        wait_until(lambda: ask(server, "alone").status_code == 503, server)
        refused = ask(server, "alone")
        assert refused.headers["x-shed-reason"] == "unhealthy"
        assert "on golden row 0 output 'y' is 3.0, it should be 2.0" in refused.json()["error"]
        wait_until(lambda: ask(server, "laddered").headers.get("x-penstock-rung") == "constant", server)
        wait_until(lambda: not ready(server), server)
        wait_until(lambda: commands.run("status").status == 1, server)
        assert "alone: it is taken out, as it keeps failing its checks" in commands.run("status").stdout
        (commands.folder / "wrong").unlink()
        wait_until(lambda: ask(server, "alone").status_code == 200, server)
        wait_until(lambda: ready(server), server)
        assert "x-penstock-rung" not in ask(server, "laddered").headers
        assert "passes its checks again" in server.log


def test_one_that_answers_wrongly_from_the_start_does_not_start(commands: CommandLine) -> None:
    (commands.folder / "wrong").touch()
    (commands.folder / "app.py").write_text(APP)
    error = commands.fails("run", "app.py", "--port", "0")
    assert "it should be 2.0" in error
    assert "Traceback" not in error
