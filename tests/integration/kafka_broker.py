"""The broker that tests share: started by the first that wants it, stopped when the last of them has ended."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from deploy.kafka.artifacts import Unavailable
from deploy.kafka.cluster import Cluster, running_cluster

__all__ = ["missing", "running_nodes", "shared_broker"]

ROOT = Path(__file__).parents[2]
GIVEN = "PENSTOCK_TEST_KAFKA"
LET_GO_S = 5.0
LOOK_S = 0.05


def missing(why: str) -> None:
    """Skips the test, or fails it where TESTS_REQUIRE_CLIENTS says that nothing may be missing."""
    text = f"no Kafka to test with: {why}; set {GIVEN}=host:port for one that runs"
    if os.environ.get("TESTS_REQUIRE_CLIENTS"):
        pytest.fail(f"{text} (and TESTS_REQUIRE_CLIENTS is set)", pytrace=False)
    pytest.skip(text)


@contextmanager
def shared_broker(folder: Path) -> Iterator[str]:
    """The address of one node, which all processes have that name the same folder."""
    if given := os.environ.get(GIVEN):
        yield given
        return
    with ExitStack() as stack:
        with (folder / "kafka.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            writer = _joined(folder / "kafka.users")
            if writer is None:
                writer, process = _started(folder)
                stack.callback(_let_go, process)
            stack.callback(os.close, writer)
            address = (folder / "kafka.address").read_text().strip()
        yield address


@contextmanager
def running_nodes(folder: Path, nodes: int) -> Iterator[Cluster]:
    """A cluster of one's own, to stop and kill nodes of."""
    try:
        with running_cluster(folder, nodes=nodes) as cluster:
            yield cluster
    except Unavailable as error:
        missing(str(error))


def _joined(users: Path) -> int | None:
    """A pipe's end that keeps the broker running while it is open; None where none runs."""
    try:
        return os.open(users, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None  # nobody reads it, or it was never made


def _let_go(process: "subprocess.Popen[bytes]") -> None:
    """It ends at once, unless others use it: then it is for them."""
    try:
        process.wait(LET_GO_S)
    except subprocess.TimeoutExpired:
        process.returncode = 0


def _started(folder: Path) -> "tuple[int, subprocess.Popen[bytes]]":
    users, address = folder / "kafka.users", folder / "kafka.address"
    users.unlink(missing_ok=True)
    os.mkfifo(users)
    reader = os.open(users, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(users, os.O_WRONLY)
    os.set_blocking(reader, True)
    with address.open("w") as told, (folder / "kafka.errors").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.kafka", "--until-input-ends"],
            cwd=ROOT,
            stdin=reader,
            stdout=told,
            stderr=errors,
            start_new_session=True,
        )
    os.close(reader)
    while process.poll() is None:
        if address.read_text().endswith("\n"):
            return writer, process
        with suppress(subprocess.TimeoutExpired):
            process.wait(LOOK_S)
    os.close(writer)
    missing((folder / "kafka.errors").read_text().strip())
    raise AssertionError("missing raises")
