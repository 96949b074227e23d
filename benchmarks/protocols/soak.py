"""Good and bad requests over every protocol for long: memory, the server's errors, its processes.

Load comes in spells with rests between. Under load memory swings with the bodies that happen to be held; what a
process holds at rest is what it keeps.
"""

import asyncio
import contextlib
import random
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness.figure import Claim, Result
from benchmarks.harness.load import Load, Pace, RunningLoad, Target
from benchmarks.harness.penstock import Server, ask
from benchmarks.protocols.bodies import image_target, late_target, rows_target
from benchmarks.protocols.figure import Bench
from benchmarks.protocols.fuzz import HTTP_CASES, exchange
from benchmarks.protocols.fuzz_grpc import WIRES
from benchmarks.protocols.server import Start, serving
from benchmarks.protocols.slope import Slope, slope
from benchmarks.protocols.soak_grpc import GrpcTraffic

__all__ = ["measure"]

SEED = 20261122
WORKERS = 2
MINUTES = 10.0
QUICK_MINUTES = 0.1
SLOPE_MINUTES_MIN = 5.0
"""Below that a slope an hour says nothing."""
SPELLS, QUICK_SPELLS = 12, 1
WARM_UP_SHARE = 1 / 4
"""Of the spells: memory is judged from the rest after these on."""
REST_S, QUICK_REST_S = 30.0, 0.5
SAMPLE_EVERY_S = 1.0
FUZZERS = 8
FUZZ_PAUSE_S = 0.005
GRPC_WIRE_SHARE = 0.1
# Cut off soon, so that many slow clients come and go within the time.
SETTINGS = ("server.receive_timeout_s=3",)
RATES = {"json": 1000.0, "binary": 1000.0, "invocations": 300.0, "image json": 4.0, "image binary": 20.0}
CONNECTIONS = 8
MIB = 2**20


@dataclass(kw_only=True)
class Abuse:
    """What came of the bad requests, by case and outcome; the first unexpected outcomes in words."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    unexpected: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, case: str, outcome: str, *, expected: bool) -> None:
        self.outcomes[case, outcome] += 1
        if not expected:
            self.unexpected[case, outcome] += 1

    def statuses(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for (_, outcome), count in self.outcomes.items():
            found[outcome] += count
        return found


@dataclass(kw_only=True)
class Memory:
    """Samples of one process: seconds since the start, resident bytes."""

    times_s: list[float] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)
    rests_s: list[float] = field(default_factory=list)
    at_rest: list[int] = field(default_factory=list)

    def slope_mb_h(self) -> Slope | None:
        """Of every sample under load, from the first rest on."""
        if not self.rests_s:
            return None
        pairs = zip(self.times_s, self.resident, strict=True)
        kept = [(at_s, value / MIB) for at_s, value in pairs if at_s >= self.rests_s[0]]
        return slope([at_s for at_s, _ in kept], [value for _, value in kept])

    def rest_mb_h(self) -> Slope | None:
        """Of what it holds at rest, once it is warm."""
        warm = max(0, round(WARM_UP_SHARE * len(self.rests_s)) - 1)
        return slope(self.rests_s[warm:], [value / MIB for value in self.at_rest[warm:]])


def measure(bench: Bench) -> Result:
    minutes = bench.minutes or (QUICK_MINUTES if bench.quick else MINUTES)
    spells, rest_s = (QUICK_SPELLS, QUICK_REST_S) if bench.quick else (SPELLS, REST_S)
    with serving(bench, "soak", Start(app="patient", workers=WORKERS, grpc=True, settings=SETTINGS)) as server:
        before = server.pids()
        traffic = GrpcTraffic(server.grpc_port, SEED) if _speaks_grpc(server) else None
        soaked = Soaked(60 * minutes, {name: Memory() for name in before}, traffic)
        for spell in range(spells):
            _soak(bench, server, soaked, spell, 60 * minutes / spells)
            soaked.rest(before, rest_s)
            bench.say(f"soak, rest {spell + 1} of {spells}: {soaked.held()}")
        after = server.pids()
        log = server.service.log.read_text(errors="replace")
    soaked.gone = sum(after.get(name) != pid for name, pid in before.items())
    soaked.tracebacks = log.count("Traceback (most recent")
    return _result(soaked)


def _soak(bench: Bench, server: Server, soaked: "Soaked", spell: int, seconds: float) -> None:
    with ExitStack() as held:
        loads = {name: held.enter_context(load) for name, load in _loads(bench, server, seconds)}
        asyncio.run(_abuse(bench, server, soaked, SEED + FUZZERS * spell, seconds))
        for name, load in loads.items():
            soaked.loads.setdefault(name, []).append(load.wait())


def _speaks_grpc(server: Server) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.grpc_port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _loads(bench: Bench, server: Server, seconds: float) -> Iterator[tuple[str, RunningLoad]]:
    """Good requests at fixed rates, each kind from a generator of its own."""
    targets: dict[str, Target] = {
        "json": late_target(bench, server.port, binary=False),
        "binary": late_target(bench, server.port, binary=True),
        "image json": image_target(bench, server.port, binary=False),
        "image binary": image_target(bench, server.port, binary=True),
    }
    rows = rows_target(bench, server.port, "instances")
    if (
        ask(server.port, rows.path, rows.bodies[0].read_bytes(), {"Content-Type": "application/json"}).status
        == 200
    ):
        targets["invocations"] = rows
    for name, target in targets.items():
        pace = Pace(connections=CONNECTIONS, rate=RATES[name], renew_after=1000)
        yield name, bench.load.start(target, pace, seconds_max=seconds)


async def _abuse(bench: Bench, server: Server, soaked: "Soaked", seed: int, seconds: float) -> None:
    abuse, traffic = soaked.abuse, soaked.traffic
    until_s = time.monotonic() + seconds
    async with asyncio.TaskGroup() as tasks:
        for number in range(FUZZERS):
            rng = random.Random(seed + number)
            tasks.create_task(_fuzz(server, abuse, rng, until_s, grpc=traffic is not None))
        tasks.create_task(_sample(bench, server, soaked, until_s))
        if traffic is not None:
            tasks.create_task(traffic.run(until_s, abuse.add))


async def _fuzz(server: Server, abuse: Abuse, rng: random.Random, until_s: float, *, grpc: bool) -> None:
    # What is not over at the end is not counted: a client that sends slowly may have long to go.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(until_s):
            while True:
                if grpc and rng.random() < GRPC_WIRE_SHARE:
                    name = rng.choice(list(WIRES))
                    outcome = await exchange(server.grpc_port, WIRES[name](rng))
                    abuse.add(name, outcome, expected=outcome == "closed")
                else:
                    case = rng.choice(HTTP_CASES)
                    outcome = await exchange(server.port, case.make(rng))
                    abuse.add(case.name, outcome, expected=outcome in case.expected)
                await asyncio.sleep(FUZZ_PAUSE_S)


async def _sample(bench: Bench, server: Server, soaked: "Soaked", until_s: float) -> None:
    pids = server.pids()
    said_s = time.monotonic()
    while (now_s := time.monotonic()) < until_s:
        soaked.sampled(pids)
        if now_s - said_s >= 60:
            said_s = now_s
            bench.say(f"soak, minute {(now_s - soaked.begun_s) / 60:.0f}: {soaked.held()}")
        await asyncio.sleep(SAMPLE_EVERY_S)


def _resident_bytes(pid: int) -> int:
    """Raises `OSError`, `LookupError` for a process that is gone."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"no VmRSS for process {pid}")


@dataclass
class Soaked:
    """All that a soak gathers. `seconds` are those under load."""

    seconds: float
    memory: dict[str, Memory]
    traffic: GrpcTraffic | None
    abuse: Abuse = field(default_factory=Abuse)
    loads: dict[str, list[Load]] = field(default_factory=dict)
    """By kind, of each spell."""
    begun_s: float = field(default_factory=time.monotonic)
    gone: int = 0
    tracebacks: int = 0

    def sampled(self, pids: dict[str, int]) -> None:
        # A process that is gone has no samples from then on; that it is gone is found at the end.
        for name, pid in pids.items():
            with contextlib.suppress(OSError, LookupError):
                self.memory[name].resident.append(_resident_bytes(pid))
                self.memory[name].times_s.append(time.monotonic() - self.begun_s)

    def rest(self, pids: dict[str, int], seconds: float) -> None:
        """What each holds once it has come to rest, which a busy machine may put off: the least of the time."""
        least: dict[str, int] = {}
        until_s = time.monotonic() + seconds
        while not least or time.monotonic() < until_s:
            time.sleep(min(SAMPLE_EVERY_S, seconds))
            for name, pid in pids.items():
                with contextlib.suppress(OSError, LookupError):
                    held = _resident_bytes(pid)
                    least[name] = min(held, least.get(name, held))
        for name, held in least.items():
            self.memory[name].at_rest.append(held)
            self.memory[name].rests_s.append(time.monotonic() - self.begun_s)

    def held(self) -> str:
        """What each process was last seen to hold, in words."""
        words = []
        for name, each in self.memory.items():
            loaded, rested = (
                f"{seen[-1] / MIB:.1f}" if seen else "?" for seen in (each.resident, each.at_rest)
            )
            words.append(f"{name} {loaded} MiB (at rest {rested})")
        return "  ".join(words)

    def server_errors(self) -> int:
        """Answers of 500 and gRPC's INTERNAL and UNKNOWN, to good and bad requests alike."""
        statuses = self.abuse.statuses()
        good = sum(load.statuses.get("500", 0) for loads in self.loads.values() for load in loads)
        return good + sum(statuses[code] for code in ("500", "INTERNAL", "UNKNOWN"))

    def good_failed(self) -> dict[str, int]:
        failed = {name: sum(load.failed + load.early for load in loads) for name, loads in self.loads.items()}
        if self.traffic is not None:
            failed["gRPC"] = sum(self.traffic.failures.values())
        return failed


def _result(soaked: Soaked) -> Result:
    slopes = {name: each.rest_mb_h() for name, each in soaked.memory.items()}
    known = [each for each in slopes.values() if each is not None]
    enough = soaked.seconds >= 60 * SLOPE_MINUTES_MIN and len(known) == len(slopes)
    statuses = soaked.abuse.statuses()
    good = {name: sum(load.answered for load in loads) for name, loads in soaked.loads.items()}
    if soaked.traffic is not None:
        good["gRPC"] = soaked.traffic.answered
    lines = [
        ("minutes under load", f"{soaked.seconds / 60:.1f}"),
        ("good requests answered, failed", f"{sum(good.values()):,}, {sum(soaked.good_failed().values()):,}"),
        ("bad requests", f"{statuses.total():,}"),
        *((f"  outcome {outcome}", f"{count:,}") for outcome, count in sorted(statuses.items())),
        ("tracebacks in the log", f"{soaked.tracebacks}"),
    ]
    for name, memory in soaked.memory.items():
        lines.append((f"{name}: MiB at rest", "  ".join(f"{each / MIB:.1f}" for each in memory.at_rest)))
        lines.append((f"{name}: slope of that, MiB an hour", _said(slopes[name])))
        lines.append((f"{name}: slope of every sample under load, MiB an hour", _said(memory.slope_mb_h())))
    return Result(
        name="soak",
        claims=(
            Claim(
                name="soak_slope_mb_h", value=max(s.per_hour for s in known) if enough else None, at_most=1.0
            ),
            Claim(name="soak_server_errors", value=soaked.server_errors(), at_most=0),
            Claim(name="soak_good_failed", value=sum(soaked.good_failed().values()), at_most=0),
            Claim(name="soak_unexpected", value=soaked.abuse.unexpected.total(), at_most=0),
            Claim(name="soak_processes_lost", value=soaked.gone, at_most=0),
        ),
        facts=_facts(soaked, slopes, good),
        lines=lines,
        remarks=[
            f"{case}: {outcome}, {count} times" for (case, outcome), count in soaked.abuse.unexpected.items()
        ],
    )


def _facts(soaked: Soaked, slopes: dict[str, Slope | None], good: dict[str, int]) -> dict[str, object]:
    cases: dict[str, dict[str, int]] = {}
    for (case, outcome), count in sorted(soaked.abuse.outcomes.items()):
        cases.setdefault(case, {})[outcome] = count
    samples = {name: each.slope_mb_h() for name, each in soaked.memory.items()}
    failures: dict[str, Counter[str]] = {name: Counter() for name in soaked.loads}
    for name, loads in soaked.loads.items():
        for load in loads:
            failures[name].update(load.failures)
    return {
        "minutes": soaked.seconds / 60,
        "answered": good,
        "good_failures": {name: dict(found) for name, found in failures.items() if found},
        "grpc_failures": dict(soaked.traffic.failures) if soaked.traffic is not None else None,
        "outcomes": cases,
        "slopes_mb_h": {name: _slope_facts(each) for name, each in slopes.items()},
        "slopes_of_samples_mb_h": {name: _slope_facts(each) for name, each in samples.items()},
        "at_rest_mb": {n: [round(v / MIB, 2) for v in each.at_rest] for n, each in soaked.memory.items()},
        "resident_mb": {
            n: [round(v / MIB, 2) for v in each.resident[::60]] for n, each in soaked.memory.items()
        },
        "tracebacks": soaked.tracebacks,
    }


def _slope_facts(seen: Slope | None) -> dict[str, float] | None:
    return None if seen is None else {"per_hour": seen.per_hour, "standard_error": seen.standard_error}


def _said(seen: Slope | None) -> str:
    return "not measured" if seen is None else f"{seen.per_hour:+.2f} ± {seen.standard_error:.2f}"
