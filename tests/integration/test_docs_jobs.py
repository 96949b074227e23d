"""docs/jobs.md: its examples do what it says."""

import base64
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import PATIENCE_S, PENSTOCK, CommandLine
from running_server import running

from penstock.serving.jobs.webhook_signatures import WebhookSecret

TEXT = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(python|bash)\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)
PYTHON = [text for language, text in BLOCKS if language == "python"]
BASH = [text for language, text in BLOCKS if language == "bash"]


def run(folder: Path, *command: str) -> str:
    environment = {"PATH": f"{Path(PENSTOCK).parent}:/usr/bin:/bin", "NO_PROXY": "*", "no_proxy": "*"}
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl: apt-get install curl")
def test_from_an_app_to_the_log(commands: CommandLine) -> None:
    with running(commands, PYTHON[0]) as server:
        here = ("http://127.0.0.1:8000", server.url)
        client = (
            sys.executable,
            "-c",
            f"import os, sys\nsys.path[:0] = {sys.path!r}\n" + PYTHON[1].replace(*here),
        )
        assert run(commands.folder, *client) == "[2. 4.]\n"
        answer = run(commands.folder, "bash", "-euc", BASH[0].replace(*here))
        assert '"data":[2.0,4.0]' in answer
        until_s = time.monotonic() + PATIENCE_S
        told = ""
        while told.count('"done"') < 2:
            assert time.monotonic() < until_s, told
            told = commands.inside(*BASH[1].split()[1:]).stdout
        assert told.count('"accepted"') == 2


def test_a_webhook_is_checked(tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    exec(PYTHON[2], names)
    text = "whsec_" + base64.b64encode(b"of 24 to 64 bytes, as it has to be").decode()
    secret = WebhookSecret.parse(text)
    assert secret is not None
    headers = secret.headers("id", 1_700_000_000, b"{}")
    assert names["is_genuine"](text, headers, b"{}")
    assert not names["is_genuine"](text, headers, b"{ }")
    assert not names["is_genuine"](text, {**headers, "webhook-timestamp": "1700000001"}, b"{}")
