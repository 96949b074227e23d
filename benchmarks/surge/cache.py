"""What a hit of the prediction cache costs against an answer of the cheapest model without a cache.

Processor time of all the server's processes over the answers that they gave, in a closed loop. 64 different
rows are asked over and over, so that with a cache all but the first 64 are hits.
"""

from dataclasses import dataclass

from benchmarks.harness.figure import Claim, FigureFailed, Result
from benchmarks.harness.report import median, ratio
from benchmarks.serving.systems import System
from benchmarks.surge.bench import Bench
from benchmarks.surge.generator import Clients, Phase
from benchmarks.surge.systems import penstock, running
from benchmarks.surge.trial import Trial

__all__ = ["measure"]

CLAIMED = "0.3ms"
IN_FLIGHT = 16
SETTLE_S = 0.5
ANSWERED_SHARE_MIN = 0.99


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Processor time of an answer without and with a cache, in microseconds."""

    uncached_us: float
    hit_us: float


def measure(bench: Bench) -> Result:
    plain, cached = penstock(), penstock(app="app_cache.py", name="penstock_cache")
    pairs = {
        model: [
            Pair(uncached_us=_answer_us(bench, plain, model), hit_us=_answer_us(bench, cached, model))
            for _ in range(bench.plan.pairs)
        ]
        for model in bench.plan.cache_models
    }
    uncached = {model: median(pair.uncached_us for pair in each) for model, each in pairs.items()}
    hits = {model: median(pair.hit_us for pair in each) for model, each in pairs.items()}
    return Result(
        name="cache",
        claims=(Claim(name="cache_hit_cost", value=ratio(hits[CLAIMED], uncached[CLAIMED]), at_most=0.5),),
        facts={model: [vars(pair) for pair in each] for model, each in pairs.items()},
        lines=[
            (f"{model}: uncached answer, hit", f"{uncached[model]:,.1f} µs, {hits[model]:,.1f} µs")
            for model in bench.plan.cache_models
        ],
    )


def _answer_us(bench: Bench, system: System, model: str) -> float:
    clients = Clients(connections=IN_FLIGHT, timeout_header_ms=None, classes=())
    phases = [
        Phase(name="settle", seconds=SETTLE_S, in_flight=IN_FLIGHT),
        Phase(name="asked", seconds=bench.plan.pair_s, in_flight=IN_FLIGHT),
    ]
    with running(bench, system, model, bench.one) as server:
        seen, usage = Trial(bench, server).run(phases, clients)
    asked = seen.phase("asked")
    if asked.total.answered < ANSWERED_SHARE_MIN * asked.total.attempts:
        raise FigureFailed(f"{system.name} with {model}: too little was answered: {asked.total.statuses}")
    return usage.cpu_s(asked.start_s, asked.end_s) / asked.total.answered * 1e6
