"""From what the generator saw to figures: pure functions, so that they can be tested."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.surge.generator import Seen, SeenPhase, Window

__all__ = [
    "NORMAL_SHARE",
    "Capacity",
    "best_level",
    "bound",
    "good_share_from",
    "levels_worth_trying",
    "recovered_s",
    "refusal_cost_us",
]

NORMAL_SHARE = 0.99
NORMAL_WINDOWS = 5
REFUSED_SHARE_MIN = 0.99


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """The best of several levels of concurrency: good answers a second, processor time of each, latency."""

    rps: float
    in_flight: int
    answer_us: float
    p50_ms: float
    p99_ms: float


def levels_worth_trying(levels: Sequence[int], *, row_ms: float, good_ms: float) -> list[int]:
    """Those at which the last of all in flight could still be answered in time, and the lowest in any case."""
    return [level for level in levels if level == min(levels) or level * row_ms <= good_ms]


def best_level(phases: Sequence[SeenPhase], cpu_s: Sequence[float]) -> Capacity | None:
    """The closed-loop phase with the most good answers, `cpu_s` being what each took; None without any."""
    phase, used_s = max(zip(phases, cpu_s, strict=True), key=lambda pair: pair[0].good_rps)
    if not phase.total.good:
        return None
    return Capacity(
        rps=phase.good_rps,
        in_flight=phase.in_flight,
        answer_us=used_s / phase.total.answered * 1e6,
        p50_ms=phase.total.p50_ms,
        p99_ms=phase.total.p99_ms,
    )


def recovered_s(seen: Seen, from_s: float, to_s: float = math.inf) -> float | None:
    """Seconds from `from_s` until things were normal: the start of the first window of 100 ms from which five
    in a row, and all the rest until `to_s` taken together, have 99 % good. None where that never came.

    Windows without requests are neither normal nor not: they are passed over.
    """
    first = max(0, round((from_s - seen.start_s) / seen.window_s))
    last = len(seen.windows) if to_s == math.inf else round((to_s - seen.start_s) / seen.window_s)
    windows = seen.windows[first:last]
    for place in range(len(windows) - NORMAL_WINDOWS + 1):
        soon, rest = windows[place : place + NORMAL_WINDOWS], windows[place:]
        if all(_normal([window]) for window in soon) and _normal(rest):
            return place * seen.window_s
    return None


def good_share_from(seen: Seen, from_s: float) -> float | None:
    """Good of all that was due from then on, in whole windows; None where nothing was."""
    windows = seen.windows[max(0, round((from_s - seen.start_s) / seen.window_s)) :]
    attempts = sum(window.attempts for window in windows)
    return sum(window.good for window in windows) / attempts if attempts else None


def _normal(windows: Sequence[Window]) -> bool:
    good, attempts = sum(w.good for w in windows), sum(w.attempts for w in windows)
    # One request of a thinly filled window is not a sign: it takes two to say that something is wrong.
    return attempts - good <= max(1, round((1 - NORMAL_SHARE) * attempts))


def bound(times: float, *, refusal_us: float, answer_us: float) -> float:
    """The share of capacity that can be left at `times` capacity on one core: what the refusals of all the
    rest leave of the core's time, 1 - (times - 1)·(refusal / answer), and not below 0.
    """
    return max(0.0, 1 - (times - 1) * refusal_us / answer_us)


def refusal_cost_us(phase: SeenPhase, cpu_s: float) -> float | None:
    """Processor time of a refusal, from a phase in which nearly all was refused; None where it was not."""
    refused = phase.total.refused
    if phase.total.answered or not refused or refused < REFUSED_SHARE_MIN * phase.total.attempts:
        return None
    return cpu_s * 1e6 / refused
