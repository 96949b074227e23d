"""Real worker processes: what they answer, how they end, and that nothing of them is left."""

import contextlib
import hashlib
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from sklearn.linear_model import LinearRegression

from penstock.core.calling import on_behalf_of
from penstock.core.clock import ManualClock
from penstock.core.errors import DeadlineExceeded, InvalidInput, ModelFailed, PenstockError, Refused
from penstock.core.signature import Signature
from penstock.core.tensors import Tensors
from penstock.models.runtimes.native import native_command
from penstock.models.runtimes.process import ProcessRuntime, WorkerCommand, WorkerGroup
from penstock.models.version import Artifact, Lineage, ModelVersion, RuntimeKind, SourceFormat

HERE = str(Path(__file__).parent)
SHARED_MEMORY = Path("/dev/shm")
BOUND_S = 20.0

Start = Callable[..., ProcessRuntime]


@pytest.fixture(autouse=True)
def _workers_find_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", HERE)


def names_in_shared_memory() -> set[str]:
    return {path.name for path in SHARED_MEMORY.glob("penstock-*")} if SHARED_MEMORY.is_dir() else set()


@pytest.fixture(autouse=True)
def _nothing_is_left_in_shared_memory() -> Iterator[None]:
    """No test leaves a name there. (An arena of some other process may have one for a moment.)"""
    before = names_in_shared_memory()
    yield
    until_s = time.monotonic() + BOUND_S
    while left := names_in_shared_memory() - before:
        assert time.monotonic() < until_s, f"shared memory is left: {left}"
        time.sleep(0.01)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def start(clock: ManualClock) -> Iterator[Start]:
    started: list[ProcessRuntime] = []

    def start_one(loader: str, *, start_timeout_s: float = 30.0, **arguments: Any) -> ProcessRuntime:
        command = WorkerCommand(
            model="m", loader=f"worker_models:{loader}", arguments=arguments, start_timeout_s=start_timeout_s
        )
        runtime = ProcessRuntime(command, clock)
        started.append(runtime)
        return runtime

    yield start_one
    for runtime in started:
        runtime.close()


def numbers(*values: int) -> Tensors:
    return {"x": np.array(values, "<i8")}


def double(runtime: ProcessRuntime, *values: int) -> list[int]:
    return runtime.run(numbers(*values), BOUND_S)["y"].tolist()


def pid_of(runtime: ProcessRuntime) -> int:
    assert runtime.pid is not None
    return runtime.pid


def wait_until_gone(pid: int) -> None:
    until_s = time.monotonic() + BOUND_S
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until_s, f"process {pid} is still there"
        time.sleep(0.01)


def test_a_model_in_a_process_of_its_own(start: Start) -> None:
    runtime = start("load_double")
    assert double(runtime, 1, 2) == [2, 4]
    assert double(runtime, *range(1000)) == list(range(0, 2000, 2))
    assert runtime.signature.inputs[0].describe() == "INT64[-1]"
    worker = psutil.Process(pid_of(runtime))
    assert worker.ppid() == os.getpid()
    assert worker.environ()["OMP_NUM_THREADS"] == os.environ.get("OMP_NUM_THREADS", "1")


def test_it_stands_back_behind_the_server() -> None:
    command = WorkerCommand(model="m", loader="worker_models:load_double", arguments={}, niceness=4)
    runtime = ProcessRuntime(command, ManualClock())
    try:
        assert psutil.Process(pid_of(runtime)).nice() == min(psutil.Process().nice() + 4, 19)
    finally:
        runtime.close()


def test_it_knows_for_whom_it_runs(start: Start) -> None:
    runtime = start("load_behalf")
    with on_behalf_of(time.monotonic() + 30.0, 3):
        told = double(runtime, 1)[0]
    assert told // 100_000 == 3
    assert 30_000 - 1000 * BOUND_S < told % 100_000 <= 30_000
    assert double(runtime, 1) == [-1], "the next run is for nobody"


def test_close_ends_it_and_frees_everything(start: Start) -> None:
    before = psutil.Process().num_fds()
    runtime = ProcessRuntime(
        WorkerCommand(model="m", loader="worker_models:load_double", arguments={}), ManualClock()
    )
    assert double(runtime, 4) == [8]
    pid = pid_of(runtime)
    runtime.close()
    assert not psutil.pid_exists(pid)
    assert psutil.Process().num_fds() == before


def test_tensors_of_every_kind_and_any_size(start: Start) -> None:
    runtime = start("load_echo")
    text = np.empty(4, object)
    text[:] = ["", "é", "a" * 100_000, "\0"]
    raw = np.empty(2, object)
    raw[:] = [b"\xff", b""]
    small: Tensors = {"f": np.array([[1.5], [np.nan]], "<f4"), "b": np.array([True]), "t": text, "r": raw}
    big: Tensors = {"d": np.random.default_rng(1).random((300, 4096)), "u": np.arange(2**20, dtype="<u2")}
    for tensors in (small, big, small, big | small):
        answer = runtime.run(tensors, BOUND_S)
        assert list(answer) == list(tensors)
        for name, array in tensors.items():
            assert answer[name].dtype == array.dtype
            np.testing.assert_array_equal(answer[name], array)


def test_arguments_larger_than_a_pipe(start: Start) -> None:
    assert double(start("load_big_argument", text="a" * 1_000_000), 0) == [1_000_000]


@pytest.mark.parametrize(
    ("value", "kind", "message", "hint"),
    [
        (10, InvalidInput, "ten is too many", "send nine"),
        (11, ModelFailed, "the model raised ValueError", "the server's log has the details"),
        (12, ModelFailed, "twelve", "a hint"),
        (13, ModelFailed, "the model raised TypeError", "the server's log has the details"),
    ],
)
def test_what_a_model_raises(
    start: Start, value: int, kind: type[PenstockError], message: str, hint: str | None
) -> None:
    runtime = start("load_moody")
    pid = pid_of(runtime)
    with pytest.raises(kind) as raised:
        double(runtime, value)
    assert message in str(raised.value)
    assert raised.value.hint == hint
    if isinstance(raised.value, InvalidInput):
        assert raised.value.where == "x"
    assert double(runtime, 20) == [40]
    assert runtime.pid == pid  # it is the same process still


@pytest.mark.parametrize(("value", "ending"), [(1, "was ended by SIGKILL"), (2, "ended with status 7")])
def test_a_worker_that_dies_in_a_run_is_started_anew(start: Start, value: int, ending: str) -> None:
    runtime = start("load_moody")
    pid = pid_of(runtime)
    with pytest.raises(ModelFailed, match=ending):
        double(runtime, value)
    assert runtime.pid is None
    assert double(runtime, 21) == [42]
    assert pid_of(runtime) != pid


def test_kill_9_in_the_middle_of_a_run(start: Start, tmp_path: Path) -> None:
    fifo = tmp_path / "in_a_run"
    os.mkfifo(fifo)
    runtime = start("load_holding", fifo=str(fifo))
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(runtime.run, numbers(1), BOUND_S)
        assert fifo.read_text() == "in a run"
        os.kill(pid_of(runtime), signal.SIGKILL)
        with pytest.raises(ModelFailed, match="SIGKILL"):
            run.result(BOUND_S)
        # The next run is taken by a new process.
        again = pool.submit(runtime.run, numbers(1), BOUND_S)
        assert fifo.read_text() == "in a run"
        os.kill(pid_of(runtime), signal.SIGKILL)
        with pytest.raises(ModelFailed, match="SIGKILL"):
            again.result(BOUND_S)


def test_killed_between_runs(start: Start) -> None:
    runtime = start("load_double")
    os.kill(pid_of(runtime), signal.SIGKILL)
    psutil.Process(pid_of(runtime)).wait(BOUND_S)
    with contextlib.suppress(ModelFailed):  # it costs the next run at most
        assert double(runtime, 1) == [2]
    assert double(runtime, 1) == [2]


def test_a_model_that_hangs_is_stopped_at_the_deadline(start: Start) -> None:
    runtime = start("load_moody")
    pid = pid_of(runtime)
    with pytest.raises(DeadlineExceeded, match="did not answer within"):
        runtime.run(numbers(3), 0.2)
    assert not psutil.pid_exists(pid)
    assert double(runtime, 22) == [44]


def test_runs_that_are_stopped_are_no_crash_loop(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    runtime = start("load_moody")
    for _ in range(4):
        with pytest.raises(DeadlineExceeded):
            runtime.run(numbers(3), 0.2)
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 4  # nobody overlooks a model that hangs on every run
    assert errors[-1].endswith("did not answer within 0.2 s; its process was ended (runs in a row: 4)")
    assert double(runtime, 22) == [44]


def test_stops_do_not_excuse_crashes(start: Start) -> None:
    runtime = start("load_moody")
    for value in (1, 3, 1):
        with pytest.raises((ModelFailed, DeadlineExceeded)):
            runtime.run(numbers(value), 0.5 if value == 3 else BOUND_S)
    with pytest.raises(Refused):
        double(runtime, 23)


def test_an_answer_without_room_is_refused(start: Start) -> None:
    runtime = start("load_without_room")
    pid = pid_of(runtime)
    assert double(runtime, 1) == [2]
    with pytest.raises(Refused, match="no shared memory for") as raised:
        double(runtime, 2)
    assert raised.value.reason == "shared_memory"
    assert raised.value.hint is not None
    assert double(runtime, 1) == [2]
    assert runtime.pid == pid


def test_a_crash_loop_is_refused_with_the_time_to_wait(start: Start, clock: ManualClock) -> None:
    runtime = start("load_moody")
    for _ in range(2):  # the first restart is immediate
        with pytest.raises(ModelFailed):
            double(runtime, 1)
    with pytest.raises(Refused) as raised:
        double(runtime, 23)
    assert (raised.value.reason, raised.value.retry_after_s) == ("runtime_down", 0.5)
    assert runtime.pid is None
    clock.advance(0.4)
    with pytest.raises(Refused) as raised:
        double(runtime, 23)
    assert raised.value.retry_after_s == pytest.approx(0.1)
    clock.advance(0.2)
    assert double(runtime, 23) == [46]


def test_a_model_that_does_not_load_again(start: Start, tmp_path: Path) -> None:
    runtime = start("load_once", marker=str(tmp_path / "loaded"))
    with pytest.raises(ModelFailed, match="its process ended with status 6"):
        double(runtime, 1)
    with pytest.raises(ModelFailed, match="while loading, its process ended with status 5"):
        double(runtime, 1)
    with pytest.raises(Refused):
        double(runtime, 1)


@pytest.mark.parametrize(
    ("loader", "kind", "message"),
    [
        ("load_raising", ModelFailed, "loading the model failed: ValueError: cannot be loaded"),
        ("load_invalid", InvalidInput, "no such model"),
        ("load_exiting", ModelFailed, "while loading, its process ended with status 3"),
        ("load_leaving", ModelFailed, "loading the model failed: SystemExit: 0"),
        ("load_nothing", ModelFailed, "loading the model failed: AttributeError"),
        ("load_big_argument", ModelFailed, "loading the model failed: TypeError"),
        ("load_hanging", ModelFailed, "did not load within"),
    ],
)
def test_a_model_that_does_not_load(start: Start, loader: str, kind: type[PenstockError], message: str) -> None:
    before = psutil.Process().num_fds()
    children = set(psutil.Process().children())
    with pytest.raises(kind, match=message):
        start(loader, start_timeout_s=0.5 if loader == "load_hanging" else BOUND_S)
    assert psutil.Process().num_fds() == before
    assert set(psutil.Process().children()) == children


def test_a_process_that_cannot_be_started_costs_no_descriptors(
    start: Start, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = start("load_moody")
    with pytest.raises(ModelFailed):
        double(runtime, 1)
    before = psutil.Process().num_fds()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", "/nowhere/python")
        for _ in range(3):
            with pytest.raises(ModelFailed, match=r"its process cannot be started: .*No such file"):
                double(runtime, 2)
            clock.advance(60.0)
    assert psutil.Process().num_fds() == before
    assert double(runtime, 24) == [48]


def test_a_group_is_ended_while_its_models_load() -> None:
    group = WorkerGroup()
    children = set(psutil.Process().children())
    command = WorkerCommand(model="m", loader="worker_models:load_hanging", arguments={})
    with ThreadPoolExecutor(2) as pool:
        loads = [pool.submit(ProcessRuntime, command, ManualClock(), group) for _ in range(2)]
        until_s = time.monotonic() + BOUND_S
        while len(set(psutil.Process().children()) - children) < 2:
            assert time.monotonic() < until_s, "the workers did not start"
            time.sleep(0.01)
        group.end()
        loads.append(pool.submit(ProcessRuntime, command, ManualClock(), group))  # too late
        for load in loads:
            with pytest.raises(ModelFailed, match="while loading, its process was ended by SIGKILL"):
                load.result(BOUND_S)
    assert set(psutil.Process().children()) == children


def pickled_version(path: Path, weight: float) -> ModelVersion:
    """A version whose source is a pickle, written at `path`, of a model that answers `weight` times x."""
    matrix = np.arange(4.0).reshape(-1, 1)
    content = pickle.dumps(LinearRegression(fit_intercept=False).fit(matrix, weight * matrix[:, 0]))
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return ModelVersion(
        model="m",
        number=1,
        digest=digest,
        signature=Signature.of(inputs={"x": "FP64[-1, 1]"}, outputs={"prediction": "FP64[-1]"}),
        runtime=RuntimeKind.NATIVE,
        format=SourceFormat.PICKLE,
        source=Artifact(digest=digest, size_bytes=len(content), filename="m.pkl"),
        compiled=None,
        golden=None,
        trusted_pickle=True,
        compilations=(),
        metrics={},
        parameters={},
        lineage=Lineage(),
        creator="test",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_a_restart_opens_only_the_bytes_that_were_pushed(tmp_path: Path) -> None:
    path, one = tmp_path / "artifact", {"x": np.ones((1, 1))}
    version = pickled_version(path, 2.0)
    command = native_command(version, path, threads=1, start_timeout_s=BOUND_S)
    clock = ManualClock()
    with contextlib.closing(ProcessRuntime(command, clock)) as runtime:
        for replaced in (False, True):
            if replaced:
                pickled_version(path, 3.0)
            assert runtime.run(one, BOUND_S)["prediction"][0] == pytest.approx(2.0)
            os.kill(pid_of(runtime), signal.SIGKILL)
            psutil.Process(pid_of(runtime)).wait(BOUND_S)
            clock.advance(60.0)
            with contextlib.suppress(ModelFailed):
                runtime.run(one, BOUND_S)
            if replaced:
                clock.advance(60.0)
                with pytest.raises(ModelFailed, match=r"model 'm': .*is not the file that was pushed"):
                    runtime.run(one, BOUND_S)
                assert runtime.pid is None
        pickled_version(path, 2.0)
        clock.advance(60.0)
        assert runtime.run(one, BOUND_S)["prediction"][0] == pytest.approx(2.0)


PARENT = """
    from penstock.core.clock import SystemClock
    from penstock.models.runtimes.process import ProcessRuntime, WorkerCommand
    import numpy as np

    command = WorkerCommand(model="m", loader="worker_models:load_moody", arguments={})
    runtime = ProcessRuntime(command, SystemClock())
    print(runtime.pid, flush=True)
    value = int(input())
    runtime.run({"x": np.array([value])}, 600.0)
    print("answered", flush=True)
    input()
"""


@pytest.mark.parametrize("busy", [True, False], ids=["in a run", "idle"])
def test_a_worker_ends_with_a_parent_that_is_killed(busy: bool) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert psutil.Process(worker).ppid() == parent.pid
        parent.stdin.write("3\n" if busy else "30\n")
        parent.stdin.flush()
        if not busy:
            assert parent.stdout.readline() == "answered\n"
        parent.kill()
        parent.wait(BOUND_S)
        wait_until_gone(worker)
