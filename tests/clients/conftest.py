"""What the tests of real clients share: servers, and what they have to answer."""

import json
from collections.abc import Iterator

import pytest
from client_docs import shown_app
from client_models import app_text, write_facts
from client_server import ClientServer
from command_line import CommandLine
from running_server import running
from sample_models import late_pipeline, linear_onnx


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientServer]:
    """A server of several models, which clients may load and unload."""
    folder = tmp_path_factory.mktemp("clients")
    late, linear = late_pipeline(folder), linear_onnx(folder)
    commands = CommandLine(folder)
    named = ("--alias", "champion")
    commands.succeeds("model", "push", "late", late.file, "--samples", late.samples, "--trust-pickle", *named)
    commands.succeeds("model", "push", "linear", linear.file)
    commands.succeeds("model", "push", "linear", linear.file)
    commands.succeeds("model", "push", "spare", linear.file, *named)
    with running(commands, app_text(), "--grpc-port", "0", "--set", "server.model_control=true") as server:
        told = {"host": "127.0.0.1", "port": server.port, "grpc_port": server.grpc_port}
        write_facts(folder / "facts.json", told, late, linear)
        yield ClientServer(server, folder / "facts.json")
        assert server.process.poll() is None, server.log


@pytest.fixture(scope="session")
def taxis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientServer]:
    """A server of the app that docs/clients shows, with the settings as they are unless one sets them."""
    folder = tmp_path_factory.mktemp("taxis")
    # A machine with much else to do must not be refused for that.
    patient = 'ps.App("taxis", objective=ps.Objective(latency_ms=60_000))'
    app = shown_app().replace('ps.App("taxis")', patient)
    assert patient in app
    with running(CommandLine(folder), app, "--grpc-port", "0") as server:
        told = {"host": "127.0.0.1", "port": server.port, "grpc_port": server.grpc_port, "cases": {}}
        (folder / "facts.json").write_text(json.dumps(told))
        yield ClientServer(server, folder / "facts.json")
        assert server.process.poll() is None, server.log
