"""What a client's test needs: an environment with the client, and a server to ask."""

import os
import socket
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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class ClientServer:
    """A running server, with the port that it has for gRPC."""

    def __init__(self, server: RunningServer, grpc_port: int, facts: Path) -> None:
        self.server = server
        self.grpc_port = grpc_port
        self.facts = facts

    def require_grpc(self) -> None:
        try:
            socket.create_connection(("127.0.0.1", self.grpc_port), timeout=1).close()
        except OSError:
            missing("this server speaks no gRPC")
