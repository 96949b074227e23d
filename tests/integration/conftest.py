"""What the tests of the real command and the real server share: trained models, pushed once."""

import fcntl
import os
import pickle
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from command_line import CommandLine, copy_home
from running_server import BODY_BYTES_MAX, RunningServer, running
from sample_models import SampleModel, late_pipeline, linear_onnx

OPEN_FILES = 4000
"""For 2,000 connections, and as many again."""
T = TypeVar("T")


@pytest.fixture
def many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < OPEN_FILES:
        pytest.skip(f"{OPEN_FILES} open files are needed, {hard} are allowed")
    if soft < OPEN_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, hard))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all processes among which a run of the tests is divided."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


def made_once(shared: Path, name: str, make: Callable[[Path], T]) -> T:
    """What `make` gives for a folder. The first process that needs it makes it, others have it from there."""
    folder, kept = shared / name, shared / f"{name}.pickle"
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            folder.mkdir()
            kept.write_bytes(pickle.dumps(make(folder)))
    found: T = pickle.loads(kept.read_bytes())
    return found


@pytest.fixture(scope="session")
def late(shared: Path) -> SampleModel:
    return made_once(shared, "late", late_pipeline)


@pytest.fixture(scope="session")
def linear(shared: Path) -> SampleModel:
    return made_once(shared, "linear", linear_onnx)


@pytest.fixture(scope="session")
def pushed(
    tmp_path_factory: pytest.TempPathFactory, shared: Path, late: SampleModel, linear: SampleModel
) -> CommandLine:
    """A folder with `late:1` (its champion) and `linear:1` and `:2` (its champion is 1). Not to be changed."""

    def push(folder: Path) -> CommandLine:
        commands = CommandLine(folder)
        named = ("--alias", "champion")
        commands.succeeds(
            "model", "push", "late", late.file, "--samples", late.samples, "--trust-pickle", *named
        )
        commands.succeeds("model", "push", "linear", linear.file, "--samples", linear.samples, *named)
        commands.succeeds("model", "push", "linear", linear.file)
        return commands

    commands = CommandLine(tmp_path_factory.mktemp("pushed"))
    # Servers that run from it are seen by all who look there.
    copy_home(made_once(shared, "pushed", push), commands.folder)
    return commands


@pytest.fixture
def commands(tmp_path: Path) -> CommandLine:
    """The command in an empty folder."""
    return CommandLine(tmp_path)


@pytest.fixture
def registry(tmp_path: Path, pushed: CommandLine) -> CommandLine:
    """The command in a copy of the folder with pushed models, to change as one likes."""
    copy_home(pushed, tmp_path)
    return CommandLine(tmp_path)


APP = """
import os
import threading
import time
import numpy as np
import penstock as ps
from penstock import Signature
from penstock.core.errors import InvalidInput

# A machine with much else to do must not be refused for that.
app = ps.App("tests", objective=ps.Objective(latency_ms=60_000))
app.model("late")
app.model("linear", version=2)
NUMBER = Signature.of(inputs={"x": "FP32[-1]"}, outputs={"y": "FP32[-1]"})

@app.callable("double", signature=NUMBER)
def double(inputs):
    return {"y": 2 * inputs["x"]}

@app.callable("text", signature=Signature.of(inputs={"x": "STRING[-1]"}, outputs={"y": "STRING[-1]"}))
def text(inputs):
    return {"y": np.array([each.upper() for each in inputs["x"]], dtype=object)}

@app.callable(
    "counter",
    signature=Signature.of(inputs={"x": "INT64[-1]"}, outputs={"calls": "INT64[-1]", "pid": "INT64[-1]"}),
)
class Counter:
    def __init__(self):
        self.calls = 0
    def __call__(self, inputs):
        self.calls += 1
        rows = len(inputs["x"])
        return {"calls": np.full(rows, self.calls), "pid": np.full(rows, os.getpid())}

@app.callable("picky", signature=NUMBER)
def picky(inputs):
    x = inputs["x"]
    if (x > 100).any():
        raise InvalidInput("input 'x' is above 100", where="x")
    if (x < 0).any():
        raise ValueError("x is below 0 \\u00fc")
    if (x == 1).any():
        return {"y": x[:-1]}
    if (x == 2).any():
        return {"z": x}
    if (x == 3).any():
        return [1]
    if (x == 4).any():
        return {"y": x * np.nan}
    if (x == 5).any():
        print("printed by the model")
    return {"y": x}

@app.callable("slow", signature=NUMBER)
def slow(inputs):
    until = time.monotonic() + float(inputs["x"][0])
    while time.monotonic() < until and not os.path.exists("enough"):  # holds the lock of its interpreter
        pass
    return {"y": inputs["x"]}

@app.callable("sleepy", signature=NUMBER)
def sleepy(inputs):
    until = time.monotonic() + float(inputs["x"].max())
    while time.monotonic() < until and not os.path.exists("enough"):
        time.sleep(0.01)
    return {"y": inputs["x"]}
"""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, pushed: CommandLine) -> Iterator[RunningServer]:
    """A server of `late`, `linear` (version 2) and the callables above, for tests that leave it as it is."""
    commands = CommandLine(tmp_path_factory.mktemp("server"))
    home = str(pushed.folder / ".penstock")
    limit = f"server.body_bytes_max={BODY_BYTES_MAX}"
    with running(commands, APP, "--set", limit, environment={"PENSTOCK_HOME": home}) as running_server:
        yield running_server
        assert running_server.process.poll() is None, running_server.log


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened
