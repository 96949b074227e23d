"""Clients that others wrote, unmodified, against a running server.

Each script of `scripts` runs once in the environment of its client; a test here is one of its checks.
"""

import ast
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from client_server import ClientServer, client_python

SCRIPTS = Path(__file__).with_name("scripts")
ENVIRONMENTS = {
    "triton_http": "triton",
    "triton_http_aio": "triton",
    "triton_grpc": "triton",
    "triton_grpc_aio": "triton",
    "kserve_rest": "kserve",
    "kserve_grpc": "kserve",
    "mlflow_scoring": "mlflow",
    "triton_forbidden": "triton",
}
ASK_TAXIS = {"triton_forbidden"}
SCRIPT_S_MAX = 120


def checks(script: str) -> list[str]:
    tree = ast.parse((SCRIPTS / f"{script}.py").read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node.name for node in tree.body if isinstance(node, kinds) and node.name.startswith("check_")]


class Results:
    """How the checks ended; a script runs when it is asked after first."""

    def __init__(self, served: ClientServer, taxis: ClientServer) -> None:
        self._served = served
        self._taxis = taxis
        self._ended: dict[str, dict[str, Any]] = {}
        self._said: dict[str, str] = {}

    def failure(self, script: str, check: str) -> str | None:
        """Why the check failed; None: it did not."""
        if script not in self._ended:
            self._run(script)
        ended = self._ended[script].get(check)
        return f"it did not end: {self._said[script]}" if ended is None else ended["failure"]

    def _run(self, script: str) -> None:
        python = client_python(ENVIRONMENTS[script])
        asked = self._taxis if script in ASK_TAXIS else self._served
        command = [str(python), "-W", "ignore", str(SCRIPTS / f"{script}.py"), str(asked.facts)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SCRIPT_S_MAX, check=False)
            lines, said = done.stdout, f"status {done.returncode}, {done.stderr[-4000:]}"
        except subprocess.TimeoutExpired as late:
            lines, said = (late.stdout or b"").decode(), f"it took more than {SCRIPT_S_MAX} s"
        ended = [json.loads(line) for line in lines.splitlines() if line.startswith('{"check"')]
        self._ended[script] = {each["check"]: each for each in ended}
        self._said[script] = said


@pytest.fixture(scope="session")
def results(served: ClientServer, taxis: ClientServer) -> Results:
    return Results(served, taxis)


@pytest.mark.parametrize(
    ("script", "check"), [(script, check) for script in ENVIRONMENTS for check in checks(script)]
)
def test_client(results: Results, script: str, check: str) -> None:
    failure = results.failure(script, check)
    if failure is not None:
        pytest.fail(failure, pytrace=False)


def test_every_script_is_run() -> None:
    assert {path.stem for path in SCRIPTS.glob("*.py")} == {*ENVIRONMENTS, "checks"}
    assert all(checks(script) for script in ENVIRONMENTS)
