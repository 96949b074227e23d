"""What a client's test needs: an environment with the client, and a server to ask."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest
from make_environments import environment_python
from running_server import RunningServer

REQUIRED = bool(os.environ.get("TESTS_REQUIRE_CLIENTS"))


def missing(what: str) -> NoReturn:
    """Skips the test, or fails it where TESTS_REQUIRE_CLIENTS says that nothing may be missing."""
    if REQUIRED:
        pytest.fail(f"{what} (and TESTS_REQUIRE_CLIENTS is set)", pytrace=False)
    pytest.skip(what)


def client_python(name: str) -> Path:
    """The Python of a client's environment; skips or fails the test where there is none."""
    python = environment_python(name)
    if python is None:
        missing(f"there is no environment .clients/{name}, or it has other pins: `make clients` makes it")
    return python


@dataclass(frozen=True)
class ClientServer:
    """A running server, and the file with what its clients' scripts are told of it."""

    server: RunningServer
    facts: Path
