"""The load generator's record of a run: answers in windows of 10 ms, and every failure by itself."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Failure", "Record", "read_record", "recovered_s"]


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
    """Seconds from `broken_s` until throughput has been at `wanted_rps` for good, looked at every 10 ms in
    spans of 100 ms; None where it was not by `until_s`.

    "For good" is until the end of the time looked at, but for a tenth of the spans: single spans fall short on
    any machine, before as well as after.
    """
    span_s, step_s = 0.1, record.window_s
    starts = [broken_s + step * step_s for step in range(int((until_s - broken_s - span_s) / step_s))]
    full = [record.rps(start_s, start_s + span_s) >= wanted_rps for start_s in starts]
    for place, start_s in enumerate(starts):
        rest = full[place:]
        if full[place] and sum(rest) >= 0.9 * len(rest):
            return start_s - broken_s
    return None
