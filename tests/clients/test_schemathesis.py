"""Schemathesis reads the OpenAPI document and tries what it promises, with good requests and bad ones."""

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from client_server import ClientServer, client_python

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
RUN_S_MAX = 120
CASES_MIN = 200


def schemathesis(folder: Path, *arguments: str) -> tuple[int, str]:
    """Its exit status and what it said."""
    program = client_python("schemathesis").with_name("schemathesis")
    done = subprocess.run(
        [str(program), "--config-file", str(CONFIGURATION), "run", "--no-color", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def operations(document: dict[str, Any]) -> dict[str, Any]:
    """By method and path."""
    return {
        f"{method} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in ("get", "post")
    }


@pytest.fixture(scope="module")
def document(served: ClientServer) -> dict[str, Any]:
    with served.server.client() as client:
        answer: dict[str, Any] = client.get("/openapi.json").json()
    return answer


def test_the_document_is_true(served: ClientServer, document: dict[str, Any], tmp_path: Path) -> None:
    """Of two models, one of named columns and one of a matrix."""
    assert {"post /models/late/invocations", "post /v2/models/late/infer"} <= set(operations(document))
    phases = ("--phases", "examples,coverage,fuzzing")
    left_out = ("--exclude-path-regex", "/models/(moody|half|brain|spare|linear|types)")
    report = ("--report", "ndjson", "--report-dir", str(tmp_path))
    status, said = schemathesis(tmp_path, f"{served.server.url}/openapi.json", *phases, *left_out, *report)
    assert status == 0, said
    (file,) = tmp_path.glob("*.ndjson")
    assert file.read_text(encoding="utf-8").count('"status_code"') > CASES_MIN, said


def test_a_document_that_lies_is_found(served: ClientServer, document: dict[str, Any], tmp_path: Path) -> None:
    """The check can fail: an answer that the document does not promise is told."""
    lie = copy.deepcopy({**document, "paths": {"/v2": document["paths"]["/v2"]}})
    lie["paths"]["/v2"]["get"]["responses"]["200"]["content"] = {"text/plain": {}}
    (tmp_path / "lie.json").write_text(json.dumps(lie))
    status, said = schemathesis(tmp_path, str(tmp_path / "lie.json"), "--url", served.server.url)
    assert status == 1, said
    assert "text/plain" in said


def test_the_examples_are_answered(served: ClientServer, document: dict[str, Any]) -> None:
    tried = 0
    with served.server.client() as client:
        for name, operation in operations(document).items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            examples = (
                {} if "/moody/" in name else body.get("examples", {})
            )  # it sleeps for as long as it is told
            for example in examples.values():
                answer = client.post(name.removeprefix("post "), json=example["value"])
                assert answer.status_code == 200, (name, example, answer.text)
                tried += 1
    assert tried > 10


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b'{"inputs":' + b"9" * 5000 + b"}"])
def test_bodies_that_it_does_not_send(served: ClientServer, body: bytes) -> None:
    with served.server.client() as client:
        for path in ("/v2/models/late/infer", "/models/late/invocations"):
            answer = client.post(path, content=body, headers={"content-type": "application/json"})
            assert answer.status_code == 400, answer.text
            assert answer.json()["error"]
