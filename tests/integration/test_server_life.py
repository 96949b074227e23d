"""The server's life: signals, what is in flight at them, kill -9, and what is left behind (nothing)."""

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from command_line import PATIENCE_S, CommandLine
from running_server import RunningServer, outputs, running, v2_json

APP = """
import time
import numpy as np
import penstock as ps
app = ps.App("life", objective=ps.Objective(latency_ms=60_000))
NUMBER = ps.Signature.of(inputs={"x": "FP32[-1]"}, outputs={"y": "FP32[-1]"})

@app.callable("sleepy", signature=NUMBER, batch_rows_max=1)
def sleepy(inputs):
    open("began", "w").close()
    time.sleep(float(inputs["x"][0]))
    return {"y": inputs["x"]}

@app.callable("double", signature=NUMBER)
def double(inputs):
    return {"y": 2 * inputs["x"]}
"""
IDLE_CONNECTIONS = 1500
GONE_S = 15.0


def ask(server: RunningServer, model: str, value: float) -> httpx.Response:
    with server.client() as client:
        body = v2_json({"x": np.array([value], dtype=np.float32)})
        return client.post(f"/v2/models/{model}/infer", json=body)


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.02)


def wait_until_taken_on(server: RunningServer, waiting: int = 0) -> None:
    """Until one request for `sleepy` runs and so many wait."""
    series = re.compile(rf'^penstock_queue_rows{{model="sleepy".*}} {waiting}$', re.MULTILINE)
    wait_until((server.folder / "began").exists, "nothing runs")
    with server.client() as client:
        wait_until(lambda: series.search(client.get("/metrics").text) is not None, "they were not taken on")


def shared_memory() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("penstock-*")}


def nothing_left(before: set[str]) -> bool:
    """Whether shared memory has no names but these. (One of another test's servers is there for a moment.)"""
    deadline_s = time.monotonic() + GONE_S
    while left := shared_memory() - before:
        if time.monotonic() > deadline_s:
            raise AssertionError(f"shared memory is left: {left}")
        time.sleep(0.01)
    return True


def all_gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=GONE_S)
    return not [each for each in alive if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_what_was_taken_on_is_finished(commands: CommandLine, number: signal.Signals) -> None:
    before = shared_memory()
    with running(commands, APP) as server, ThreadPoolExecutor(3) as callers:
        children = server.children()
        assert len(children) == 3  # the worker, and a process for each of its models
        in_flight = [callers.submit(ask, server, "sleepy", 2.5)]
        wait_until_taken_on(server)
        in_flight += [callers.submit(ask, server, "sleepy", value) for value in (0.1, 0.2)]
        wait_until_taken_on(server, waiting=2)
        server.process.send_signal(number)
        answers = sorted(float(outputs(each.result())["y"][0]) for each in in_flight)
        assert answers == [pytest.approx(each) for each in (0.1, 0.2, 2.5)]
        assert server.process.wait(30) == 0
        assert all_gone(children)
        assert nothing_left(before)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), timeout=1)
        assert "stopping" in server.log
        assert "Traceback" not in server.log
        assert "ERROR" not in server.log


def test_the_drain_is_bounded(commands: CommandLine) -> None:
    with running(commands, APP, "--set", "server.drain_s=0.5") as server, ThreadPoolExecutor(1) as callers:
        children = server.children()
        endless = callers.submit(ask, server, "sleepy", 300.0)
        wait_until_taken_on(server)
        assert server.end() in (0, 1)
        assert all_gone(children)
        assert endless.exception() is not None or endless.result().status_code != 200


def test_a_second_signal_ends_it_at_once(commands: CommandLine) -> None:
    with running(commands, APP) as server, ThreadPoolExecutor(1) as callers:
        children = server.children()
        unanswered = callers.submit(ask, server, "sleepy", 50.0)
        wait_until_taken_on(server)
        server.process.send_signal(signal.SIGINT)
        wait_until(lambda: "stopping" in server.log, "it does not stop")
        assert server.end(signal.SIGINT) == 1, "it does not wait for the answer"
        assert all_gone(children)
        assert isinstance(unanswered.exception(), httpx.HTTPError)


def test_a_killed_server_leaves_nothing(commands: CommandLine) -> None:
    before = shared_memory()
    with running(commands, APP) as server, ThreadPoolExecutor(1) as callers:
        children = server.children()
        lost = callers.submit(ask, server, "sleepy", 60.0)
        wait_until_taken_on(server)
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
        assert all_gone(children)
        assert nothing_left(before)
        assert isinstance(lost.exception(), httpx.HTTPError)


def test_a_signal_while_models_load_ends_it(commands: CommandLine) -> None:
    (commands.folder / "app.py").write_text(APP + "\ntime.sleep(0.5)\n")
    process = commands.start("run", "app.py", "--port", "0", environment={"PYTHONDONTWRITEBYTECODE": "1"})
    deadline_s = time.monotonic() + 20
    children: list[psutil.Process] = []
    while not children and time.monotonic() < deadline_s:
        children = psutil.Process(process.pid).children(recursive=True)
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    assert "Traceback" not in stderr
    assert "listening" not in stderr
    assert all_gone(children)


SLOW_TO_LOAD = (
    APP
    + """
@app.callable("slow", signature=NUMBER)
class Slow:
    def __init__(self):
        open("loading", "w").close()
        time.sleep(90)

    def __call__(self, inputs):
        return inputs
"""
)


def test_a_signal_in_a_long_load_ends_it_at_once(commands: CommandLine) -> None:
    (commands.folder / "app.py").write_text(SLOW_TO_LOAD)
    process = commands.start("run", "app.py", "--port", "0")
    wait_until((commands.folder / "loading").exists, "it did not begin to load")
    parent = psutil.Process(process.pid)
    wait_until(lambda: len(parent.children(recursive=True)) == 4, "there is no process for each model")
    children = parent.children(recursive=True)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)  # less than the load takes
    assert process.returncode == 0, stderr
    assert "Traceback" not in stderr
    assert "error" not in stderr
    assert all_gone(children)


def test_a_model_that_does_not_load_ends_the_loads_beside_it(commands: CommandLine) -> None:
    broken = (
        '@app.callable("broken", signature=NUMBER)\nclass Broken:\n    def __init__(self): raise ValueError\n'
    )
    (commands.folder / "app.py").write_text(SLOW_TO_LOAD + broken)
    process = commands.start("run", "app.py", "--port", "0")
    _, stderr = process.communicate(timeout=60)  # less than the other load takes
    assert process.returncode == 1
    assert [line for line in stderr.splitlines() if line.startswith("error: ")] == [
        "error: model 'broken': loading the model failed: ValueError: "
    ]


def test_the_port_is_free_again(commands: CommandLine) -> None:
    with running(commands, APP) as server:
        port = server.port
        assert outputs(ask(server, "double", 2))["y"].tolist() == [4]
        assert server.end() == 0
    process = commands.start("run", "app.py", "--port", str(port))
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            deadline_s = time.monotonic() + PATIENCE_S
            while time.monotonic() < deadline_s:
                try:
                    if client.get("/v2/health/ready").status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.05)
            else:
                raise AssertionError("it did not start again on its port")
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.mark.usefixtures("many_files")
def test_idle_connections_do_not_keep_others_out(server: RunningServer) -> None:
    head = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n"
    idle = [server.connect() for _ in range(IDLE_CONNECTIONS)]
    try:
        for _ in range(20):
            assert outputs(ask(server, "double", 4))["y"].tolist() == [8]
        for connection in idle:
            connection.settimeout(20)
            connection.sendall(head)
        for connection in idle:
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    finally:
        for connection in idle:
            connection.close()


def test_the_demo_runs_from_end_to_end(tmp_path: Path) -> None:
    """A quarter's features, a model on them, and a month of events with 27,662 requests beside them."""
    demo = subprocess.Popen(
        [sys.executable, "-m", "examples.flights.demo", "--once", "--speed", "200000"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin", "COLUMNS": "150"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        stdout, stderr = demo.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        for child in psutil.Process(demo.pid).children(recursive=True):
            child.kill()
        demo.kill()
        raise
    assert demo.returncode == 0, stderr
    assert "Traceback" not in stderr
    assert "runs on ONNX Runtime" in stderr
    (asked, scored) = [line for line in stdout.splitlines() if line.strip().startswith("AUC")]
    assert float(asked.split()[1]) > 0.85
    assert float(scored.split()[1]) > 0.85
    assert "and is done after" in stdout
