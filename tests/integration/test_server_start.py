"""A server that cannot start says why, once, and leaves nothing behind; likewise a push that finds no room."""

import hashlib
import json
import os
import resource
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from command_line import CommandLine
from sample_models import SampleModel

APP = 'import penstock as ps\napp = ps.App("a")\n'
LATE = APP + 'app.model("late")\n'
FILE_BYTES_MAX = 200_000


def says(commands: CommandLine, app: str, *options: str) -> str:
    """What `penstock run` says of an app file that cannot be served: one error, and what was loaded before."""
    (commands.folder / "app.py").write_text(app)
    finished = commands.run("run", "app.py", *(options or ("--port", "0")))
    assert (finished.status, finished.stdout) == (1, "")
    assert "listening" not in finished.stderr
    errors = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, finished.stderr
    return finished.stderr


def test_a_port_in_use(pushed: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = says(pushed, LATE, "--port", str(port))
    assert f"port {port} on 127.0.0.1 is in use" in said
    assert "hint: take another with --port" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--host", "192.0.2.1", "--port", "0"), "192.0.2.1"),
        (("--host", "no.such.host.invalid", "--port", "0"), "no.such.host.invalid"),
        (("--host", "not an address", "--port", "0"), "not an address"),
        (("--host", "::ffff:x", "--port", "0"), "::ffff:x"),
        (("--host", "x" * 70, "--port", "0"), "x" * 70),
    ],
    ids=lambda value: value[1][:20] if isinstance(value, tuple) else "",
)
def test_an_address_that_is_not_ours(pushed: CommandLine, options: tuple[str, ...], said: str) -> None:
    assert said in says(pushed, LATE, *options)


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("import penstock\n\nx = 1 / 0\n", "app.py raised at line 3: ZeroDivisionError"),
        ("raise SystemExit(7)\n", "line 1"),
        ("x = '\\ud800'.encode()\n", "line 1: UnicodeEncodeError"),
        (APP + 'b = ps.App("b")\n', "has 2 Apps: app, b"),
        (APP + 'app.model("../late")\n', "../late"),
    ],
    ids=["raises", "exit", "encoding", "two", "name"],
)
def test_an_app_file_that_cannot_be_used(pushed: CommandLine, app: str, said: str) -> None:
    """What else there may be of them, tests of `load_app` have."""
    assert said in says(pushed, app)


def test_an_app_file_that_is_not_there(commands: CommandLine) -> None:
    assert "nowhere.py: no such file" in commands.fails("run", "nowhere.py", "--port", "0")
    (commands.folder / "app.txt").write_text(APP)
    assert "app.txt" in commands.fails("run", "app.txt", "--port", "0")
    assert "." in commands.fails("run", ".", "--port", "0")


@pytest.mark.parametrize(
    ("app", "said"),
    [
        (APP + 'app.model("later")\n', ["there is no model 'later'", "hint: known are late, linear"]),
        (APP + 'app.model("late", alias="blue")\n', ["no alias 'blue'", "champion"]),
        (APP + 'app.model("linear", version=7)\n', ["no version linear:7", "linear:2"]),
    ],
    ids=["model", "alias", "version"],
)
def test_a_model_that_the_registry_does_not_have(pushed: CommandLine, app: str, said: list[str]) -> None:
    found = says(pushed, app)
    assert all(each in found for each in said), found


def test_in_an_empty_folder_it_is_said_what_to_do(commands: CommandLine) -> None:
    said = says(commands, LATE)
    assert "penstock model push late FILE" in said
    assert len(said.splitlines()) == 2


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("lambda inputs: inputs", None),
        ("type('Broken', (), {'__init__': lambda self: 1 / 0})", "ZeroDivisionError"),
        ("type('Plain', (), {})", "cannot be called"),
        ("type('Gone', (), {'__init__': lambda self: __import__('os')._exit(3)})", "ended with status 3"),
    ],
    ids=["works", "raises", "not callable", "exits"],
)
def test_a_callable_that_does_not_load(commands: CommandLine, target: str, said: str | None) -> None:
    declared = 'signature = ps.Signature.of(inputs={"x": "FP32[-1]"}, outputs={"x": "FP32[-1]"})\n'
    app = f'{APP}{declared}app.callable("it", signature=signature)({target})\n'
    if said is None:
        # The port is only taken once the models stand: so this is refused by another model.
        assert "  it  version" not in says(commands, app + 'app.model("late")\n')
        return
    (commands.folder / "app.py").write_text(app)
    finished = wait_without_traces(commands)
    assert said in finished
    assert "model 'it'" in finished


def wait_without_traces(commands: CommandLine) -> str:
    """As `says`, but where user code has raised, its own traceback is part of the log."""
    process = commands.start("run", "app.py", "--port", "0")
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (1, "")
    (error,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert "penstock/" not in stderr.partition("error: ")[2]
    return error


@pytest.mark.parametrize(
    ("role", "damage"),
    [("compiled", "flipped"), ("compiled", "truncated"), ("compiled", "missing"), ("golden", "flipped")],
)
def test_a_damaged_artifact_is_never_parsed(registry: CommandLine, role: str, damage: str) -> None:
    digest = json.loads(registry.succeeds("model", "show", "late", "--json"))[role]["digest"]
    stored = registry.folder / ".penstock" / "artifacts" / digest
    content = bytearray(stored.read_bytes())
    assert hashlib.sha256(content).hexdigest() == digest
    stored.chmod(0o644)
    content[len(content) // 2] ^= 1
    damaged = {"flipped": bytes(content), "truncated": bytes(content[:-7]), "missing": b""}[damage]
    stored.write_bytes(damaged)
    if damage == "missing":
        stored.unlink()
    said = says(registry, LATE)
    assert f"late:1, its {'executable' if role == 'compiled' else role}" in said
    assert digest in said
    assert ("is missing" if damage == "missing" else "is corrupt") in said
    assert "hint: restore the file from a backup" in said


def test_a_damaged_database_is_said(registry: CommandLine) -> None:
    database = registry.folder / ".penstock" / "control.db"
    content = bytearray(database.read_bytes())
    content[:4096] = b"x" * 4096
    for each in database.parent.glob("control.db*"):
        each.unlink()
    database.write_bytes(content)
    assert "control.db" in says(registry, LATE)


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, FILE_BYTES_MAX))


def test_a_push_past_the_limit_of_files_leaves_nothing(
    registry: CommandLine, linear: SampleModel, tmp_path: Path
) -> None:
    model = onnx.load(linear.file)
    model.doc_string = "x" * FILE_BYTES_MAX
    large = tmp_path / "large.onnx"
    onnx.save(model, large)
    artifacts = registry.folder / ".penstock" / "artifacts"
    kept = set(os.listdir(artifacts))
    finished = registry.run("model", "push", "linear", large, before=limit_files)
    assert (finished.status, finished.stdout) == (1, "")
    assert "was not stored in" in finished.error
    assert "ulimit -f" in finished.error
    assert set(os.listdir(artifacts)) == kept
    assert registry.succeeds("model", "push", "linear", large) == "linear:3\n"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_push_to_a_full_disk_is_refused_whole(
    small_disk: Path, pushed: CommandLine, linear: SampleModel
) -> None:
    shutil.copytree(pushed.folder / ".penstock", small_disk / ".penstock", ignore=shutil.ignore_patterns("run"))
    commands = CommandLine(small_disk)
    with (small_disk / "ballast").open("wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(b"x" * 4096)
        except OSError:
            pass
    said = commands.fails("model", "push", "linear", linear.file)
    assert "No space left on device" in said or "disk is full" in said
    (small_disk / "ballast").unlink()
    assert commands.succeeds("model", "push", "linear", linear.file) == "linear:3\n"
