"""Figures of a recording: shares, quantiles, goodput and the time to recover, of all or of some."""

import math

import numpy as np

from penstock.drills.surge.mix import Kind
from penstock.drills.surge.quantiles import Counts, quantile_s
from penstock.drills.surge.recording import Outcome, Recording
from penstock.drills.surge.shapes import Shape

__all__ = ["QUANTILES", "Figures", "share", "summed"]

GOODPUT_SPAN_S = 1.0
"""Goodput compares with the capacity over so long a time: in shorter ones chance decides what is offered."""
RECOVERED_SHARE = 0.99
RECOVERED_WINDOWS = 5
QUANTILES = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "p999_ms": 0.999}


class Figures:
    """Reads a recording. `capacity_per_s` is what the server can answer, where that is known."""

    def __init__(
        self,
        recording: Recording,
        mix: tuple[Kind, ...],
        shape: Shape,
        *,
        capacity_per_s: float | None,
        run_s: float,
    ) -> None:
        """`run_s` is how much of the shape there was; less than all of it where somebody ended it early."""
        self._recording = recording
        self._mix = mix
        self._shape = shape
        self._capacity_per_s = capacity_per_s
        self._windows = min(round(run_s / recording.width_s), recording.windows)

    def metric(self, name: str, of: str = "") -> float | None:
        """One of `thresholds.METRICS`; None where nothing was there to measure, infinity for "never"."""
        if name == "goodput":
            return self._goodput()
        if name == "recovery_s":
            return self._recovery_s()
        kinds = self.kinds(of)
        if name in QUANTILES:
            found = quantile_s(self._recording.latency_by_kind[kinds].sum(axis=0), QUANTILES[name])
            return None if found is None else found * 1e3
        counts = self._recording.counts[:, kinds].sum(axis=(0, 1))
        return share(counts, name)

    def kinds(self, of: str) -> list[int]:
        """The numbers of those of a class or a tenant; of all for an empty name."""
        return [
            number for number, kind in enumerate(self._mix) if of in ("", kind.criticality) or kind.tenant == of
        ]

    def _goodput(self) -> float | None:
        recording = self._recording
        step = max(round(GOODPUT_SPAN_S / recording.width_s), 1)
        offered = summed(recording.counts.sum(axis=(1, 2)), step)
        good = float(recording.counts[:, :, Outcome.GOOD].sum())
        spans_s = np.full(len(offered), step * recording.width_s)
        spans_s[-1] = self._shape.duration_s - spans_s[:-1].sum()
        most = spans_s * (math.inf if self._capacity_per_s is None else self._capacity_per_s)
        possible = float(np.minimum(offered, most).sum())
        return good / possible if possible > 0 else None

    def _recovery_s(self) -> float | None:
        end_s = self._shape.surge_end_s
        if end_s is None:
            return None
        recording = self._recording
        first = math.ceil(end_s / recording.width_s - 1e-9)
        offered = recording.counts.sum(axis=(1, 2))[first : self._windows]
        good = recording.counts[:, :, Outcome.GOOD].sum(axis=1)[first : self._windows]
        # A window in which nobody asked says nothing, for or against.
        asked = np.flatnonzero(offered)
        if len(asked) < RECOVERED_WINDOWS:
            return None
        in_a_row = 0
        for place, index in enumerate(asked):
            in_a_row = in_a_row + 1 if good[index] >= RECOVERED_SHARE * offered[index] else 0
            if in_a_row == RECOVERED_WINDOWS:
                begun = first + int(asked[place + 1 - RECOVERED_WINDOWS])
                return max(begun * recording.width_s - end_s, 0.0)
        return math.inf


def share(counts: Counts, name: str) -> float | None:
    """`good`, `answered`, `shed` or `failed`, of what was offered; `counts` are by `Outcome`."""
    offered = int(counts.sum())
    if offered == 0:
        return None
    good, late, shed = (int(counts[outcome]) for outcome in (Outcome.GOOD, Outcome.LATE, Outcome.SHED))
    part = {"good": good, "answered": good + late, "shed": shed, "failed": offered - good - late - shed}[name]
    return part / offered


def summed(values: Counts, step: int) -> Counts:
    """Sums of `step` values in a row; the last may be of fewer."""
    return np.add.reduceat(values, np.arange(0, len(values), step))
