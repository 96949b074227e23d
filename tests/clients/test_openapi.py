"""Schemathesis reads the OpenAPI document and tries what it promises, with good requests and bad ones."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from client_server import ClientServer, client_python

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
RUN_S_MAX = 120
CASES_MIN = 200


def schemathesis(folder: Path, url: str, *options: str) -> tuple[int, str]:
    """Its exit status and what it said. The model that breaks and sleeps on purpose is left out."""
    program = client_python("schemathesis").with_name("schemathesis")
    arguments = ["run", f"{url}/openapi.json", "--phases", "examples,coverage,fuzzing"]
    arguments += ["--exclude-path-regex", "/moody", "--no-color", *options]
    done = subprocess.run(
        [str(program), "--config-file", str(CONFIGURATION), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def operations(paths: dict[str, Any]) -> Sequence[str]:
    return [
        f"{method} {path}" for path, methods in paths.items() for method in methods if method in ("get", "post")
    ]


def test_the_document_is_true(served: ClientServer, tmp_path: Path) -> None:
    with served.server.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
    assert {"/models/late/invocations", "/v2/models/late/infer"} <= set(paths)
    assert len(operations(paths)) > 10
    status, said = schemathesis(
        tmp_path, served.server.url, "--report", "ndjson", "--report-dir", str(tmp_path)
    )
    assert status == 0, said
    (report,) = tmp_path.glob("*.ndjson")
    cases = report.read_text(encoding="utf-8").count('"status_code"')
    assert cases > CASES_MIN, said


def test_a_document_that_lies_is_found(served: ClientServer, tmp_path: Path) -> None:
    """The check can fail: an answer that the document does not promise is told."""
    with served.server.client() as client:
        document = client.get("/openapi.json").json()
    paths = {"/v2": document["paths"]["/v2"]}
    paths["/v2"]["get"]["responses"]["200"]["content"] = {"text/plain": {}}
    (tmp_path / "lie.json").write_text(json.dumps({**document, "paths": paths}))
    program = client_python("schemathesis").with_name("schemathesis")
    arguments = ["run", str(tmp_path / "lie.json"), "--url", served.server.url, "--no-color"]
    done = subprocess.run(
        [str(program), "--config-file", str(CONFIGURATION), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert "text/plain" in done.stdout


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b'{"inputs":' + b"9" * 5000 + b"}"])
def test_bodies_that_it_does_not_send(served: ClientServer, body: bytes) -> None:
    with served.server.client() as client:
        for path in ("/v2/models/late/infer", "/models/late/invocations"):
            answer = client.post(path, content=body, headers={"content-type": "application/json"})
            assert answer.status_code == 400, answer.text
            assert answer.json()["error"]
