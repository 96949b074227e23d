"""Measuring: rounds over all systems, one start each, and the single figures of Penstock itself."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.cores import Cores, pinned, wait_until_quiet
from benchmarks.harness.environments import Environments
from benchmarks.harness.load import Load, LoadFailed, LoadGenerator, Target
from benchmarks.harness.processes import Service, ServiceFailed, anonymous_bytes, free_ports
from benchmarks.harness.report import median
from benchmarks.serving.client import Asker, NotAnswered, check_answers, first_good_answer, get_json
from benchmarks.serving.model import ModelFiles, Rows
from benchmarks.serving.systems import HERE, Setting, System

__all__ = ["FULL", "QUICK", "Bench", "Footprint", "Plan", "Sample"]

CONNECTIONS = 64
OPEN_CONNECTIONS = 5_000
BATCH_ROWS = 64
COMMAND_S_MAX = 120
WARM_ANSWERS = 10_000
GROWTH_S_MAX = 600.0
IMPORT = "import time; t = time.perf_counter(); import penstock; print(time.perf_counter() - t)"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long, and how often."""

    rounds: int
    seconds: float
    warmup_s: float
    single_seconds: float
    single_warmup_s: float
    idle_pairs: int
    growth_answers: int
    command_runs: int


FULL = Plan(
    rounds=3,
    seconds=5.0,
    warmup_s=1.0,
    single_seconds=2.0,
    single_warmup_s=0.3,
    idle_pairs=3,
    growth_answers=1_000_000,
    command_runs=7,
)
QUICK = Plan(
    rounds=1,
    seconds=1.2,
    warmup_s=0.3,
    single_seconds=0.4,
    single_warmup_s=0.1,
    idle_pairs=1,
    growth_answers=60_000,
    command_runs=3,
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One round of one system."""

    start_s: float
    many: Load
    single: Load
    resident_mb: float


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What Penstock takes, apart from throughput. Memory is resident; times are medians.

    Growth is of allocated memory alone: pages of files come and go with the kernel's needs.
    """

    start_s: float
    worker_mb: float
    tree_mb: float
    growth_mb: float
    growth_answers: int
    import_s: float
    help_s: float
    p99_64_us: float
    p99_5000_us: float
    idle: int
    idle_served: int
    idle_failed: int


class Bench:
    """Starts systems one at a time on the server's core and measures them from the other."""

    def __init__(
        self, *, plan: Plan, cores: Cores, load: LoadGenerator, environments: Environments, folder: Path
    ) -> None:
        self.plan = plan
        self._cores = cores
        self._load = load
        self._environments = environments
        self._folder = folder

    def sample(self, system: System, model: ModelFiles, rows: Rows) -> Sample:
        """One start: first answer, right answers, then 1 connection and 64."""
        plan = self.plan
        wait_until_quiet()
        with self._serving(system, model) as (service, port):
            asker = Asker(port, system.path, system.dialect)
            start_s = first_good_answer(service, asker, rows, wait_s_max=system.start_s_max)
            if system.starts_wide:
                service.pin(self._cores.server)
            check_answers(service, asker, rows)
            service.check_loopback()
            target = self._target(system, port, rows)
            try:
                single = self._load.run(
                    target, connections=1, seconds=plan.single_seconds, warmup_s=plan.single_warmup_s
                )
                many = self._load.run(
                    target, connections=CONNECTIONS, seconds=plan.seconds, warmup_s=plan.warmup_s
                )
            except LoadFailed as error:
                raise service.failed(str(error)) from error
            resident_mb = service.resident_bytes() / 2**20
        if many.failed or single.failed:
            raise service.failed(
                f"under load, not all was answered with 200: {many.statuses}, {single.statuses}"
            )
        return Sample(start_s=start_s, many=many, single=single, resident_mb=resident_mb)

    def direct_rows_per_s(self, model: ModelFiles) -> float:
        """ONNX Runtime alone on the server's core, in batches."""
        script = HERE / "limits" / "onnx_direct.py"
        command = [str(self._environments.python(None)), str(script), str(model.onnx), str(model.samples)]
        done = self._run([*command, str(BATCH_ROWS), str(self.plan.seconds)])
        return float(json.loads(done)["rows_per_s"])

    def push(self, system: System, model: ModelFiles) -> str:
        """Push the model into a fresh registry; return what its signature calls the input."""
        at = self._setting(system, model, port=0)
        shutil.rmtree(at.home, ignore_errors=True)
        at.home.mkdir(parents=True)
        command = [at.tool("penstock"), "model", "push", "late", str(model.native)]
        command += ["--samples", str(model.samples), "--alias", "champion", "--trust-pickle"]
        self._run(command, {"PENSTOCK_HOME": str(at.home)})
        with self._serving(system, model) as (service, port):
            return _input_name(service, port)

    def footprint(self, system: System, model: ModelFiles, rows: Rows) -> Footprint:
        """All single figures, from one start of the server and a few of the command line."""
        plan = self.plan
        with self._serving(system, model) as (service, port):
            asker = Asker(port, system.path, system.dialect)
            start_s = first_good_answer(service, asker, rows, wait_s_max=system.start_s_max)
            target = self._target(system, port, rows)
            try:
                worker_mb, tree_mb = self._memory_mb(service, port)
                # Growth first: thousands of connections leave memory behind that is only given back later.
                growth_mb, answers = self._growth_mb(service, port, target)
                pairs = [self._idle_pair(target) for _ in range(plan.idle_pairs)]
            except LoadFailed as error:
                raise service.failed(str(error)) from error
        few, crowds = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        return Footprint(
            start_s=start_s,
            worker_mb=worker_mb,
            tree_mb=tree_mb,
            growth_mb=growth_mb,
            growth_answers=answers,
            import_s=self._import_s(),
            help_s=self._help_s(system, model),
            p99_64_us=median(load.p99_us for load in few) or 0.0,
            p99_5000_us=median(load.p99_us for load in crowds) or 0.0,
            idle=crowds[0].idle,
            idle_served=min(load.idle_served for load in crowds),
            idle_failed=sum(load.failed for load in crowds),
        )

    def _idle_pair(self, target: Target) -> tuple[Load, Load]:
        """64 connections alone, then the same 64 among 5,000 open ones."""
        plan = self.plan
        few = self._load.run(target, connections=CONNECTIONS, seconds=plan.seconds, warmup_s=plan.warmup_s)
        crowd = self._load.run(
            target,
            connections=CONNECTIONS,
            seconds=plan.seconds,
            warmup_s=plan.warmup_s,
            idle=OPEN_CONNECTIONS - CONNECTIONS,
        )
        return few, crowd

    def _memory_mb(self, service: Service, port: int) -> tuple[float, float]:
        return service.worker(port).memory_info().rss / 2**20, service.resident_bytes() / 2**20

    def _growth_mb(self, service: Service, port: int, target: Target) -> tuple[float, int]:
        """What the worker has gained after many answers, counted from when it was warm."""
        self._load.run(
            target, connections=CONNECTIONS, seconds=GROWTH_S_MAX, warmup_s=0.0, answers_max=WARM_ANSWERS
        )
        before_bytes = anonymous_bytes(service.worker(port))
        load = self._load.run(
            target,
            connections=CONNECTIONS,
            seconds=GROWTH_S_MAX,
            warmup_s=0.0,
            answers_max=self.plan.growth_answers,
        )
        return (anonymous_bytes(service.worker(port)) - before_bytes) / 2**20, load.answered

    def _import_s(self) -> float:
        command = [str(self._environments.python(None)), "-c", IMPORT]
        self._run(command)  # from disk once; what follows is what a user sees every day
        return median(float(self._run(command)) for _ in range(self.plan.command_runs)) or 0.0

    def _help_s(self, system: System, model: ModelFiles) -> float:
        command = [self._setting(system, model, port=0).tool("penstock"), "--help"]
        self._run(command)
        seconds = []
        for _ in range(self.plan.command_runs):
            start_s = time.monotonic()
            self._run(command)
            seconds.append(time.monotonic() - start_s)
        return median(seconds) or 0.0

    def _setting(self, system: System, model: ModelFiles, *, port: int) -> Setting:
        home = self._folder / "home" / system.kind.value
        return Setting(port=port, python=self._environments.python(system.environment), model=model, home=home)

    @contextmanager
    def _serving(self, system: System, model: ModelFiles) -> Iterator[tuple[Service, int]]:
        (port,) = free_ports(1)
        launch = system.launch(self._setting(system, model, port=port))
        shared = {
            "BENCH_MODEL_NATIVE": str(model.native),
            "BENCH_MODEL_ONNX": str(model.onnx),
            "OMP_NUM_THREADS": "1",
        }
        service = Service(
            launch.command,
            cores=frozenset(
                {self._cores.server, self._cores.load} if system.starts_wide else {self._cores.server}
            ),
            log=self._folder / "log" / f"{system.name}.log",
            folder=launch.folder,
            environment=shared | dict(launch.environment),
        )
        with service:
            yield service, port

    def _target(self, system: System, port: int, rows: Rows) -> Target:
        folder = self._folder / "bodies" / system.name
        folder.mkdir(parents=True, exist_ok=True)
        bodies, headers = [], {}
        for number, row in enumerate(rows.features):
            body, headers = system.dialect.encode(row)
            bodies.append(folder / str(number))
            bodies[-1].write_bytes(body)
        return Target(
            port=port, path=system.path, bodies=bodies, headers=[f"{k}: {v}" for k, v in headers.items()]
        )

    def _run(self, command: list[str], environment: dict[str, str] | None = None) -> str:
        """A short command on the server's core; its standard output."""
        try:
            with pinned(self._cores.server):
                done = subprocess.run(
                    command,
                    env=os.environ | (environment or {}),
                    capture_output=True,
                    text=True,
                    timeout=COMMAND_S_MAX,
                    check=False,
                )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ServiceFailed(f"{' '.join(command)}: {error}") from error
        if done.returncode:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
            raise ServiceFailed(f"{' '.join(command)}: exit status {done.returncode}\n{tail}")
        return done.stdout


def _input_name(service: Service, port: int) -> str:
    while True:
        try:
            metadata = get_json(port, "/v2/models/late")
        except NotAnswered as error:
            service.check_alive()
            if time.monotonic() > service.started_s + 30:
                raise service.failed(f"its model's metadata cannot be had: {error}") from error
            time.sleep(0.02)
            continue
        (tensor,) = metadata["inputs"]  # type: ignore[index,call-overload]
        if tensor["datatype"] != "FP32":
            raise service.failed(f"the model takes {tensor['datatype']}, not FP32 like every peer's")
        return str(tensor["name"])
