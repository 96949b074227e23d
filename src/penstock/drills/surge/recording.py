"""What came of the requests, counted by the window of time that each was meant for. Mergeable."""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from penstock.drills.surge.quantiles import BUCKETS, Counts, buckets_of

__all__ = ["Finished", "Outcome", "Recording", "windows_for"]

LABELS_MAX = 32
"""Reasons and rungs told apart; further ones count together."""
WINDOW_S = 0.1
WINDOWS_MAX = 2000


class Outcome(IntEnum):
    """How a request ended. Only the first is what was wanted."""

    GOOD = 0
    """Answered 200 within the objective, from the intended time."""
    LATE = 1
    """Answered 200, after the objective."""
    SHED = 2
    """Refused: 503 or 429."""
    EXPIRED = 3
    """The server says that the deadline has passed: 504."""
    FAILED = 4
    """Another status, or what is no HTTP."""
    TIMEOUT = 5
    """The client has waited as long as it does, and left."""
    UNSENT = 6
    """No connection was free for as long as the objective."""
    BROKEN = 7
    """The connection broke off, or the server took none."""


class Finished(NamedTuple):
    """One request that ended. Plain numbers: there are tens of thousands a second."""

    intended_s: float
    latency_s: float
    """From the intended time to the whole answer."""
    lateness_s: float
    """From the intended time until the generator had it in hand: its own fault."""
    kind: int
    outcome: int
    label: int
    """Of `Recording.label`: the reason of a refusal, the rung of an answer, the status of a failure."""
    attempt: int


def windows_for(duration_s: float) -> tuple[int, float]:
    """How many windows of how many seconds: a tenth of a second, unless there would be too many."""
    width_s = max(WINDOW_S, duration_s / WINDOWS_MAX)
    return max(int(np.ceil(duration_s / width_s - 1e-9)), 1), width_s


class Recording:
    """Counts by window, kind, outcome and label, and latencies in buckets. Its size is fixed."""

    def __init__(self, *, duration_s: float, kinds: int) -> None:
        self.windows, self.width_s = windows_for(duration_s)
        self.labels: list[str] = [""]
        self.counts: Counts = np.zeros((self.windows, kinds, len(Outcome)), dtype=np.int64)
        self.retries: Counts = np.zeros(self.windows, dtype=np.int64)
        """Of those counted, the ones that are not a client's first."""
        self.by_label: Counts = np.zeros((self.windows, LABELS_MAX, len(Outcome)), dtype=np.int64)
        self.latency: Counts = np.zeros((self.windows, BUCKETS), dtype=np.int64)
        """Of answers with 200; so are the next two."""
        self.latency_by_kind: Counts = np.zeros((kinds, BUCKETS), dtype=np.int64)
        self.latency_by_label: Counts = np.zeros((LABELS_MAX, BUCKETS), dtype=np.int64)
        self.lateness: Counts = np.zeros(BUCKETS, dtype=np.int64)
        self.lateness_s_max = 0.0

    def label(self, name: str) -> int:
        """The number of a label, made when it is new."""
        if name in self.labels:
            return self.labels.index(name)
        if len(self.labels) == LABELS_MAX - 1:
            self.labels.append("other")
        if len(self.labels) == LABELS_MAX:
            return LABELS_MAX - 1
        self.labels.append(name)
        return len(self.labels) - 1

    def add(self, finished: Sequence[Finished]) -> None:
        """Counts each of them once. What was meant for later than the end counts in the last window."""
        if not finished:
            return
        rows = np.array(finished, dtype=np.float64)
        window = np.clip((rows[:, 0] / self.width_s).astype(np.int64), 0, self.windows - 1)
        kind, outcome, label, attempt = (rows[:, column].astype(np.int64) for column in (3, 4, 5, 6))
        np.add.at(self.counts, (window, kind, outcome), 1)
        np.add.at(self.by_label, (window, label, outcome), 1)
        np.add.at(self.retries, window[attempt > 0], 1)
        np.add.at(self.lateness, buckets_of(rows[:, 2]), 1)
        self.lateness_s_max = max(self.lateness_s_max, float(rows[:, 2].max()))
        answered = outcome <= Outcome.LATE
        bucket = buckets_of(rows[answered, 1])
        np.add.at(self.latency, (window[answered], bucket), 1)
        np.add.at(self.latency_by_kind, (kind[answered], bucket), 1)
        np.add.at(self.latency_by_label, (label[answered], bucket), 1)

    def merge(self, other: "Recording") -> None:
        """Adds what another one of the same form has counted."""
        assert self.counts.shape == other.counts.shape, "recordings of different drills"
        for name in ("counts", "retries", "latency", "latency_by_kind", "lateness"):
            own: Counts = getattr(self, name)
            own += getattr(other, name)
        for index, label in enumerate(other.labels):
            mine = self.label(label)
            self.by_label[:, mine] += other.by_label[:, index]
            self.latency_by_label[mine] += other.latency_by_label[index]
        self.lateness_s_max = max(self.lateness_s_max, other.lateness_s_max)
