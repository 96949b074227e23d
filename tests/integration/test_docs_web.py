"""docs/clients/web.md: its examples do what it says."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import PATIENCE_S
from running_server import RunningServer

DOCUMENT = Path(__file__).parents[2] / "docs" / "clients" / "web.md"
EXAMPLES = re.findall(r"```(bash|python|javascript)\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="no curl: apt-get install curl")


def example(language: str, number: int, server: RunningServer) -> str:
    found = [text for name, text in EXAMPLES if name == language]
    return found[number].replace("http://127.0.0.1:8000", server.url)


def run(*command: str) -> str:
    environment = {"PATH": "/usr/bin:/bin", "NO_PROXY": "*"}
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_S, env=environment, check=False
    )
    assert ran.returncode == 0, ran.stderr + ran.stdout
    return ran.stdout


def is_prediction(answer: Any) -> bool:
    return set(answer) == {"label", "probabilities"} and answer["label"] in ("late", "on time")


@needs_curl
def test_curl(server: RunningServer) -> None:
    (prediction,) = json.loads(run("bash", "-euc", example("bash", 0, server)))["predictions"]
    assert is_prediction(prediction)


@needs_curl
def test_lines(server: RunningServer) -> None:
    first, second = map(json.loads, run("bash", "-euc", example("bash", 1, server)).splitlines())
    assert is_prediction(first)
    assert second["line"] == 2
    assert second["fields"] == [{"column": "delay", "expected": "a number", "got": "'late'"}]


def test_arrow(server: RunningServer) -> None:
    assert "shape: (2, 2)" in run(sys.executable, "-c", example("python", 0, server))


def test_javascript(server: RunningServer) -> None:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--no-proxy-server"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        browser.get(f"{server.url}/docs")
        code = example("javascript", 0, server)
        (prediction,) = browser.execute_script(f"return (async () => {{ {code} }})()")
    finally:
        browser.quit()
    assert is_prediction(prediction)
