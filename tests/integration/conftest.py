"""What the tests of the real command and the real server share: trained models, pushed once."""

import shutil
from pathlib import Path

import pytest
from command_line import CommandLine
from sample_models import SampleModel, late_pipeline, linear_onnx


@pytest.fixture(scope="session")
def late(tmp_path_factory: pytest.TempPathFactory) -> SampleModel:
    return late_pipeline(tmp_path_factory.mktemp("late"))


@pytest.fixture(scope="session")
def linear(tmp_path_factory: pytest.TempPathFactory) -> SampleModel:
    return linear_onnx(tmp_path_factory.mktemp("linear"))


@pytest.fixture(scope="session")
def pushed(tmp_path_factory: pytest.TempPathFactory, late: SampleModel, linear: SampleModel) -> CommandLine:
    """A folder with `late:1` (its champion) and `linear:1` and `:2` (its champion is 1). Not to be changed."""
    commands = CommandLine(tmp_path_factory.mktemp("pushed"))
    commands.succeeds(
        "model", "push", "late", late.file, "--samples", late.samples, "--trust-pickle", "--alias", "champion"
    )
    commands.succeeds(
        "model", "push", "linear", linear.file, "--samples", linear.samples, "--alias", "champion"
    )
    commands.succeeds("model", "push", "linear", linear.file)
    return commands


@pytest.fixture
def commands(tmp_path: Path) -> CommandLine:
    """The command in an empty folder."""
    return CommandLine(tmp_path)


@pytest.fixture
def registry(tmp_path: Path, pushed: CommandLine) -> CommandLine:
    """The command in a copy of the folder with pushed models, to change as one likes."""
    shutil.copytree(pushed.folder / ".penstock", tmp_path / ".penstock")
    return CommandLine(tmp_path)
