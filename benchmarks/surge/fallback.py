"""With a fallback, nearly every request gets an answer in time at five times capacity: from some rung."""

from benchmarks.harness.figure import Claim, Result
from benchmarks.surge.bench import Bench
from benchmarks.surge.judge import Capacity
from benchmarks.surge.systems import penstock, running
from benchmarks.surge.trial import Trial

__all__ = ["measure"]

MODEL = "3ms"
TIMES = 5


def measure(bench: Bench) -> Result:
    capacity = bench.capacities.get(MODEL) or _capacity(bench)
    with running(bench, penstock(app="app_fallback.py", name="penstock_fallback"), MODEL, bench.wide) as server:
        surge = Trial(bench, server).surge(capacity, TIMES)
    total = surge.phase.total
    by_model = (total.answered - total.rungs) / surge.phase.seconds / capacity.rps
    return Result(
        name="fallback",
        claims=(Claim(name="fallback_answered_5x", value=total.good_share, at_least=0.999),),
        facts={"model": MODEL, "capacity": vars(capacity), "rungs": total.rungs, "surge": surge.facts()},
        lines=[
            (f"requests at {TIMES}×, answered in time", f"{total.attempts:,}, {total.good_share or 0.0:.4f}"),
            ("of the answers, from the fallback", f"{total.rungs:,}"),
            ("answers of the model itself to its capacity", f"{by_model:.3f}"),
        ],
        remarks=surge.remarks(MODEL),
    )


def _capacity(bench: Bench) -> Capacity:
    """Of the model itself: with a fallback, a closed loop would soon be answered by the constant."""
    with running(bench, penstock(), MODEL, bench.wide) as server:
        return Trial(bench, server).capacity()
