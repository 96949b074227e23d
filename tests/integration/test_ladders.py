"""Ladders of a real server: models that raise, hang and are shed, and what answers in their place."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from command_line import PATIENCE_S, CommandLine
from running_server import RunningServer, outputs, running, v2_binary, v2_json

APP = """
import os
import time
import numpy as np
import penstock as ps
from penstock.core.errors import InvalidInput
# Wide, for a busy machine: only a model that hangs for longer is passed. What is shed gives its own deadlines.
app = ps.App("fallbacks", objective=ps.Objective(latency_ms=3000))
NUMBER = ps.Signature.of(inputs={"x": "FP32[-1]"}, outputs={"y": "FP32[-1]"})

def by_value(inputs):
    first = float(inputs["x"][0])
    if first == 1:
        raise ValueError("one")
    if first == 2:
        time.sleep(30)
    if first == 3:
        raise InvalidInput("three is none", where="x")
    return {"y": 2 * inputs["x"]}

NEVER = ps.Breaker(failure_share=1.0, window_requests=100000, requests_min=100000)

app.callable("bare", signature=NUMBER)(by_value)
app.callable("constant-last", signature=NUMBER, breaker=NEVER,
    fallback=[ps.cached(max_age="10m"), ps.constant(y=0.5)])(by_value)
app.callable("backed", signature=NUMBER, breaker=NEVER,
    fallback=["lite", ps.constant(y=0.5)])(by_value)

def slow(inputs):
    time.sleep(0.2)
    return {"y": inputs["x"]}

app.callable("shed", signature=NUMBER, batch_rows_max=1, breaker=NEVER, fallback=[ps.constant(y=0.5)])(slow)
app.callable("lite", signature=NUMBER)(lambda inputs: {"y": inputs["x"] + 100})

def rough(inputs):
    rough.calls += 1
    if rough.calls == 2:
        raise RuntimeError("the heuristic broke")
    if rough.calls == 3:
        time.sleep(20)
    return {"y": inputs["x"] * 0 - 1}
rough.calls = 0

app.callable("rough", signature=NUMBER, breaker=NEVER,
    fallback=[ps.heuristic(rough, timeout_ms=500), ps.constant(y=0.5)])(by_value)
app.callable("all-fail", signature=NUMBER, breaker=NEVER, fallback=["broken"])(by_value)

@app.callable("broken", signature=NUMBER)
def broken(inputs):
    raise OSError("broken as well")

@app.callable("breaking", signature=NUMBER, fallback=[ps.constant(y=0.5)],
    breaker=ps.Breaker(window_requests=10, requests_min=5, open_first_s=5.0, open_longest_s=5.0))
def breaking(inputs):
    if os.path.exists("mended"):
        return {"y": inputs["x"]}
    with open("asked", "a") as asked:
        asked.write("x")
    raise ValueError("not mended yet")
"""
STUCK = "runtime.run_timeout_s=5"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fallbacks")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RunningServer]:
    with running(CommandLine(folder), APP, "--set", STUCK) as started:
        yield started


def ask(
    server: RunningServer, model: str, *values: float, headers: dict[str, str] | None = None
) -> httpx.Response:
    with server.client() as client:
        body = v2_json({"x": np.array(values, dtype=np.float32)})
        return client.post(f"/v2/models/{model}/infer", json=body, headers=headers)


def answered(response: httpx.Response) -> tuple[str | None, list[float]]:
    """The rung and the values; what the header says of the rung, the parameters say as well."""
    values = outputs(response)["y"].tolist()
    rung = response.headers.get("x-penstock-rung")
    assert (response.json().get("parameters") or {}).get("rung") == rung
    return rung, values


def test_what_answers_where_a_model_raises(server: RunningServer) -> None:
    assert answered(ask(server, "constant-last", 5, 6)) == (None, [10.0, 12.0])
    raised = ask(server, "constant-last", 1, 6)
    assert answered(raised) == ("constant", [0.5, 0.5])
    assert (raised.json()["model_name"], raised.json()["model_version"]) == ("constant-last", "")
    backed = ask(server, "backed", 1, 6)
    assert answered(backed) == ("lite", [101.0, 106.0])
    assert backed.json()["model_name"] == "lite"
    assert backed.json()["model_version"]
    assert ask(server, "bare", 1).status_code == 500
    assert ask(server, "all-fail", 1).status_code == 500
    assert "ValueError" in ask(server, "all-fail", 1).json()["error"]


def test_what_is_no_rungs_concern(server: RunningServer) -> None:
    invalid = ask(server, "constant-last", 3)
    assert invalid.status_code == 400
    assert "three is none" in invalid.json()["error"]
    with server.client() as client:
        body = v2_json({"z": np.array([1], dtype=np.float32)})
        assert client.post("/v2/models/constant-last/infer", json=body).status_code == 400
        version = client.get("/v2/models/constant-last").json()["versions"][0]
        body = v2_json({"x": np.array([1], dtype=np.float32)})
        named = client.post(f"/v2/models/constant-last/versions/{version}/infer", json=body)
        assert named.status_code == 500, "who names a version wants that one"


def test_a_heuristic_that_breaks_or_hangs_is_passed(server: RunningServer) -> None:
    assert answered(ask(server, "rough", 1)) == ("heuristic", [-1.0])
    assert answered(ask(server, "rough", 1)) == ("constant", [0.5])
    started_s = time.monotonic()
    assert answered(ask(server, "rough", 1)) == ("constant", [0.5])
    assert time.monotonic() - started_s < 15, "it hung for 20 s"
    assert answered(ask(server, "rough", 1)) == ("heuristic", [-1.0]), "its other thread"


def test_a_model_that_hangs(server: RunningServer) -> None:
    assert answered(ask(server, "backed", 5)) == (None, [10.0])
    with ThreadPoolExecutor(4) as callers:
        hung = [callers.submit(ask, server, "backed", 2) for _ in range(4)]
        assert {answered(each.result())[0] for each in hung} == {"lite"}
    deadline_s = time.monotonic() + PATIENCE_S
    while answered(ask(server, "backed", 5))[0] is not None:
        assert time.monotonic() < deadline_s, "it does not come back"
        time.sleep(0.1)


def counted(client: httpx.Client) -> int:
    """Answers of `shed` by its constant, as /metrics has them."""
    series = 'penstock_rungs_total{model="shed",rung="constant"} '
    (line,) = [line for line in client.get("/metrics").text.splitlines() if line.startswith(series)]
    return int(line.removeprefix(series))


def test_a_model_that_is_shed(server: RunningServer) -> None:
    """Eight seconds of work at once, by callers that give it three."""
    with ThreadPoolExecutor(40) as callers, server.client() as client:
        body = v2_json({"x": np.array([4], dtype=np.float32)})

        def ask_briefly(_: int) -> httpx.Response:
            return client.post("/v2/models/shed/infer", json=body, headers={"x-request-timeout-ms": "3000"})

        assert answered(ask_briefly(0)) == (None, [4.0])
        found = list(callers.map(ask_briefly, range(200)))
        rungs = [answered(each)[0] for each in found]
        assert set(rungs) == {None, "constant"}
        assert counted(client) == rungs.count("constant")


def test_the_other_protocols_say_the_rung_as_well(server: RunningServer) -> None:
    with server.client() as client:
        rows = client.post("/models/backed/invocations", json={"inputs": {"x": [1.0]}})
        assert rows.json() == {"predictions": [101.0]}
        assert rows.headers["x-penstock-rung"] == "lite"
        assert rows.headers["x-penstock-model"] == "lite"
        body, headers = v2_binary({"x": np.array([1], dtype=np.float32)})
        binary = client.post("/v2/models/constant-last/infer", content=body, headers=headers)
        assert outputs(binary)["y"].tolist() == [0.5]
        assert binary.headers["x-penstock-rung"] == "constant"


def test_a_breaker_leaves_a_version_alone_and_lets_it_come_back(server: RunningServer, folder: Path) -> None:
    for _ in range(5):
        assert answered(ask(server, "breaking", 1))[0] == "constant"
    asked = (folder / "asked").stat().st_size
    assert answered(ask(server, "breaking", 1))[0] == "constant"
    assert (folder / "asked").stat().st_size == asked, "it is left alone"
    with server.client() as client:
        assert client.get("/v2/models/breaking/ready").status_code == 200, "no reason to take it out"
    (folder / "mended").touch()
    deadline_s = time.monotonic() + PATIENCE_S
    while answered(ask(server, "breaking", 1)) != (None, [1.0]):
        assert time.monotonic() < deadline_s, "it does not come back"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("fallback", "said"),
    [
        ('["nobody"]', "model 'm' falls back to 'nobody', which the app does not declare"),
        ("[ps.constant(z=1)]", "gives other outputs than the model"),
        ("[ps.constant(y='a')]", "constant y='a' does not fit output FP32[-1]"),
        ('["other"]', "'other' cannot be a fallback of 'm': 'm' has no input 'z', which 'other' has"),
        ("[ps.cached(max_age='soon')]", "'soon', not a time"),
    ],
)
def test_ladders_that_cannot_stand(commands: CommandLine, fallback: str, said: str) -> None:
    (commands.folder / "app.py").write_text(f"""
import penstock as ps
app = ps.App("wrong")
OTHER = ps.Signature.of(inputs={{"z": "FP32[-1]"}}, outputs={{"y": "FP32[-1]"}})
app.callable("other", signature=OTHER)(lambda inputs: {{"y": inputs["z"]}})
NUMBER = ps.Signature.of(inputs={{"x": "FP32[-1]"}}, outputs={{"y": "FP32[-1]"}})
app.callable("m", signature=NUMBER, fallback={fallback})(lambda inputs: {{"y": inputs["x"]}})
""")
    error = " ".join(commands.fails("run", "app.py", "--port", "0").split())
    assert said in error, error
    assert "Traceback" not in error
