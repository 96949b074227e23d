"""From what the systems gave to figures: pure functions, so that they can be tested."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.harness.figure import Claim
from benchmarks.harness.report import median, ratio

__all__ = ["Trial", "agrees", "pipeline_claims", "rate", "slowest"]

MEAN_TOLERANCE = 1e-9
PROBABILITY_TOLERANCE = 1e-5


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run of a system: how long it took for how many events."""

    events: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.events / self.seconds


def agrees(seen: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether two checksums are of the same results. Counts and worst delays have to be equal; means differ by
    the order of additions at most, probabilities by the single precision of the model.
    """
    same = seen["rows"] == wanted["rows"] and seen["exact"] == wanted["exact"]
    return (
        same
        and math.isclose(seen["mean"], wanted["mean"], rel_tol=MEAN_TOLERANCE)
        and math.isclose(seen["probability"], wanted["probability"], rel_tol=PROBABILITY_TOLERANCE)
    )


def rate(trials: Sequence[Trial]) -> float | None:
    """Events a second: the median of the runs, None without any."""
    return median(trial.rate for trial in trials)


def slowest(rates: Iterable[float | None]) -> float | None:
    """None where one of them was not measured: the slowest is not known then."""
    seen = list(rates)
    return None if not seen or None in seen else min(value for value in seen if value is not None)


def best(rates: Iterable[float | None]) -> float | None:
    return max((value for value in rates if value is not None), default=None)


BOUNDS = {
    "plain_loop": (("plain_loop",), 1.2),
    "tuned_loop": (("tuned_loop",), 1.0),
    "bytewax_custom": (("bytewax_custom",), 1.5),
    "bytewax_tuned": (("bytewax_tuned",), 1.0),
    "bytewax_window": (("bytewax_window",), 15.0),
    "pyflink": (("flink_state", "flink_window"), 15.0),
    "pathway": (("pathway_window",), 40.0),
    "polars_history": (("polars_history",), 1.0),
}
"""Claims of sparse windows: of which systems the fastest is compared, and the least ratio wanted."""
DENSE_BOUNDS = {
    "plain_loop_dense": (("plain_loop",), 3.0),
    "tuned_loop_dense": (("tuned_loop",), 1.0),
    "bytewax_custom_dense": (("bytewax_custom",), 3.0),
    "bytewax_tuned_dense": (("bytewax_tuned",), 1.0),
}


def pipeline_claims(
    rates: Mapping[str, float | None], *, ours: Sequence[str], dense: bool
) -> tuple[Claim, ...]:
    """From the rates of all systems by name. Of ours the slowest is held against the fastest of theirs."""
    least = slowest(rates.get(name) for name in ours)
    claims = [
        Claim(name=name, value=ratio(least, best(rates.get(peer) for peer in peers)), at_least=bound)
        for name, (peers, bound) in (DENSE_BOUNDS if dense else BOUNDS).items()
    ]
    if dense:
        return tuple(claims)
    shares = {name: ratio(rates.get(name), rates.get(name.replace("penstock", "floor"))) for name in ours}
    floors = [
        Claim(name=name.replace("penstock", "floor"), value=share, at_least=0.65)
        for name, share in shares.items()
    ]
    return (Claim(name="floor", value=slowest(shares.values()), at_least=0.65), *floors, *claims)
