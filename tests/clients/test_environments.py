"""The clients' environments: pins without an index, and no silence where one is missing."""

import re
from pathlib import Path

import client_server
import make_environments
import pytest
from test_docs import EXAMPLES
from test_real_clients import ENVIRONMENTS

PINS = sorted(make_environments.PINS.glob("*.txt"))


@pytest.mark.parametrize("pins", PINS, ids=lambda path: path.stem)
def test_pins_are_exact_and_name_no_index(pins: Path) -> None:
    lines = [line for line in pins.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert lines
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[^\s;@/]+", line) for line in lines)


def test_every_client_has_pins() -> None:
    asked = {*ENVIRONMENTS.values(), *(example.client for example in EXAMPLES)} - {"plain"}
    assert asked | {"schemathesis"} <= set(make_environments.names())


def test_an_environment_with_other_pins_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "triton" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    (tmp_path / "triton" / "pins").write_text("another digest")
    monkeypatch.setattr(make_environments, "CLIENTS", tmp_path)
    assert make_environments.environment_python("triton") is None
    (tmp_path / "triton" / "pins").write_text(make_environments._digest("triton"))
    assert make_environments.environment_python("triton") == python


@pytest.mark.parametrize(
    ("required", "outcome"), [(False, pytest.skip.Exception), (True, pytest.fail.Exception)]
)
def test_a_missing_environment_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, required: bool, outcome: type[BaseException]
) -> None:
    monkeypatch.setattr(make_environments, "CLIENTS", tmp_path)
    monkeypatch.setattr(client_server, "REQUIRED", required)
    with pytest.raises(outcome, match="make clients"):
        client_server.client_python("triton")
