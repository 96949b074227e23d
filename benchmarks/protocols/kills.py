"""`kill -9` of worker processes under load: what fails, whether the port answers, and when capacity is back.

A worker that has lived for 10 s is started anew at once; one that keeps dying waits longer each time, by
design. So each kill is of one that has lived that long (not with `--quick`).

Throughput on a machine of two cores, shared by two workers and the load, wanders by itself. So the same look is
taken at moments when nothing is killed: what a kill costs is what it costs beyond those.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from benchmarks.harness.figure import Claim, Result
from benchmarks.harness.load import Load, Pace
from benchmarks.harness.penstock import Server
from benchmarks.harness.report import median
from benchmarks.protocols.bodies import check_late, late_target
from benchmarks.protocols.figure import Bench
from benchmarks.protocols.prober import Prober, Probes
from benchmarks.protocols.record import Failure, Record, read_record, recovered_s
from benchmarks.protocols.server import Start, serving

__all__ = ["Kill", "judge", "measure"]

WORKERS = 2
CONNECTIONS = 64
# Connections that never end would all stay with the worker that survived, as nothing moves an open connection.
RENEW_AFTER = 200
LIVED_S = 10.5
BACK_S_MAX = 20.0
POLL_S = 0.02
FULL_SHARE = 0.9
PROBE_S_MAX = 1.0
BACK_S = 2.0
AFTER_SHARE = 0.95
# A killed process takes a moment to give up its sockets, and what arrives on them meanwhile is lost with it.
DYING_S_MAX = 0.2
# A connection that was opened just before may wait to be accepted while the worker's are listed.
ACCEPT_S_MAX = 0.1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`lived_s` is how old a worker is that is killed; throughput is looked at from `before_s` before a kill
    until `looked_at_s` after it, and for `after_s` from when all workers stand again.
    """

    kills: int
    lived_s: float
    before_s: float
    after_s: float
    looked_at_s: float
    controls: int


FULL = Plan(kills=100, lived_s=LIVED_S, before_s=1.0, after_s=1.2, looked_at_s=3.0, controls=60)
QUICK = Plan(kills=5, lived_s=0.0, before_s=0.5, after_s=0.7, looked_at_s=3.0, controls=3)


@dataclass(frozen=True, kw_only=True)
class Kill:
    """One kill: the ports of the clients that the worker held, looked up between `listed_s` and `killed_s`, and
    when all workers stood again. `prompt`: no back-off was due, so what is promised holds for it.
    """

    pid: int
    prompt: bool
    ports: frozenset[int]
    listed_s: float
    killed_s: float
    standing_s: float
    until_s: float


def measure(bench: Bench) -> Result:
    plan = QUICK if bench.quick else FULL
    file = bench.scratch("kills") / "record.json"
    pace = Pace(connections=CONNECTIONS, renew_after=RENEW_AFTER)
    look_s = plan.before_s + plan.looked_at_s
    seconds_max = plan.kills * (plan.lived_s + BACK_S_MAX + look_s) + plan.controls * look_s + 30.0
    with serving(bench, "kills", Start(app="late", workers=WORKERS)) as server:
        check_late(bench, server, binary=False)
        target = late_target(bench, server.port, binary=False)
        kills: list[Kill] = []
        with (
            Prober(server.port) as prober,
            bench.load.start(target, pace, seconds_max=seconds_max, warmup_s=0.5, record=file) as load,
        ):
            time.sleep(0.5)
            for number in range(plan.kills):
                _wait_for_age(server, plan.lived_s)
                time.sleep(plan.before_s)
                load.check_running()
                kills.append(_kill(server, plan, number))
                took_s = kills[-1].standing_s - kills[-1].killed_s
                bench.say(f"kill {number + 1}/{plan.kills}: standing again after {took_s:.2f} s")
            controls = [_control(plan) for _ in range(plan.controls)]
            seen = load.finish()
            probes = prober.finish()
        check_late(bench, server, binary=False)
    return _result(plan, kills, controls, read_record(file), seen, probes)


def _control(plan: Plan) -> float:
    """A moment at which nothing is killed, looked at as a kill is."""
    time.sleep(plan.before_s)
    moment_s = time.monotonic()
    time.sleep(plan.looked_at_s)
    return moment_s


def _wait_for_age(server: Server, lived_s: float) -> None:
    """Until the worker that comes next has lived long enough."""
    until_s = time.monotonic() + lived_s + BACK_S_MAX
    while time.monotonic() < until_s:
        if max((each.up_s for each in server.serving_workers()), default=0.0) >= lived_s:
            return
        time.sleep(POLL_S)
    raise server.service.failed(f"no worker lived for {lived_s:.1f} s")


def _kill(server: Server, plan: Plan, number: int) -> Kill:
    """Kills the worker that has lived longest, and waits until as many serve as before."""
    workers = sorted(server.serving_workers(), key=lambda each: -each.up_s)
    if len(workers) != WORKERS or workers[0].pid is None:
        raise server.service.failed(f"before kill {number + 1}, {len(workers)} of {WORKERS} workers serve")
    pid = workers[0].pid
    listed_s = time.monotonic()
    ports = _client_ports(pid, server.port)
    killed_s = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    while time.monotonic() < killed_s + BACK_S_MAX:
        serving_now = {each.pid for each in server.serving_workers()}
        if pid not in serving_now and len(serving_now) == WORKERS:
            standing_s = time.monotonic()
            time.sleep(max(plan.after_s, killed_s + plan.looked_at_s - standing_s))
            return Kill(
                pid=pid,
                prompt=workers[0].failures == 0 or workers[0].up_s >= LIVED_S,
                ports=ports,
                listed_s=listed_s,
                killed_s=killed_s,
                standing_s=standing_s,
                until_s=time.monotonic(),
            )
        time.sleep(POLL_S)
    raise server.service.failed(f"{BACK_S_MAX:.0f} s after kill {number + 1} not all workers serve")


def _client_ports(pid: int, port: int) -> frozenset[int]:
    """The far ends of the worker's connections on the served port."""
    connections = psutil.Process(pid).net_connections(kind="tcp")
    return frozenset(each.raddr.port for each in connections if each.raddr and each.laddr.port == port)


def judge(kill: Kill, failures: Sequence[Failure]) -> list[str]:
    """What is wrong about the failures after a kill: each must be one request, in flight on a connection of
    that worker (or on one opened after its connections were listed), broken by the kill.
    """
    wrong = []
    seen: Counter[int] = Counter()
    known_s = kill.listed_s - ACCEPT_S_MAX
    for failure in failures:
        seen[failure.port] += 1
        if failure.kind not in ("reset", "closed"):
            wrong.append(f"{failure.kind} (status {failure.status}) {failure.at_s - kill.killed_s:+.3f} s")
        elif failure.port not in kill.ports and failure.opened_s < known_s:
            wrong.append(f"port {failure.port} was not the killed worker's")
        elif seen[failure.port] > 1 and failure.opened_s < known_s:
            wrong.append(f"port {failure.port} failed {seen[failure.port]} times")
    return wrong


def _was_in_flight(probe: tuple[float, str], kills: Sequence[Kill]) -> bool:
    """Whether a probe broke because the worker that had accepted it was killed; at most one can at a time."""
    asked_s, outcome = probe
    if outcome not in ("ConnectionResetError", "RemoteDisconnected"):
        return False
    return any(kill.killed_s - PROBE_S_MAX < asked_s < kill.killed_s + DYING_S_MAX for kill in kills)


def _after(record: Record, moment_s: float, *, before_from_s: float, before_s: float) -> float:
    """Throughput from 2 to 3 s after a moment, as a share of that before it."""
    usual = record.rps(before_from_s, before_from_s + before_s)
    return record.rps(moment_s + BACK_S, moment_s + BACK_S + 1.0) / usual if usual else 0.0


def _result(
    plan: Plan, kills: Sequence[Kill], controls: Sequence[float], record: Record, seen: Load, probes: Probes
) -> Result:
    back, failed, wrong, silent, before = [], [], [], [], []
    standing: list[float] = []
    after: list[float] = []
    for kill in kills:
        failures = record.failures_between(kill.listed_s, kill.until_s)
        usual = record.rps(kill.listed_s - plan.before_s, kill.listed_s)
        rps_back_s = recovered_s(
            record, broken_s=kill.killed_s, until_s=kill.until_s, wanted_rps=FULL_SHARE * usual
        )
        standing_s = kill.standing_s - kill.killed_s
        back.append(rps_back_s)
        standing.append(standing_s)
        after.append(
            _after(record, kill.killed_s, before_from_s=kill.listed_s - plan.before_s, before_s=plan.before_s)
        )
        failed.append(len(failures))
        wrong += judge(kill, failures)
        silent.append(record.silence_s(kill.killed_s, kill.until_s))
        before.append(usual)
    in_flight = [probe for probe in probes.failed if _was_in_flight(probe, kills)]
    during = sum(failed)
    elsewhere = seen.failed - during
    longest = max((each for kill, each in zip(kills, standing, strict=True) if kill.prompt), default=None)
    share = median([each for kill, each in zip(kills, after, strict=True) if kill.prompt] or after)
    before_s = plan.before_s
    control = median(
        [
            _after(record, moment_s, before_from_s=moment_s - before_s, before_s=before_s)
            for moment_s in controls
        ]
    )
    looks = [
        recovered_s(
            record,
            broken_s=moment_s,
            until_s=moment_s + plan.looked_at_s,
            wanted_rps=FULL_SHARE * record.rps(moment_s - before_s, moment_s),
        )
        for moment_s in controls
    ]
    lines = [
        ("kills", f"{len(kills)}"),
        ("requests answered, failed", f"{seen.answered:,}, {seen.failed:,}"),
        ("failed a kill: median, most", f"{median(failed):.0f}, {max(failed)}"),
        ("connections on the killed worker: least, most", _range([len(kill.ports) for kill in kills])),
        ("requests/s before a kill, median", f"{median(before):,.0f}"),
        ("all workers serve again, s: median, longest", _range_s(standing)),
        (
            "requests/s from 2 to 3 s after a kill, of those before; without a kill",
            f"{share:.2f}, {control:.2f}",
        ),
        ("throughput not at 0.9 of before within 3 s", f"{back.count(None)} of {len(back)} kills"),
        ("the same without a kill", f"{looks.count(None)} of {len(looks)} moments"),
        ("longest time without an answer to anybody", f"{max(silent) * 1000:.0f} ms"),
        ("probes; failed, in flight on the killed worker", f"{probes.outcomes.total():,}; {len(in_flight)}"),
        ("probes that failed otherwise", f"{probes.failures - len(in_flight)}"),
        ("slowest probe", f"{probes.slowest_s * 1000:.0f} ms"),
    ]
    return Result(
        name="kills",
        claims=(
            Claim(name="kills_failed_elsewhere", value=len(wrong) + elsewhere, at_most=0),
            Claim(name="kills_probes_failed", value=probes.failures - len(in_flight), at_most=0),
            Claim(name="kills_probe_s_max", value=probes.slowest_s, at_most=PROBE_S_MAX),
            Claim(name="kills_back_s", value=longest, at_most=BACK_S),
            Claim(name="kills_rps_after", value=share / control if control else None, at_least=AFTER_SHARE),
        ),
        facts={
            "workers": WORKERS,
            "failed": failed,
            "failures": seen.failures,
            "connections": [len(kill.ports) for kill in kills],
            "back_s": [None if each is None else round(each, 3) for each in back],
            "prompt": [kill.prompt for kill in kills],
            "standing_s": [round(each, 3) for each in standing],
            "rps_after": [round(each, 3) for each in after],
            "control": {"rps_after": control, "back_s": looks},
            "rps_before": [round(each) for each in before],
            "silence_s": silent,
            "wrong": wrong[:50],
            "probes": dict(probes.outcomes),
            "probes_failed": probes.failed[:50],
        },
        lines=lines,
        remarks=wrong[:5],
    )


def _range(values: Sequence[int]) -> str:
    return f"{min(values)}, {max(values)}"


def _range_s(values: Sequence[float]) -> str:
    return f"{median(values):.2f}, {max(values):.2f}" if values else "none"
