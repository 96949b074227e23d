"""Goodput at ten times capacity with the server on one core, held against what its refusals leave of that core.

What an answer costs is taken at capacity. What a refusal costs is taken where everything is refused and nothing
runs: requests come that bring a deadline, while the model sleeps in a run. Both are processor time of all the
server's processes, in user and kernel, over what they answered.
"""

import contextlib
import json
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

from benchmarks.harness.figure import Claim, Result
from benchmarks.surge.app_asleep import ASLEEP
from benchmarks.surge.bench import Bench
from benchmarks.surge.generator import Clients, Phase, SeenPhase
from benchmarks.surge.judge import Capacity, bound, refusal_cost_us
from benchmarks.surge.systems import Running, penstock, running, subject
from benchmarks.surge.trial import Surge, Trial

__all__ = ["measure"]

TIMES = 10
REFUSED_RATE = 10_000
REFUSED_TIMEOUT_MS = 1.0
REFUSED_MODEL = "3ms"
SETTLE_S = 0.5
ASLEEP_MARGIN_S = 2.0
FEATURES = 30


@dataclass(frozen=True, kw_only=True)
class Refusals:
    """A load of which nothing can be answered in time. `cost_us` is None where not all of it was refused."""

    phase: SeenPhase
    cost_us: float | None


def measure(bench: Bench) -> Result:
    refusals = _refusals(bench)
    measured = {model: _measure(bench, model) for model in bench.plan.one_core_models}
    shares = {model: _share(capacity, surge, refusals.cost_us) for model, (capacity, surge) in measured.items()}
    known = [share for share in shares.values() if share is not None]
    return Result(
        name="one_core",
        claims=(
            Claim(name="one_core_10x_of_bound", value=min(known, default=None), at_least=0.95),
            Claim(name="refusal_us", value=refusals.cost_us, at_most=35),
        ),
        facts={
            "refusals": {
                "cost_us": refusals.cost_us,
                "rate": refusals.phase.rate,
                "timeout_ms": REFUSED_TIMEOUT_MS,
                "statuses": {str(code): count for code, count in refusals.phase.total.statuses.items()},
                "p99_ms": refusals.phase.total.refusal_p99_ms,
            },
            "models": {
                model: {
                    "capacity": vars(capacity),
                    "bound": _bound(capacity, refusals.cost_us),
                    "share_of_bound": shares[model],
                    "surge": surge.facts(),
                }
                for model, (capacity, surge) in measured.items()
            },
        },
        lines=[
            ("processor time of a refusal", _us(refusals.cost_us)),
            *(_line(model, *pair, refusals.cost_us) for model, pair in measured.items()),
        ],
        remarks=[remark for model, (_, surge) in measured.items() for remark in surge.remarks(model)]
        + ([] if refusals.cost_us is not None else [f"not all was refused: {refusals.phase.total.statuses}"]),
    )


def _refusals(bench: Bench) -> Refusals:
    clients = Clients(timeout_header_ms=REFUSED_TIMEOUT_MS)
    phases = [
        Phase(name="settle", seconds=SETTLE_S, rate=REFUSED_RATE),
        Phase(name="refused", seconds=bench.plan.refusals_s, rate=REFUSED_RATE),
    ]
    seconds = SETTLE_S + bench.plan.refusals_s + ASLEEP_MARGIN_S
    with running(bench, penstock(app="app_asleep.py"), REFUSED_MODEL, bench.one) as server:
        sleeping = threading.Thread(target=_put_to_sleep, args=(server, seconds))
        sleeping.start()
        time.sleep(SETTLE_S)
        seen, usage = Trial(bench, server).run(phases, clients)
        sleeping.join(seconds)
    refused = seen.phase("refused")
    cpu_s = usage.cpu_s(refused.start_s, refused.end_s)
    return Refusals(phase=refused, cost_us=refusal_cost_us(refused, cpu_s))


def _put_to_sleep(server: Running, seconds: float) -> None:
    """Its answer comes too late for what it was promised, and is no matter."""
    row = [ASLEEP, seconds + SETTLE_S, *([0.0] * (FEATURES - 2))]
    tensor = {"name": "x", "shape": [1, FEATURES], "datatype": "FP32", "data": row}
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.target.port}{server.target.path}", json.dumps({"inputs": [tensor]}).encode()
    )
    with contextlib.suppress(urllib.error.URLError, TimeoutError):
        urllib.request.urlopen(request, timeout=seconds + ASLEEP_MARGIN_S).close()


def _measure(bench: Bench, model: str) -> tuple[Capacity, Surge]:
    with running(bench, subject(bench, model), model, bench.one) as server:
        trial = Trial(bench, server)
        capacity = trial.capacity()
        surge = trial.surge(capacity, TIMES)
    bench.say(f"{model} on one core: {capacity.rps:,.0f}/s, at {TIMES}× {surge.ratio:.3f} of it")
    return capacity, surge


def _bound(capacity: Capacity, refusal_us: float | None) -> float | None:
    if refusal_us is None:
        return None
    return bound(TIMES, refusal_us=refusal_us, answer_us=capacity.answer_us)


def _share(capacity: Capacity, surge: Surge, refusal_us: float | None) -> float | None:
    most = _bound(capacity, refusal_us)
    return surge.ratio / most if most else None


def _us(value: float | None) -> str:
    return "not measured" if value is None else f"{value:,.1f} µs"


def _line(model: str, capacity: Capacity, surge: Surge, refusal_us: float | None) -> tuple[str, str]:
    most = _bound(capacity, refusal_us)
    return (
        f"{model}: capacity, cost of an answer, goodput at {TIMES}×, its bound",
        ", ".join(
            (
                f"{capacity.rps:,.0f}/s",
                f"{capacity.answer_us:,.0f} µs",
                f"{surge.ratio:.3f}",
                "unknown" if most is None else f"{most:.3f}",
            )
        ),
    )
