"""Rolling SIGTERM restarts of two instances behind HAProxy, under load: no request may fail."""

import signal
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.figure import Claim, FigureFailed, Result
from benchmarks.harness.load import Load, Pace
from benchmarks.harness.penstock import Server
from benchmarks.harness.processes import free_ports
from benchmarks.harness.report import median
from benchmarks.protocols.bodies import late_target
from benchmarks.protocols.figure import Bench
from benchmarks.protocols.haproxy import CONFIGURATION, NOTICE_S, Haproxy, haproxy
from benchmarks.protocols.prober import Prober, Probes
from benchmarks.protocols.server import Start, serving

__all__ = ["measure"]

CONNECTIONS = 32
# Longer than HAProxy takes to notice, with time for answers that are late. The first is the server's default.
GRACE_S, GRACE_QUICK_S = 2.0, 1.0
END_S_MAX = 30.0
RESTARTS, RESTARTS_QUICK = 20, 2
RESTART_S_MAX = 60.0


@dataclass(frozen=True, kw_only=True)
class Restart:
    """Seconds from SIGTERM to its end, and from then until HAProxy sends to it again; its exit status."""

    name: str
    status: int
    ended_s: float
    up_s: float


def measure(bench: Bench) -> Result:
    restarts, grace_s = (RESTARTS_QUICK, GRACE_QUICK_S) if bench.quick else (RESTARTS, GRACE_S)
    assert grace_s > 2 * NOTICE_S, "the grace is longer than HAProxy takes to notice"
    ports = dict(zip("ab", free_ports(2), strict=True))
    with ExitStack() as held:
        lives = {name: held.enter_context(ExitStack()) for name in ports}
        servers = {name: _start(bench, lives[name], name, ports[name], 0) for name in ports}
        scratch = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="bench-haproxy-")))
        log = bench.folder / "log" / "protocols-haproxy.log"
        try:
            proxy = held.enter_context(
                haproxy(ports, folder=scratch, log=log, cores=frozenset({bench.cores.load}))
            )
        except LookupError as error:
            raise FigureFailed(str(error)) from error
        for name in ports:
            proxy.wait_until(name, "UP")
        target = late_target(bench, proxy.port, binary=False)
        seconds_max = restarts * RESTART_S_MAX
        with (
            Prober(proxy.port) as prober,
            bench.load.start(
                target,
                Pace(connections=CONNECTIONS),
                seconds_max=seconds_max,
                record=bench.scratch("rolling") / "record.json",
            ) as load,
        ):
            time.sleep(0.5)
            done = []
            for number in range(restarts):
                name = "ab"[number % 2]
                load.check_running()
                done.append(_restart(bench, lives[name], servers, name, proxy, number + 1))
                bench.say(
                    f"restart {number + 1}/{restarts} of {name}: ended after {done[-1].ended_s:.2f} s, "
                    f"up after {done[-1].up_s:.2f} s more"
                )
            time.sleep(0.5)
            seen, probes = load.finish(), prober.finish()
        counts = proxy.counts()
    return _result(done, seen, probes, counts, grace_s)


def _start(bench: Bench, life: ExitStack, name: str, port: int, number: int) -> Server:
    grace_s = GRACE_QUICK_S if bench.quick else GRACE_S
    start = Start(app="late", port=port, settings=(f"server.grace_s={grace_s}",))
    return life.enter_context(serving(bench, f"rolling-{name}-{number}", start))


def _restart(
    bench: Bench, life: ExitStack, servers: dict[str, Server], name: str, proxy: Haproxy, number: int
) -> Restart:
    begun_s = time.monotonic()
    port = servers[name].port
    status = servers[name].service.end(signal.SIGTERM, seconds_max=END_S_MAX)
    ended_s = time.monotonic()
    life.close()
    servers[name] = _start(bench, life, name, port, number)
    proxy.wait_until(name, "UP")
    return Restart(name=name, status=status, ended_s=ended_s - begun_s, up_s=time.monotonic() - ended_s)


def _result(
    done: Sequence[Restart], seen: Load, probes: Probes, counts: dict[str, int], grace_s: float
) -> Result:
    bad_probes = probes.failures
    unclean = sum(each.status != 0 for each in done)
    return Result(
        name="rolling",
        claims=(
            Claim(name="rolling_failed", value=seen.failed + seen.early, at_most=0),
            Claim(name="rolling_probes_failed", value=bad_probes, at_most=0),
            Claim(name="rolling_unclean_exits", value=unclean, at_most=0),
        ),
        facts={
            "restarts": len(done),
            "answered": seen.answered,
            "failures": seen.failures,
            "p99_us": seen.p99_us,
            "max_us": seen.max_us,
            "grace_s": grace_s,
            "ended_s": [round(each.ended_s, 3) for each in done],
            "up_s": [round(each.up_s, 3) for each in done],
            "haproxy": counts,
            "haproxy_configuration": CONFIGURATION,
            "probes": dict(probes.outcomes),
        },
        lines=[
            ("restarts", f"{len(done)}"),
            ("requests answered, failed", f"{seen.answered:,}, {seen.failed + seen.early:,}"),
            ("requests/s", f"{seen.rps:,.0f}"),
            ("p99, longest", f"{seen.p99_us / 1000:.1f} ms, {seen.max_us / 1000:.0f} ms"),
            ("SIGTERM to its end, median", f"{median(each.ended_s for each in done):.2f} s"),
            ("its end to being sent to again, median", f"{median(each.up_s for each in done):.2f} s"),
            ("HAProxy: tries anew, on the other server", f"{counts['wretr']}, {counts['wredis']}"),
            (
                "probes on fresh connections, not answered with 200",
                f"{probes.outcomes.total():,}, {bad_probes}",
            ),
        ],
    )
