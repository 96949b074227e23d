"""Penstock and its peers, each started with one model, on the cores that a figure gives it."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.cores import wait_until_quiet
from benchmarks.harness.load import Target
from benchmarks.harness.processes import Service, free_ports
from benchmarks.protocols.bodies import write_target
from benchmarks.serving.client import Asker, NotAnswered, first_good_answer
from benchmarks.serving.dialects import Answer, V2Json, WrongAnswer
from benchmarks.serving.model import Rows, load_rows
from benchmarks.serving.systems import PEER_SYSTEMS, Kind, Launch, Setting, System
from benchmarks.surge.bench import Bench

__all__ = ["LIMIT_CONCURRENCY", "Running", "V2Rungs", "peer", "penstock", "running", "subject"]

HERE = Path(__file__).parent
LIMIT_CONCURRENCY = 64
LIMITED = "fastapi_limited"
CHECK_THREADS = 4
CHECK_TRIES_MAX = 50
CHECK_PAUSE_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Running:
    """A server that has answered every row rightly, with a model whose rows cost `row_ms` under load."""

    row_ms: float
    service: Service
    target: Target


class V2Rungs(V2Json):
    """V2 JSON; what another rung than the model answered is right, and holds none of its probabilities."""

    def decode(self, answer: Answer) -> float | None:  # type: ignore[override]
        return None if answer.headers.get("x-penstock-rung") else super().decode(answer)


def penstock(*, app: str = "app.py", settings: Sequence[str] = (), name: str = "penstock") -> System:
    """The subject, with an app file of this folder and settings as `key=value`."""

    def launch(at: Setting) -> Launch:
        command = [at.tool("penstock"), "run", str(HERE / app), "--port", str(at.port)]
        for setting in settings:
            command += ["--set", setting]
        return Launch(command=command, folder=HERE, environment={"PENSTOCK_HOME": str(at.home)})

    return System(
        name=name,
        title="Penstock",
        kind=Kind.SUBJECT,
        environment=None,
        packages=("penstock", "httptools", "uvloop", "onnxruntime", "numpy"),
        path="/v2/models/late/infer",
        dialect=V2Rungs(),
        launch=launch,
    )


def subject(bench: Bench, model: str) -> System:
    """The subject as it is meant to serve that model."""
    return penstock(app="app_forest.py" if bench.models[model].native else "app.py")


def peer(name: str) -> System:
    """A peer of `benchmarks.serving`, or the one that only differs by uvicorn's limit of concurrency."""
    if name != LIMITED:
        return next(system for system in PEER_SYSTEMS if system.name == name)
    plain = peer("fastapi_onnx")
    return dataclasses.replace(
        plain,
        name=LIMITED,
        title=f"FastAPI --limit-concurrency {LIMIT_CONCURRENCY}",
        launch=_with_options(plain.launch, "--limit-concurrency", str(LIMIT_CONCURRENCY)),
    )


def _with_options(launch: Callable[[Setting], Launch], *options: str) -> Callable[[Setting], Launch]:
    def longer(at: Setting) -> Launch:
        plain = launch(at)
        return dataclasses.replace(plain, command=[*plain.command, *options])

    return longer


@contextmanager
def running(bench: Bench, system: System, model: str, cores: frozenset[int]) -> Iterator[Running]:
    """The server with that model on those cores. Raises `ServiceFailed`, also where it answers wrongly."""
    files = bench.models[model].files
    rows = load_rows(files)
    (port,) = free_ports(1)
    python = bench.environments.python(system.environment)
    launch = system.launch(Setting(port=port, python=python, model=files, home=bench.home(model)))
    shared = {
        "BENCH_MODEL_NATIVE": str(files.native),
        "BENCH_MODEL_ONNX": str(files.onnx),
        "OMP_NUM_THREADS": "1",
    }
    wait_until_quiet()
    with Service(
        launch.command,
        cores=bench.wide if system.starts_wide else cores,
        log=bench.folder / "log" / f"surge-{system.name}-{model}.log",
        folder=launch.folder,
        environment=shared | dict(launch.environment),
    ) as service:
        asker = Asker(port, system.path, system.dialect)
        first_good_answer(service, asker, rows, wait_s_max=system.start_s_max)
        if system.starts_wide and len(cores) == 1:
            service.pin(next(iter(cores)))
        _check_answers(service, asker, rows)
        service.check_loopback()
        folder = bench.folder / "surge" / "bodies" / f"{system.name}-{model}"
        target = write_target(folder, port, system.path, (system.dialect.encode(row) for row in rows.features))
        yield Running(row_ms=bench.models[model].busy_row_ms, service=service, target=target)


def _check_answers(service: Service, asker: Asker, rows: Rows) -> None:
    """Every row, a few at a time. A server may refuse one now and then: it is asked again, and must then answer
    as the model does.
    """

    def check(row: Sequence[float], expected: float) -> None:
        for left in range(CHECK_TRIES_MAX, -1, -1):
            try:
                asker.check(row, expected)
            except NotAnswered:
                if not left:
                    raise
                time.sleep(CHECK_PAUSE_S)
            else:
                return

    with ThreadPoolExecutor(CHECK_THREADS) as pool:
        try:
            list(pool.map(check, rows.features, rows.probabilities))
        except (NotAnswered, WrongAnswer) as error:
            raise service.failed(f"{type(error).__name__} under concurrent requests: {error}") from error
