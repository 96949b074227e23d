"""The load generator's record of a run: answers in windows of 10 ms, and every failure by itself."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Failure", "Record", "read_record", "recovered_s"]

SPAN_S = 0.1
NEAR_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A request that failed: when it did, when it was begun and when its connection was opened, in monotonic
    seconds; how (reset, closed, refused, status, mixed), its status, and its connection's port on the client.
    """

    at_s: float
    begun_s: float
    opened_s: float
    kind: str
    status: int
    port: int


@dataclass(frozen=True, kw_only=True)
class Record:
    """`good` are answers with 200 in each window since `start_s`; `slowest_us` the slowest of each."""

    start_s: float
    window_s: float
    good: Sequence[int]
    slowest_us: Sequence[int]
    failures: Sequence[Failure]

    def rps(self, from_s: float, to_s: float) -> float:
        """Good answers a second between two times, in whole windows."""
        first, last = self._place(from_s), self._place(to_s)
        return sum(self.good[first:last]) / ((last - first) * self.window_s) if last > first else 0.0

    def silence_s(self, from_s: float, to_s: float) -> float:
        """The longest time within which nothing was answered well, in whole windows."""
        longest = run = 0
        for count in self.good[self._place(from_s) : self._place(to_s)]:
            run = 0 if count else run + 1
            longest = max(longest, run)
        return longest * self.window_s

    def failures_between(self, from_s: float, to_s: float) -> list[Failure]:
        return [failure for failure in self.failures if from_s <= failure.at_s < to_s]

    def _place(self, at_s: float) -> int:
        return min(max(round((at_s - self.start_s) / self.window_s), 0), len(self.good))


def read_record(file: Path) -> Record:
    seen = json.loads(file.read_text())
    names = ("at_s", "begun_s", "opened_s", "kind", "status", "port")
    return Record(
        start_s=seen["start_s"],
        window_s=seen["window_s"],
        good=[window[0] for window in seen["windows"]],
        slowest_us=[window[3] for window in seen["windows"]],
        failures=[Failure(**dict(zip(names, failure, strict=True))) for failure in seen["failures"]],
    )


def recovered_s(record: Record, *, broken_s: float, until_s: float, wanted_rps: float) -> float | None:
    """Seconds from `broken_s` until throughput is at `wanted_rps` again; None where it was not by `until_s`.

    Looked at in windows of 100 ms, each begun 10 ms after the one before. It is back at the first after which
    the median of all windows within half a second, and that of all until the end, is what is wanted: single
    windows fall short on any machine, before as well as after.
    """
    starts = int((until_s - broken_s - SPAN_S) / record.window_s + 0.5)
    rps = [
        record.rps(begun_s, begun_s + SPAN_S)
        for begun_s in (broken_s + number * record.window_s for number in range(starts))
    ]
    near = int(NEAR_S / record.window_s)
    for place in range(len(rps) - near):
        soon, rest = rps[place : place + near], rps[place:]
        if rps[place] >= wanted_rps and statistics.median(soon) >= wanted_rps <= statistics.median(rest):
            return place * record.window_s
    return None
