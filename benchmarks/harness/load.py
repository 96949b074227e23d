"""The load generator, closed or open loop: built from its C source when first needed, run on its own core."""

import json
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from benchmarks.harness.compiler import BuildFailed, compiled
from benchmarks.harness.cores import pinned

__all__ = [
    "Load",
    "LoadFailed",
    "LoadGenerator",
    "Marks",
    "Pace",
    "RunningLoad",
    "Target",
    "VersionSeen",
    "parse",
]

SOURCE = Path(__file__).parent.parent / "load" / "closedloop.c"
GRACE_S = 60  # connecting, and serving the idle connections at the end


class LoadFailed(Exception):
    """The generator could not be built, or could not measure anything."""


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Texts in an answer. The whole number after `version` must be the one after `output`."""

    version: str
    output: str


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where requests go, and what they carry."""

    port: int
    path: str
    bodies: Sequence[Path]
    headers: Sequence[str] = ()
    marks: Marks | None = None


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How requests are sent. `rate` is of an open loop, in requests a second (0: closed loop); after
    `renew_after` requests a connection is opened anew (0: never).
    """

    connections: int
    rate: float = 0.0
    renew_after: int = 0


@dataclass(frozen=True, kw_only=True)
class VersionSeen:
    """What a run saw of one version; times are monotonic seconds."""

    answers: int
    first_s: float
    last_s: float


@dataclass(frozen=True, kw_only=True)
class Load:
    """What one run saw. `rps` counts good answers (200) alone; `failed` all others, broken connections, answers
    that mix versions or cannot be read, and requests that hung at the end.

    `early` are failures before counting began; `overdue` are requests of an open loop that were due, not sent.
    """

    rps: float
    p50_us: float
    p99_us: float
    answered: int
    failed: int
    p999_us: float = 0.0
    max_us: float = 0.0
    seconds: float = 0.0
    start_s: float = 0.0
    reset: int = 0
    closed: int = 0
    refused: int = 0
    hung: int = 0
    early: int = 0
    overdue: int = 0
    mixed: int = 0
    unread: int = 0
    idle: int = 0
    idle_served: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    versions: dict[int, VersionSeen] = field(default_factory=dict)

    @property
    def failures(self) -> dict[str, int]:
        """What failed, by kind; empty where nothing did."""
        others = {f"status {code}": count for code, count in self.statuses.items() if code != "200"}
        kinds = ("reset", "closed", "refused", "hung", "early", "mixed", "unread")
        return others | {kind: getattr(self, kind) for kind in kinds if getattr(self, kind)}


def parse(text: str) -> Load:
    """The generator's JSON as a `Load`."""
    seen = json.loads(text)
    good = seen["status"].get("200", 0)
    wrong = seen.get("mixed", 0) + seen.get("unread", 0)
    kept = ("p999_us", "max_us", "seconds", "start_s", "reset", "closed", "refused", "hung", "early", "overdue")
    versions = seen.get("versions", {})
    return Load(
        rps=good / seen["seconds"],
        p50_us=seen["p50_us"],
        p99_us=seen["p99_us"],
        answered=good,
        failed=seen["requests"] - good + seen["errors"] + seen.get("hung", 0) + wrong,
        mixed=seen.get("mixed", 0),
        unread=seen.get("unread", 0),
        idle=seen["idle"],
        idle_served=seen["idle_served"],
        statuses=seen["status"],
        versions={
            int(version): VersionSeen(answers=answers, first_s=first_s, last_s=last_s)
            for version, (answers, first_s, last_s) in versions.items()
        },
        **{name: seen[name] for name in kept if name in seen},
    )


class RunningLoad:
    """Load in the background, as a context; `finish` ends it and gives what it saw."""

    def __init__(self, command: Sequence[str], *, core: int, seconds_max: float) -> None:
        self._command = list(command)
        self._core = core
        self._seconds_max = seconds_max
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        with pinned(self._core):
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def check_running(self) -> None:
        """Raise `LoadFailed` where it has ended already."""
        assert self._process is not None, "the load is not started"
        if self._process.poll() is not None:
            _, errors = self._process.communicate()
            raise LoadFailed(
                f"the load ended too early: exit status {self._process.returncode}: {errors.strip()}"
            )

    def wait(self) -> Load:
        """What it saw, once its time is over."""
        assert self._process is not None, "the load is not started"
        try:
            output, errors = self._process.communicate(timeout=self._seconds_max + GRACE_S)
        except subprocess.TimeoutExpired as error:
            raise LoadFailed(f"the load did not end within {error.timeout:.0f} s") from error
        if self._process.returncode:
            raise LoadFailed(f"the load ended with exit status {self._process.returncode}: {errors.strip()}")
        return parse(output)

    def finish(self) -> Load:
        """Ends it now; what it saw."""
        self.check_running()
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        return self.wait()


class LoadGenerator:
    """Runs the generator on one core, for a bounded time."""

    def __init__(self, binary: Path, *, core: int) -> None:
        self._binary = binary
        self._core = core

    @classmethod
    def build(cls, folder: Path, *, core: int) -> "LoadGenerator":
        """Compile into `folder`, unless what stands there is newer than the source."""
        try:
            return cls(compiled(SOURCE, folder), core=core)
        except BuildFailed as error:
            raise LoadFailed(str(error)) from error

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
        further = ["-i", str(idle), "-n", str(answers_max)]
        pace = Pace(connections=connections)
        with self._running(target, pace, seconds=seconds, warmup_s=warmup_s, further=further) as load:
            return load.wait()

    def start(
        self,
        target: Target,
        pace: Pace,
        *,
        seconds_max: float,
        warmup_s: float = 0.0,
        record: Path | None = None,
    ) -> RunningLoad:
        """Load in the background for at most `seconds_max`. `record` is a file for windows and failures."""
        further = ["-f", str(record)] if record is not None else []
        return self._running(target, pace, seconds=seconds_max, warmup_s=warmup_s, further=further)

    def _running(
        self, target: Target, pace: Pace, *, seconds: float, warmup_s: float, further: Sequence[str]
    ) -> RunningLoad:
        command = [str(self._binary), "-P", str(target.port), "-u", target.path, "-c", str(pace.connections)]
        command += ["-w", str(warmup_s), "-d", str(seconds), "-R", str(pace.rate), "-r", str(pace.renew_after)]
        for body in target.bodies:
            command += ["-b", str(body)]
        for header in target.headers:
            command += ["-H", header]
        if target.marks is not None:
            command += ["-X", target.marks.version, "-Y", target.marks.output]
        return RunningLoad([*command, *further], core=self._core, seconds_max=seconds + warmup_s)
