"""A flash crowd whose clients ask again at once when they are refused: once it is gone, is all as before?

The retries keep the load up by themselves, which is how servers stay stuck long after what started it
(metastable failure: Bronson and others, HotOS 2021). They are bounded: a client gives up after three.
"""

from benchmarks.harness.figure import Claim, Result
from benchmarks.surge.bench import Bench
from benchmarks.surge.generator import Clients
from benchmarks.surge.judge import good_share_from
from benchmarks.surge.systems import penstock, running
from benchmarks.surge.trial import Trial

__all__ = ["measure"]

MODEL = "3ms"
TIMES = 5
RETRIES = 3
LATER_S = 1.0


def measure(bench: Bench) -> Result:
    plan = bench.plan
    with running(bench, penstock(), MODEL, bench.wide) as server:
        trial = Trial(bench, server, clients=Clients(retries=RETRIES))
        capacity = bench.capacities.get(MODEL) or trial.capacity()
        crowd = trial.surge_for(capacity, TIMES, plan.crowd_s, plan.crowd_after_s)
    total, later_s = crowd.phase.total, crowd.phase.end_s + LATER_S
    later = good_share_from(crowd.seen, later_s)
    back = crowd.recovered_s
    return Result(
        name="crowd",
        claims=(
            Claim(name="crowd_recovery_s", value=crowd.recovery_s, at_most=1.0),
            Claim(name="crowd_growth_mb", value=crowd.growth_mb, at_most=20),
        ),
        facts={
            "model": MODEL,
            "seconds": plan.crowd_s,
            "retries_max": RETRIES,
            "capacity": vars(capacity),
            "retries": total.retries,
            "later_good_share": later,
            "surge": crowd.facts(),
        },
        lines=[
            (
                f"crowd of {TIMES}× for {plan.crowd_s:g} s: arrivals, retries",
                f"{total.arrivals:,}, {total.retries:,}",
            ),
            ("good answers to capacity during it", f"{crowd.ratio:.3f}"),
            ("normal again after", "not seen" if back is None else f"{back:.1f} s"),
            ("good of all that was asked after a second", f"{later or 0.0:.4f}"),
        ],
        remarks=crowd.remarks(MODEL),
    )
