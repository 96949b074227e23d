"""The open-loop generator: what it is asked to do, and what it saw."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.harness.compiler import BuildFailed, compiled
from benchmarks.harness.cores import pinned
from benchmarks.harness.load import LoadFailed, Target

__all__ = [
    "CLASSES",
    "TOTAL",
    "Class",
    "Clients",
    "OpenLoad",
    "Phase",
    "Seen",
    "SeenClass",
    "SeenPhase",
    "Window",
    "parse",
]

SOURCE = Path(__file__).parent.parent / "load" / "openload.c"
GRACE_S = 60.0  # opening the connections, and waiting for the last answers
TOTAL = "*"
LAG_SHARE_MAX = 0.01
NICENESS = -10


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of time: at a random pace of `rate` requests a second, or with `in_flight` of them always."""

    name: str
    seconds: float
    rate: float = 0.0
    in_flight: int = 0

    def argument(self) -> str:
        pace = f"c{self.in_flight}" if self.in_flight else f"{self.rate:.3f}"
        return f"{self.name}:{pace}:{self.seconds}"


@dataclass(frozen=True, kw_only=True)
class Class:
    """Requests of one kind: `weight` is their part of all, `header` what tells them (empty: nothing)."""

    name: str
    weight: float
    header: str = ""


CLASSES = tuple(
    Class(name=name, weight=weight, header=f"x-criticality: {name}")
    for name, weight in (
        ("CRITICAL_PLUS", 0.08),  # at ten times capacity 0.8 of it
        ("CRITICAL", 0.42),
        ("SHEDDABLE_PLUS", 0.25),
        ("SHEDDABLE", 0.25),
    )
)


@dataclass(frozen=True, kw_only=True)
class Clients:
    """Who asks. `retries` are sent at once after anything but a 200."""

    connections: int = 2000
    good_ms: float = 100.0
    give_up_ms: float = 1000.0
    timeout_header_ms: float | None = 100.0
    retries: int = 0
    classes: Sequence[Class] = CLASSES

    def arguments(self) -> list[str]:
        command = ["-c", str(self.connections), "-D", str(self.good_ms), "-T", str(self.give_up_ms)]
        command += ["-r", str(self.retries)]
        if self.timeout_header_ms is not None:
            command += ["-H", f"x-request-timeout-ms: {self.timeout_header_ms:g}"]
        for each in self.classes:
            command += ["-k", f"{each.name}:{each.weight}:{each.header}"]
        return command


class SeenClass(msgspec.Struct, frozen=True, kw_only=True):
    """One class of requests in one phase, as `openload.c` describes it."""

    name: str
    arrivals: int
    retries: int
    sent: int
    good: int
    late: int
    rungs: int
    given_up: int
    broken: int
    unsent: int
    statuses: dict[int, int]
    p50_ms: float
    p99_ms: float
    max_ms: float
    refusal_p50_ms: float
    refusal_p99_ms: float

    @property
    def attempts(self) -> int:
        return self.arrivals + self.retries

    @property
    def good_share(self) -> float | None:
        """Of all attempts; None where there were none."""
        return self.good / self.attempts if self.attempts else None

    @property
    def answered(self) -> int:
        """With status 200, in time or not."""
        return self.good + self.late

    @property
    def refused(self) -> int:
        """Answered with another status."""
        return sum(count for status, count in self.statuses.items() if status != 200)

    def check(self) -> None:
        """Raise `LoadFailed` where the generator's counts do not add up."""
        ended = self.answered + self.refused + self.given_up + self.broken
        if self.attempts != self.sent + self.unsent or self.sent != ended or self.rungs > self.answered:
            raise LoadFailed(f"the load generator lost count of {self.name!r}: {self}")


class SeenPhase(msgspec.Struct, frozen=True, kw_only=True):
    """One phase. Times are monotonic; `lag_late` are requests that the generator came to over 5 ms late."""

    name: str
    rate: float
    in_flight: int
    start_s: float
    seconds: float
    lag_ms_max: float
    lag_late: int
    classes: tuple[SeenClass, ...]

    @property
    def end_s(self) -> float:
        return self.start_s + self.seconds

    @property
    def total(self) -> SeenClass:
        return self.of(TOTAL)

    def of(self, name: str) -> SeenClass:
        return next(each for each in self.classes if each.name == name)

    @property
    def good_rps(self) -> float:
        return self.total.good / self.seconds

    @property
    def limited(self) -> bool:
        """Whether the generator, not the server, was the limit: too many requests went out late."""
        return self.lag_late > LAG_SHARE_MAX * max(1, self.total.arrivals)


class Window(msgspec.Struct, frozen=True, array_like=True):
    """How requests that were due within one window went."""

    attempts: int
    good: int
    answered: int
    refused: int


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the generator."""

    start_s: float
    connections: int
    connects: int
    connect_failures: int
    cpu_s: float
    turn_ms_max: float
    phases: tuple[SeenPhase, ...]
    window_s: float
    windows: tuple[Window, ...]

    def phase(self, name: str) -> SeenPhase:
        return next(phase for phase in self.phases if phase.name == name)


def parse(text: str) -> Seen:
    """The generator's JSON. Raises `LoadFailed` where it cannot be read, or its counts do not add up."""
    try:
        seen = msgspec.json.decode(text, type=Seen, strict=False)
    except msgspec.MsgspecError as error:
        raise LoadFailed(f"the load generator's report cannot be read: {error}: {text[:300]}") from error
    for phase in seen.phases:
        for each in phase.classes:
            each.check()
    return seen


class OpenLoad:
    """Runs the generator on one core."""

    def __init__(self, binary: Path, *, core: int) -> None:
        self._binary = binary
        self._core = core

    @classmethod
    def build(cls, folder: Path, *, core: int) -> "OpenLoad":
        """Compiled into `folder`. Raises `LoadFailed`."""
        try:
            return cls(compiled(SOURCE, folder, libraries=["m"]), core=core)
        except BuildFailed as error:
            raise LoadFailed(str(error)) from error

    def run(self, target: Target, clients: Clients, phases: Sequence[Phase]) -> Seen:
        """All phases, one after the other. Raises `LoadFailed`."""
        command = [str(self._binary), "-P", str(target.port), "-u", target.path, *clients.arguments()]
        for body in target.bodies:
            command += ["-b", str(body)]
        for header in target.headers:
            command += ["-H", header]
        for phase in phases:
            command += ["-p", phase.argument()]
        seconds_max = sum(phase.seconds for phase in phases) + GRACE_S
        try:
            with pinned(self._core):
                done = subprocess.run(command, capture_output=True, text=True, timeout=seconds_max, check=False)
        except subprocess.TimeoutExpired as error:
            raise LoadFailed(f"the load did not end within {seconds_max:.0f} s") from error
        if done.returncode:
            raise LoadFailed(f"the load ended with exit status {done.returncode}: {done.stderr.strip()}")
        return parse(done.stdout)
