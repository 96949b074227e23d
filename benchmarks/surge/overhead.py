"""What overload control costs where there is no overload: the same server with it and without, in turns."""

from dataclasses import dataclass

from benchmarks.harness.figure import Claim, FigureFailed, Result
from benchmarks.harness.load import Load
from benchmarks.harness.report import median, ratio
from benchmarks.surge.bench import CHEAP, Bench
from benchmarks.surge.systems import penstock, running

__all__ = ["measure"]

CONNECTIONS = 64
WARMUP_S = 0.3
SINGLE_SHARE = 0.5
OFF = ("admission.enabled=false",)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One start: at full load, and with a single connection."""

    many: Load
    single: Load


def measure(bench: Bench) -> Result:
    """Each pair begins with the other one, so that neither always comes second."""
    on: list[Run] = []
    off: list[Run] = []
    for number in range(bench.plan.pairs):
        for switched_off in (bool(number % 2), not number % 2):
            (off if switched_off else on).append(_run(bench, OFF if switched_off else ()))
    rps = {name: median(run.many.rps for run in runs) for name, runs in (("on", on), ("off", off))}
    p50_us = {name: median(run.single.p50_us for run in runs) for name, runs in (("on", on), ("off", off))}
    added_us = median(a.single.p50_us - b.single.p50_us for a, b in zip(on, off, strict=True))
    return Result(
        name="overhead",
        claims=(
            Claim(name="overhead_throughput", value=ratio(rps["on"], rps["off"]), at_least=0.9),
            Claim(name="overhead_p50_us", value=added_us, at_most=50),
        ),
        facts={
            name: [
                {"rps": run.many.rps, "p50_us": run.single.p50_us, "p99_us": run.single.p99_us} for run in runs
            ]
            for name, runs in (("on", on), ("off", off))
        },
        lines=[
            (f"{CONNECTIONS} connections: requests/s with, without", f"{rps['on']:,.0f}, {rps['off']:,.0f}"),
            ("1 connection: p50 with, without", f"{p50_us['on']:,.0f} µs, {p50_us['off']:,.0f} µs"),
        ],
    )


def _run(bench: Bench, settings: tuple[str, ...]) -> Run:
    name = "penstock_off" if settings else "penstock"
    with running(bench, penstock(settings=settings, name=name), CHEAP, bench.one) as server:
        single = bench.closed_load.run(
            server.target, connections=1, seconds=bench.plan.pair_s * SINGLE_SHARE, warmup_s=WARMUP_S
        )
        many = bench.closed_load.run(
            server.target, connections=CONNECTIONS, seconds=bench.plan.pair_s, warmup_s=WARMUP_S
        )
    if single.failed or many.failed:
        raise FigureFailed(f"not all was answered with 200: {single.failures}, {many.failures}")
    return Run(many=many, single=single)
