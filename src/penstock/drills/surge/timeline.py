"""A recording over time: rates and latencies, step by step and smooth."""

import math
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from penstock.drills.surge.figures import summed
from penstock.drills.surge.quantiles import Counts, quantile_ms
from penstock.drills.surge.recording import Outcome, Recording
from penstock.drills.surge.shapes import Shape
from penstock.drills.surge.smoothing import means, smooth_spans

__all__ = ["Lines", "Smooth", "Timeline", "make_timeline"]

POINTS_MAX = 300


class Lines(msgspec.Struct, frozen=True, kw_only=True):
    """Rates a second and latencies, by steps of time; a request stands where it was meant to be sent."""

    offered_per_s: list[float]
    retries_per_s: list[float]
    """The part of the offered that are retries."""
    admitted_per_s: list[float]
    """Answered 200, in time or not."""
    good_per_s: list[float]
    shed_per_s: dict[str, list[float]]
    failed_per_s: list[float]
    p50_ms: list[float | None]
    p90_ms: list[float | None]
    p99_ms: list[float | None]


class Smooth(Lines, frozen=True, kw_only=True):
    """The same steps, each taken together with its neighbours, for `over_s` in all: for eyes, not for sums."""

    over_s: float


class Timeline(Lines, frozen=True, kw_only=True):
    """Each step by itself."""

    step_s: float
    smooth: Smooth


def make_timeline(recording: Recording, shape: Shape, run_s: float) -> Timeline:
    """Of the `run_s` seconds that there were of the shape, in steps of which there are 300 at most."""
    used = min(max(math.ceil(run_s / recording.width_s - 1e-9), 1), recording.windows)
    step = math.ceil(used / POINTS_MAX)
    step_s = step * recording.width_s
    rates, shed = _rates(recording, used, step), _shed(recording, used, step)
    latency = np.add.reduceat(recording.latency[:used], np.arange(0, used, step), axis=0)
    offered = rates["offered_per_s"]
    edges_s = [at_s for at_s in (shape.surge_start_s, shape.surge_end_s) if at_s is not None]
    spans = smooth_spans(len(offered), step_s, sum(offered) / len(offered), edges_s)
    smooth: dict[str, Any] = {name: means(values, spans) for name, values in rates.items()}
    smooth |= _latencies([latency[span].sum(axis=0) for span in spans])
    smooth["shed_per_s"] = {reason: means(values, spans) for reason, values in shed.items()}
    over_s = step_s * max(span.stop - span.start for span in spans)
    lines: dict[str, Any] = rates | _latencies(latency) | {"shed_per_s": shed}
    return Timeline(step_s=step_s, smooth=Smooth(over_s=over_s, **smooth), **lines)


def _rates(recording: Recording, used: int, step: int) -> dict[str, Any]:
    counts = recording.counts.sum(axis=1)[:used]
    found = {
        "offered_per_s": counts.sum(axis=1),
        "retries_per_s": recording.retries[:used],
        "admitted_per_s": counts[:, : Outcome.SHED].sum(axis=1),
        "good_per_s": counts[:, Outcome.GOOD],
        "failed_per_s": counts[:, Outcome.EXPIRED :].sum(axis=1),
    }
    return {name: _per_s(values, step, recording.width_s) for name, values in found.items()}


def _shed(recording: Recording, used: int, step: int) -> dict[str, list[float]]:
    shed = recording.by_label[:, :, Outcome.SHED]
    return {
        label or "unknown": _per_s(shed[:used, index], step, recording.width_s)
        for index, label in enumerate(recording.labels)
        if shed[:, index].any()
    }


def _per_s(values: Counts, step: int, width_s: float) -> list[float]:
    return [float(value) / (step * width_s) for value in summed(values, step)]


def _latencies(latency: Iterable[Counts]) -> dict[str, Any]:
    shares = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99}
    return {name: [quantile_ms(each, share) for each in latency] for name, share in shares.items()}
