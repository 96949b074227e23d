"""One server under load: its capacity, and what a surge of several times that does to it."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.harness.figure import FigureFailed
from benchmarks.surge.bench import Bench
from benchmarks.surge.generator import Clients, Phase, Seen, SeenPhase
from benchmarks.surge.judge import NORMAL_SHARE, Capacity, best_level, levels_worth_trying, recovered_s
from benchmarks.surge.systems import Running
from benchmarks.surge.usage import Usage

__all__ = ["TOP_CLASS", "Surge", "Trial"]

CALM_SHARE = 0.5
SETTLE_S = 0.5
TOP_CLASS = "CRITICAL_PLUS"


@dataclass(frozen=True, kw_only=True)
class Surge:
    """A surge of `times` capacity. `ratio` is good answers to what was answered at capacity just before and
    just after it, `capacity_rps`; `recovered_s` None: not within `after_s`; `cpu_s` of the server during it.
    """

    times: float
    ratio: float
    capacity_rps: float
    seen: Seen
    recovered_s: float | None
    after_s: float
    cpu_s: float
    growth_mb: float

    @property
    def phase(self) -> SeenPhase:
        return self.seen.phase("surge")

    @property
    def top_share(self) -> float | None:
        """Good answers of the most important class, which alone is below capacity."""
        return self.phase.of(TOP_CLASS).good_share

    @property
    def recovery_s(self) -> float:
        """As a number to hold against a bound: all of the time that was looked at where it was not normal."""
        return self.after_s if self.recovered_s is None else self.recovered_s

    def good_share(self, phase: str) -> float:
        """Of all that was asked in `calm`, just before the surge, or `after`, both at half of the capacity; 1
        where nothing was.
        """
        share = self.seen.phase(phase).total.good_share
        return 1.0 if share is None else share

    def facts(self) -> dict[str, object]:
        total = self.phase.total
        return {
            "ratio": round(self.ratio, 4),
            "capacity_rps": round(self.capacity_rps, 1),
            "offered_rps": round(total.attempts / self.phase.seconds, 1),
            "good_rps": round(self.phase.good_rps, 1),
            "classes": {
                each.name: {
                    "attempts": each.attempts,
                    "good": each.good,
                    "late": each.late,
                    "given_up": each.given_up,
                    "broken": each.broken,
                    "unsent": each.unsent,
                    "statuses": {str(status): count for status, count in each.statuses.items()},
                }
                for each in self.phase.classes
            },
            "answered_p50_ms": total.p50_ms,
            "answered_p99_ms": total.p99_ms,
            "answered_max_ms": total.max_ms,
            "refused_p50_ms": total.refusal_p50_ms,
            "refused_p99_ms": total.refusal_p99_ms,
            "recovered_s": self.recovered_s,
            "calm_good_share": round(self.good_share("calm"), 4),
            "after_good_share": round(self.good_share("after"), 4),
            "server_cpu_s": round(self.cpu_s, 3),
            "growth_mb": round(self.growth_mb, 2),
            "generator": {
                "lag_ms_max": self.phase.lag_ms_max,
                "lag_late": self.phase.lag_late,
                "cpu_s": self.seen.cpu_s,
                "connects": self.seen.connects,
                "connect_failures": self.seen.connect_failures,
            },
        }

    def remarks(self, what: str) -> list[str]:
        """What a reader has to know of how it was measured."""
        at, phase = f"{what} at {self.times:g}×", self.phase
        told: list[str] = []
        if phase.limited:
            late = f"{phase.lag_late} of {phase.total.arrivals} requests went out over 5 ms late"
            told.append(f"{at}: the generator was at its limit: {late}, {phase.lag_ms_max} ms at most")
        if (calm := self.good_share("calm")) < NORMAL_SHARE:
            told.append(
                f"{at}: it was not normal before the surge either: {calm:.3f} good at half of the capacity"
            )
        return told


class Trial:
    """Measures one running server."""

    def __init__(self, bench: Bench, server: Running, *, clients: Clients | None = None) -> None:
        self._bench = bench
        self._server = server
        self.clients = clients or Clients()

    def run(self, phases: Sequence[Phase], clients: Clients | None = None) -> tuple[Seen, Usage]:
        with Usage(self._server.service) as usage:
            seen = self._bench.load.run(self._server.target, clients or self.clients, phases)
        self._server.service.check_alive()
        return seen, usage

    def capacity(self) -> Capacity:
        """The best of the plan's levels of concurrency in a closed loop. Raises `FigureFailed` without any."""
        plan = self._bench.plan
        tried = levels_worth_trying(plan.levels, row_ms=self._server.row_ms, good_ms=self.clients.good_ms)
        phases = [Phase(name=f"level-{level}", seconds=plan.level_s, in_flight=level) for level in tried]
        warm = Phase(name="warm", seconds=SETTLE_S, in_flight=tried[0])
        seen, usage = self.run([warm, *phases])
        levels = seen.phases[1:]
        best = best_level(levels, [usage.cpu_s(phase.start_s, phase.end_s) for phase in levels])
        if best is None:
            raise FigureFailed(f"nothing was answered in time at any of {tried} requests in flight")
        return best

    def surge(self, capacity: Capacity, times: float, *, clients: Clients | None = None) -> Surge:
        """Calm, surge, calm: each with its own random arrivals, one after the other without a break.

        Capacity is taken anew before and after: what a shared machine gives changes by a third within a minute.
        """
        plan = self._bench.plan
        return self.surge_for(capacity, times, plan.surge_s, plan.after_s, clients=clients)

    def surge_for(
        self,
        capacity: Capacity,
        times: float,
        surge_s: float,
        after_s: float,
        *,
        clients: Clients | None = None,
    ) -> Surge:
        calm, check_s = CALM_SHARE * capacity.rps, self._bench.plan.check_s
        phases = [
            Phase(name="before", seconds=check_s, in_flight=capacity.in_flight),
            Phase(name="calm", seconds=self._bench.plan.calm_s, rate=calm),
            Phase(name="surge", seconds=surge_s, rate=times * capacity.rps),
            Phase(name="after", seconds=after_s, rate=calm),
            Phase(name="again", seconds=check_s, in_flight=capacity.in_flight),
        ]
        seen, usage = self.run(phases, clients)
        surge = seen.phase("surge")
        capacity_rps = (seen.phase("before").good_rps + seen.phase("again").good_rps) / 2
        return Surge(
            times=times,
            ratio=surge.good_rps / (capacity_rps or capacity.rps),
            capacity_rps=capacity_rps,
            seen=seen,
            recovered_s=recovered_s(seen, surge.end_s, seen.phase("after").end_s),
            after_s=after_s,
            cpu_s=usage.cpu_s(surge.start_s, surge.end_s),
            growth_mb=usage.growth_bytes(surge.start_s, surge.end_s) / 2**20,
        )
