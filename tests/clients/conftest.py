"""What the tests of real clients share: a server, and what it has to answer."""

from collections.abc import Iterator

import pytest
from client_models import app_text, write_facts
from client_server import ClientServer, free_port
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
    grpc_port = free_port()
    options = ("server.model_control=true", f"server.grpc_port={grpc_port}")
    with running(commands, app_text(), *(word for each in options for word in ("--set", each))) as server:
        told = {"host": "127.0.0.1", "port": server.port, "grpc_port": grpc_port}
        write_facts(folder / "facts.json", told, late, linear)
        yield ClientServer(server, grpc_port, folder / "facts.json")
        assert server.process.poll() is None, server.log
