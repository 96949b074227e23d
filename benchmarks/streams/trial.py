"""Runs one system once, as a process on a core of its own, and checks what came out."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.harness.cores import pinned
from benchmarks.harness.figure import FigureFailed
from benchmarks.streams.bench import Bench
from benchmarks.streams.judge import Trial, agrees
from benchmarks.streams.oracle import Oracle
from benchmarks.streams.systems import Kind, System

__all__ = ["run_module", "run_system"]

ROOT = Path(__file__).parents[2]
RUN_S_MAX = 300
TAIL_LINES = 15
LIBRARIES = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PATHWAY_THREADS")
ONE_THREAD = dict.fromkeys(LIBRARIES, "1")


def run_system(bench: Bench, system: System, density: str, oracle: Oracle) -> Trial:
    """Raises `FigureFailed` where it fails, takes too long, or gives other results than the oracle."""
    count = (system.quick_events if bench.plan.quick else 0) or system.events
    seen = run_module(
        bench,
        f"benchmarks.streams.{system.module}",
        *("--events", str(bench.events.file(density)), "--model", str(bench.model)),
        *("--count", str(count), "--frame", str(system.frame), "--warm", str(system.warm)),
        environment=system.environment,
    )
    if system.kind is not Kind.LIMIT and not agrees(seen["checksum"], wanted := oracle.checksum(count)):
        raise FigureFailed(
            f"{system.name} gave other results on {density} events\nseen: {seen['checksum']}\nwanted: {wanted}"
        )
    return Trial(events=seen["events"], seconds=seen["seconds"])


def run_module(
    bench: Bench, module: str, *arguments: str, environment: str | None = None, wide: bool = False
) -> Any:
    """The JSON that a module writes as its last line, run on the server's core, or on all that a server may use
    where it is `wide`; each library has one thread.
    """
    command = [str(bench.environments.python(environment)), "-m", module, *arguments]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    with pinned(*(bench.cores.wide if wide else {bench.cores.server})):
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=os.environ | ONE_THREAD | {"PYTHONPATH": paths},
                capture_output=True,
                text=True,
                timeout=RUN_S_MAX,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise FigureFailed(f"{module} had not ended after {RUN_S_MAX} s") from None
    if done.returncode:
        tail = "\n".join(f"  | {line}" for line in (done.stdout + done.stderr).splitlines()[-TAIL_LINES:])
        raise FigureFailed(f"{module} failed with exit status {done.returncode}\n{' '.join(command)}\n{tail}")
    return json.loads(done.stdout.splitlines()[-1])
