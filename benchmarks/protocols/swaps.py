"""Hot swaps under full load: an alias moves from version to version, and every answer is checked.

Each version says its number in an output, so an answer that names a version and carries the output of another
is seen. Every swap goes to a version that is not loaded: they are gone through in turn, and a server keeps two
that it needs no more.
"""

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.harness.figure import Claim, FigureFailed, Result
from benchmarks.harness.load import Load, Marks, Pace, Target
from benchmarks.harness.penstock import Server, ask
from benchmarks.harness.report import median, ratio
from benchmarks.protocols.bodies import late_target
from benchmarks.protocols.figure import Bench
from benchmarks.protocols.registry import VERSIONED, opened
from benchmarks.protocols.server import Start, serving
from benchmarks.protocols.version_checker import VersionChecker
from penstock.models.registry import CHAMPION, Registry

__all__ = ["measure", "versions_wanted"]

PATH = f"/v2/models/{VERSIONED}/infer"
CONNECTIONS = 64
WORKERS = 2
OPEN_LOOP_SHARE = 0.7
SWITCH_S_MAX = 10.0
POLL_S = 0.02
PAUSE_S = 0.1
FIRST = 1


@dataclass(frozen=True, kw_only=True)
class Plan:
    swaps: int
    calm_s: float
    open_loop_swaps: int


FULL = Plan(swaps=50, calm_s=15.0, open_loop_swaps=50)
QUICK = Plan(swaps=4, calm_s=1.0, open_loop_swaps=0)


@dataclass(frozen=True, kw_only=True)
class Swap:
    """A move of the alias. `moved_s` is just before it, `reported_s` when every worker said that it follows."""

    version: int
    before: int
    moved_s: float
    reported_s: float


def versions_wanted(*, quick: bool) -> int:
    return (QUICK if quick else FULL).swaps + FIRST


def measure(bench: Bench) -> Result:
    """Calm, swaps, calm at full load; then the same at a fixed rate below capacity."""
    plan = QUICK if bench.quick else FULL
    with ExitStack() as held:
        server = held.enter_context(serving(bench, "swaps", Start(app="versioned", workers=WORKERS)))
        registry = held.enter_context(opened(bench.home))
        target = _target(bench, server.port)
        full = _phase(bench, server, registry, target, Pace(connections=CONNECTIONS), plan.swaps, plan.calm_s)
        phases = {"full load": full}
        if plan.open_loop_swaps:
            rate = OPEN_LOOP_SHARE * min(load.rps for load in full.calm)
            pace = Pace(connections=CONNECTIONS, rate=rate)
            phases["fixed rate"] = _phase(
                bench, server, registry, target, pace, plan.open_loop_swaps, plan.calm_s
            )
    return _result(phases)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Loads before and after, the load with swaps, the swaps, and what the independent checker saw."""

    calm: Sequence[Load]
    swapping: Load
    swaps: Sequence[Swap]
    checked: dict[str, int]
    wrong: list[str]

    def failures(self) -> int:
        """Of every kind, in calm and while swapping, but answers that are mixed."""
        checker = sum(count for kind, count in self.checked.items() if kind not in ("right", "mixed"))
        return sum(load.failed + load.early - load.mixed for load in (*self.calm, self.swapping)) + checker

    def mixed(self) -> int:
        return sum(load.mixed for load in (*self.calm, self.swapping)) + self.checked.get("mixed", 0)

    def first_answers_s(self) -> list[float]:
        """From each move to the first answer of the new version, for swaps of which one was seen."""
        seen = self.swapping.versions
        return [seen[swap.version].first_s - swap.moved_s for swap in self.swaps if swap.version in seen]

    def switched_s(self) -> list[float]:
        """From each move to the last answer of the old version, over all connections and so all workers."""
        seen = self.swapping.versions
        return [seen[swap.before].last_s - swap.moved_s for swap in self.swaps if swap.before in seen]

    def reported_s(self) -> list[float]:
        return [swap.reported_s - swap.moved_s for swap in self.swaps]


def _phase(  # noqa: PLR0913, PLR0917 - one measurement, said in full
    bench: Bench,
    server: Server,
    registry: Registry,
    target: Target,
    pace: Pace,
    swaps: int,
    calm_s: float,
) -> Phase:
    _swap(server, registry, FIRST)
    calm = [_calm(bench, target, pace, calm_s)]
    done: list[Swap] = []
    seconds_max = swaps * (SWITCH_S_MAX + PAUSE_S) + 10.0
    record = bench.scratch("swaps") / f"record-{'open' if pace.rate else 'closed'}.json"
    with (
        VersionChecker(server.port, PATH, bench.rows) as checker,
        bench.load.start(target, pace, seconds_max=seconds_max, record=record) as load,
    ):
        time.sleep(PAUSE_S)
        for number in range(FIRST + 1, FIRST + 1 + swaps):
            load.check_running()
            done.append(_swap(server, registry, number))
            bench.say(
                f"swap to version {number}: every worker after {done[-1].reported_s - done[-1].moved_s:.2f} s"
            )
            time.sleep(PAUSE_S)
        seen = load.finish()
        checked, wrong = checker.finish()
    calm.append(_calm(bench, target, pace, calm_s))
    return Phase(calm=calm, swapping=seen, swaps=done, checked=checked, wrong=wrong)


def _calm(bench: Bench, target: Target, pace: Pace, seconds: float) -> Load:
    with bench.load.start(target, pace, seconds_max=seconds, warmup_s=0.3) as load:
        return load.wait()


def _swap(server: Server, registry: Registry, version: int) -> Swap:
    """Moves the alias, and waits until every worker says that it follows."""
    moved_s = time.monotonic()
    before = registry.move_alias(VERSIONED, CHAMPION, to=version)
    while time.monotonic() < moved_s + SWITCH_S_MAX:
        if _answering(server) == {str(version)}:
            assert before is not None, "the alias was set"
            return Swap(version=version, before=before, moved_s=moved_s, reported_s=time.monotonic())
        time.sleep(POLL_S)
    raise server.service.failed(
        f"{SWITCH_S_MAX:.0f} s after {VERSIONED}@{CHAMPION} moved to version {version}, "
        f"workers answer with {_answering(server)}"
    )


def _answering(server: Server) -> set[str]:
    """The versions that the workers have as their default now."""
    workers = server.serving_workers()
    found = {
        model.version
        for worker in workers
        if worker.report is not None
        for model in worker.report.models
        if model.model == VERSIONED and model.default
    }
    return found if len(workers) == WORKERS else found | {"missing"}


def _target(bench: Bench, port: int) -> Target:
    """JSON rows, with the places in an answer where the version is named and where the model says it."""
    target = late_target(bench, port, binary=False, path=PATH)
    answer = ask(port, PATH, target.bodies[0].read_bytes(), {"Content-Type": "application/json"})
    if answer.status != 200:
        raise FigureFailed(f"{PATH}: status {answer.status}: {answer.body[:300]!r}")
    text = answer.body.decode()
    marks = Marks(
        version=_before_number(text, '"model_version"'), output=_before_number(text, '"name":"version"')
    )
    return Target(port=port, path=PATH, bodies=target.bodies, headers=target.headers, marks=marks)


def _before_number(text: str, key: str) -> str:
    """What stands from `key` to the version's number: of an output, up to `"data":[`."""
    document = json.loads(text)
    start = text.index(key)
    number = document["model_version"]
    stop = text.index('"data":[', start) + len('"data":[') if "name" in key else text.index(number, start)
    if not text.startswith(number, stop):
        raise FigureFailed(f"no version's number after {text[start:stop]!r} in {text!r}")
    return text[start:stop]


def _result(phases: dict[str, Phase]) -> Result:
    full = phases["full load"]
    every = list(phases.values())
    p99s = {name: _p99_ratio(phase) for name, phase in phases.items()}
    firsts = [each for phase in every for each in phase.first_answers_s()]
    switches = [each for phase in every for each in phase.switched_s()]
    swapped = sum(len(phase.swaps) for phase in every)
    lines = [
        ("swaps, and first answers of a new version seen", f"{swapped}, {len(firsts)}"),
        ("first answer of the new version, median and longest", _seconds(firsts)),
        ("last answer of the old version, median and longest", _seconds(switches)),
        ("every worker has said so, median and longest", _seconds([s for p in every for s in p.reported_s()])),
    ]
    for name, phase in phases.items():
        calm, load = median(each.p99_us for each in phase.calm) or 0.0, phase.swapping
        lines += [
            (
                f"{name}: answers, and those checked in full",
                f"{load.answered:,}, {phase.checked.get('right', 0):,}",
            ),
            (f"{name}: requests/s calm, swapping", f"{phase.calm[0].rps:,.0f}, {load.rps:,.0f}"),
            (f"{name}: p99 ms calm, swapping", f"{calm / 1000:.2f}, {load.p99_us / 1000:.2f}"),
            (f"{name}: longest ms, swapping", f"{load.max_us / 1000:.1f}"),
        ]
    return Result(
        name="swaps",
        claims=(
            Claim(name="swaps_failed", value=sum(phase.failures() for phase in every), at_most=0),
            Claim(name="swaps_mixed", value=sum(phase.mixed() for phase in every), at_most=0),
            Claim(name="swaps_unseen", value=swapped - len(firsts), at_most=0),
            Claim(name="swaps_p99", value=p99s["full load"], at_most=3.0),
            Claim(name="swaps_switch_s", value=max((*firsts, *switches), default=None), at_most=2.0),
        ),
        facts={
            "workers": WORKERS,
            "p99_ratio": p99s,
            "first_answer_s": firsts,
            "last_old_answer_s": switches,
            "phases": {name: _facts(phase) for name, phase in phases.items()},
        },
        lines=lines,
        remarks=full.wrong[:5],
    )


def _p99_ratio(phase: Phase) -> float | None:
    return ratio(phase.swapping.p99_us, median(load.p99_us for load in phase.calm))


def _facts(phase: Phase) -> dict[str, object]:
    def facts(load: Load) -> dict[str, object]:
        kept = ("rps", "p50_us", "p99_us", "p999_us", "max_us", "answered", "overdue", "failures")
        return {name: getattr(load, name) for name in kept}

    return {
        "calm": [facts(load) for load in phase.calm],
        "swapping": facts(phase.swapping),
        "reported_s": phase.reported_s(),
        "checked": phase.checked,
        "wrong": phase.wrong[:20],
    }


def _seconds(values: Sequence[float]) -> str:
    return f"{median(values):.2f} s, {max(values):.2f} s" if values else "none"
