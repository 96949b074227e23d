"""The closed-loop load generator: built from its C source when first needed, run on its own core."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness.cores import pinned

__all__ = ["Load", "LoadFailed", "LoadGenerator", "Target", "parse"]

SOURCE = Path(__file__).parent.parent / "load" / "closedloop.c"
BUILD_S_MAX = 60
GRACE_S = 60  # connecting, and serving the idle connections at the end


class LoadFailed(Exception):
    """The generator could not be built, or could not measure anything."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where requests go, and what they carry."""

    port: int
    path: str
    bodies: Sequence[Path]
    headers: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Load:
    """What one run saw. `rps` counts good answers (200) alone; `failed` all others and broken connections."""

    rps: float
    p50_us: float
    p99_us: float
    answered: int
    failed: int
    idle: int = 0
    idle_served: int = 0
    statuses: dict[str, int] = field(default_factory=dict)


def parse(text: str) -> Load:
    """The generator's JSON as a `Load`."""
    seen = json.loads(text)
    good = seen["status"].get("200", 0)
    return Load(
        rps=good / seen["seconds"],
        p50_us=seen["p50_us"],
        p99_us=seen["p99_us"],
        answered=good,
        failed=seen["requests"] - good + seen["errors"],
        idle=seen["idle"],
        idle_served=seen["idle_served"],
        statuses=seen["status"],
    )


class LoadGenerator:
    """Runs the generator on one core, for a bounded time."""

    def __init__(self, binary: Path, *, core: int) -> None:
        self._binary = binary
        self._core = core

    @classmethod
    def build(cls, folder: Path, *, core: int) -> "LoadGenerator":
        """Compile into `folder`, unless what stands there is newer than the source."""
        binary = folder / "closedloop"
        if binary.exists() and binary.stat().st_mtime > SOURCE.stat().st_mtime:
            return cls(binary, core=core)
        compiler = shutil.which("cc")
        if compiler is None:
            raise LoadFailed(
                "no C compiler (cc) for the load generator\nhint: install one, e.g. the package gcc"
            )
        folder.mkdir(parents=True, exist_ok=True)
        built = subprocess.run(
            [compiler, "-O2", "-o", str(binary), str(SOURCE)],
            capture_output=True,
            text=True,
            timeout=BUILD_S_MAX,
            check=False,
        )
        if built.returncode:
            raise LoadFailed(f"{SOURCE} does not compile:\n{built.stderr}")
        return cls(binary, core=core)

    def run(
        self,
        target: Target,
        *,
        connections: int,
        seconds: float,
        warmup_s: float,
        idle: int = 0,
        answers_max: int = 0,
    ) -> Load:
        """Keep `connections` requests in flight for `seconds`, or until `answers_max` are answered."""
        command = [str(self._binary), "-P", str(target.port), "-u", target.path, "-c", str(connections)]
        command += ["-i", str(idle), "-w", str(warmup_s), "-d", str(seconds), "-n", str(answers_max)]
        for body in target.bodies:
            command += ["-b", str(body)]
        for header in target.headers:
            command += ["-H", header]
        try:
            with pinned(self._core):
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=seconds + warmup_s + GRACE_S, check=False
                )
        except subprocess.TimeoutExpired as error:
            raise LoadFailed(f"the load did not end within {error.timeout:.0f} s") from error
        if done.returncode:
            raise LoadFailed(f"the load ended with exit status {done.returncode}: {done.stderr.strip()}")
        return parse(done.stdout)
