"""The same small model asked through jobs and through Celery's tasks, each result fetched and checked."""

import asyncio
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.cores import Cores
from benchmarks.harness.environments import Environments
from benchmarks.harness.figure import Claim, FigureFailed, Result
from benchmarks.harness.penstock import Server
from benchmarks.harness.processes import Service, ServiceFailed, free_ports
from benchmarks.harness.report import median, ratio
from benchmarks.jobs.load import JobLoad, Submitted
from benchmarks.serving.model import ModelFiles, load_rows
from penstock.app.loader import open_registry
from penstock.core.settings import Settings
from penstock.models.push import Provenance
from penstock.models.push import prepare as candidate
from penstock.models.registry import CHAMPION

__all__ = ["Bench", "measure"]

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "peers" / "requirements-celery.txt"
START_S_MAX = 60.0
CLIENT_S_MAX = 300.0
CONNECTIONS = 16
CELERY_THREADS = (1, 4)
"""Clients of Celery's that submit at once; the faster counts."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """`jobs` are those of one run, of which there are `repeats` of each system, taking turns."""

    jobs: int
    repeats: int
    cores: Cores
    environments: Environments
    model: ModelFiles
    folder: Path
    say: Callable[[str], None]


def measure(bench: Bench) -> Result:
    """Raises `FigureFailed` where a job is lost or has a wrong result, `ServiceFailed` without redis-server."""
    bench.environments.prepare("celery", REQUIREMENTS)
    seen: list[Submitted] = []
    celery: list[dict[str, float]] = []
    for turn in range(bench.repeats):
        bench.say(f"turn {turn + 1} of {bench.repeats}")
        with _penstock(bench) as port:
            seen.append(_submitted(bench, port))
        with _celery(bench) as environment:
            runs = [_celery_run(bench, environment, threads) for threads in CELERY_THREADS]
            celery.append(min(runs, key=lambda run: run["in_all_s"]))
    rate = median(each.acknowledged / each.submitting_s for each in seen)
    p99_ms = median(each.p99_ms for each in seen)
    through = median(each.acknowledged / each.in_all_s for each in seen)
    tasks = median(bench.jobs / run["in_all_s"] for run in celery)
    sent = median(bench.jobs / run["submitting_s"] for run in celery)
    versions = bench.environments.versions("celery", ("celery", "redis", "onnxruntime"))
    return Result(
        name="jobs",
        claims=(
            Claim(name="jobs_acknowledged_per_s", value=rate, at_least=2000),
            Claim(name="jobs_acknowledged_p99_ms", value=p99_ms, at_most=20),
            Claim(name="jobs_through_vs_celery", value=ratio(through, tasks), at_least=3),
        ),
        facts={
            "jobs": bench.jobs,
            "connections": CONNECTIONS,
            "through_per_s": through,
            "celery_through_per_s": tasks,
            "celery_sent_per_s": sent,
            "celery": versions,
            "redis": _redis_version(),
        },
        lines=[
            ("acknowledged, synced to disk", f"{rate:,.0f}/s"),
            ("p50 and p99", f"{median(each.p50_ms for each in seen):.1f} and {p99_ms:.1f} ms"),
            ("through, results fetched", f"{through:,.0f}/s"),
            ("Celery: sent to Redis, in memory", f"{sent:,.0f}/s"),
            ("Celery: through, results fetched", f"{tasks:,.0f}/s"),
        ],
        remarks=["Celery's tasks are in Redis' memory alone: a crash of it loses them."],
    )


def _submitted(bench: Bench, port: int) -> Submitted:
    rows = load_rows(bench.model)
    bodies = [
        json.dumps(
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, len(row)], "data": row}]}
        ).encode()
        for row in rows.features
    ]
    load = JobLoad(port, "/v2/models/late/infer", bodies, rows.probabilities)
    asyncio.run(load.run(100, CONNECTIONS, fetch=True))
    seen = asyncio.run(load.run(bench.jobs, CONNECTIONS, fetch=True))
    if seen.lost or seen.wrong or seen.refused:
        raise FigureFailed(f"{seen.lost} jobs were lost, {seen.wrong} wrong, {seen.refused} refused")
    return seen


@contextmanager
def _penstock(bench: Bench) -> Iterator[int]:
    home = bench.folder / "home"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    pushed = candidate(
        "late",
        bench.model.onnx,
        samples=bench.model.samples,
        trust_pickle=False,
        provenance=Provenance(creator="benchmark", aliases=(CHAMPION,)),
    )
    with open_registry(Settings(home=str(home))) as registry:
        registry.push(pushed)
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "penstock", "run", str(HERE / "app.py"), "--port", str(port)]
    with Service(
        command,
        cores=bench.cores.wide,
        log=bench.folder / "log" / "penstock.log",
        folder=HERE,
        environment={"PENSTOCK_HOME": str(home), "OMP_NUM_THREADS": "1"},
    ) as service:
        server = Server(service, home=home, port=port, grpc_port=-1, workers=1)
        server.wait_until_ready()
        yield port


@contextmanager
def _celery(bench: Bench) -> Iterator[dict[str, str]]:
    """Redis that keeps nothing on the disk, and a worker with Celery's defaults."""
    redis = shutil.which("redis-server")
    if redis is None:
        raise ServiceFailed("there is no redis-server\nhint: apt-get install redis-server")
    (port,) = free_ports(1)
    kept = bench.folder / "redis"
    kept.mkdir(parents=True, exist_ok=True)
    environment = {
        "BENCH_REDIS": f"redis://127.0.0.1:{port}",
        "BENCH_MODEL": str(bench.model.folder),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": "",
    }
    python = str(bench.environments.python("celery"))
    cores, logs, peers = bench.cores.wide, bench.folder / "log", HERE / "peers"
    worker = [python, "-m", "celery", "-A", "celery_late", "worker", "--loglevel", "WARNING"]
    with (
        Service(
            [redis, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(kept), "--save", ""],
            cores=cores,
            log=logs / "redis.log",
            folder=kept,
            environment={},
        ) as service,
        Service(worker, cores=cores, log=logs / "celery.log", folder=peers, environment=environment),
    ):
        _wait_for(port, service)
        yield environment


def _wait_for(port: int, service: Service) -> None:
    until_s = time.monotonic() + START_S_MAX
    while True:
        service.check_alive()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > until_s:
            raise service.failed("it does not listen")
        time.sleep(0.05)


def _celery_run(bench: Bench, environment: dict[str, str], threads: int) -> dict[str, float]:
    command = [str(bench.environments.python("celery")), "celery_late.py", str(bench.jobs), str(threads)]
    done = subprocess.run(
        command,
        cwd=HERE / "peers",
        env=environment,
        capture_output=True,
        text=True,
        timeout=CLIENT_S_MAX,
        check=False,
    )
    if done.returncode:
        raise FigureFailed(f"Celery's client failed: {done.stderr[-2000:]}")
    run: dict[str, float] = json.loads(done.stdout)
    if run["wrong"]:
        raise FigureFailed(f"Celery gave {run['wrong']} wrong results")
    return run


def _redis_version() -> str:
    redis = shutil.which("redis-server") or "redis-server"
    done = subprocess.run([redis, "--version"], capture_output=True, text=True, timeout=10, check=False)
    return next((part[2:] for part in done.stdout.split() if part.startswith("v=")), "unknown")
