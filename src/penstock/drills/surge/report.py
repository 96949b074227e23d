"""The report: one value, whose names are stable, as JSON and for the page. Version `penstock.drill.surge/1`.

Shares lie between 0 and 1; what could not be measured is null.
"""

import math
from typing import Any

import msgspec

from penstock.drills.surge.figures import QUANTILES, Figures, share
from penstock.drills.surge.limits import UNSENT_SHARE, GeneratorFigures, limits_met
from penstock.drills.surge.mix import Kind
from penstock.drills.surge.quantiles import Counts, quantile_ms
from penstock.drills.surge.recording import Outcome, Recording
from penstock.drills.surge.shapes import Shape
from penstock.drills.surge.thresholds import METRICS, Held, Judged, Threshold, exit_code
from penstock.drills.surge.timeline import Timeline, make_timeline

__all__ = ["Counted", "Measured", "Report", "make_report"]

SCHEMA = "penstock.drill.surge/1"


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """Requests, by how they ended; and the latencies of those that were answered 200."""

    name: str
    offered: int
    good: int
    late: int
    shed: int
    expired: int
    failed: int
    timeout: int
    unsent: int
    broken: int
    good_share: float | None
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    p999_ms: float | None


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What the drill had, besides its recording."""

    recording: Recording
    shape: Shape
    mix: tuple[Kind, ...]
    generator: GeneratorFigures
    capacity_per_s: float | None
    run_s: float
    gave_up: int
    stopped: bool
    cut: bool


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `verdict` is `held`, `not held`, `not measured` or `nothing required`."""

    schema: str
    penstock: str
    started: str
    """When, in UTC."""
    asked: dict[str, Any]
    verdict: str
    exit_code: int
    notes: list[str]
    limits: list[str]
    """Why the generator, and not the server, may be what was measured; empty is the good case."""
    thresholds: list[Judged]
    capacity_per_s: float | None
    run_s: float
    goodput: float | None
    recovery_s: float | None
    recovered: bool | None
    """Null where nothing could be seen of it; false with a `recovery_s` of null is "never"."""
    surge_start_s: float | None
    surge_end_s: float | None
    retries: int
    clients_given_up: int
    generator: GeneratorFigures
    total: Counted
    by_class: list[Counted]
    by_tenant: list[Counted]
    by_rung: list[Counted]
    shed_by_reason: dict[str, int]
    failed_by_reason: dict[str, int]
    timeline: Timeline


def make_report(
    measured: Measured,
    thresholds: tuple[Threshold, ...],
    asked: dict[str, Any],
    *,
    about: tuple[str, str],
    allow_limited: bool,
) -> Report:
    """`about` is the version of Penstock and the date."""
    figures = _figures(measured)
    limits = limits_met(measured.generator)
    judged = tuple(_judge(each, figures) for each in thresholds)
    # A part of a surge is no evidence of what would have come of the whole.
    trusted = (allow_limited or not limits) and (_whole(measured) or not judged)
    code = exit_code(judged, trusted=trusted)
    recovery_s = figures.metric("recovery_s")
    recording = measured.recording
    return Report(
        schema=SCHEMA,
        penstock=about[0],
        started=about[1],
        asked=asked,
        verdict=_verdict(code, judged),
        exit_code=code,
        notes=_notes(measured),
        limits=list(limits),
        thresholds=list(judged),
        capacity_per_s=measured.capacity_per_s,
        run_s=measured.run_s,
        goodput=figures.metric("goodput"),
        recovery_s=_finite(recovery_s),
        recovered=None if recovery_s is None else math.isfinite(recovery_s),
        surge_start_s=measured.shape.surge_start_s,
        surge_end_s=measured.shape.surge_end_s,
        retries=int(recording.retries.sum()),
        clients_given_up=measured.gave_up,
        generator=measured.generator,
        total=_counted_kinds("all", figures.kinds(""), recording),
        by_class=_each(figures, recording, [kind.criticality for kind in measured.mix]),
        by_tenant=_each(figures, recording, [kind.tenant for kind in measured.mix if kind.tenant]),
        by_rung=_by_rung(recording),
        shed_by_reason=_by_reason(recording, Outcome.SHED),
        failed_by_reason=_by_reason(recording, Outcome.FAILED),
        timeline=make_timeline(recording, measured.shape, measured.run_s),
    )


def _figures(measured: Measured) -> Figures:
    return Figures(
        measured.recording,
        measured.mix,
        measured.shape,
        capacity_per_s=measured.capacity_per_s,
        run_s=measured.run_s,
    )


def _whole(measured: Measured) -> bool:
    end_s = measured.shape.surge_end_s
    return not measured.stopped and (end_s is None or measured.run_s >= end_s)


def _judge(threshold: Threshold, figures: Figures) -> Judged:
    measured = figures.metric(threshold.metric, threshold.of)
    return Judged(
        text=threshold.text,
        meaning=METRICS[threshold.metric],
        measured=_finite(measured),
        outcome=threshold.judge(measured),
    )


def _verdict(code: int, judged: tuple[Judged, ...]) -> str:
    if code == 2:
        return str(Held.NOT_MEASURED)
    if not judged:
        return "nothing required"
    return str(Held.HELD if code == 0 else Held.NOT_HELD)


def _notes(measured: Measured) -> list[str]:
    notes = []
    if measured.stopped:
        notes.append(f"It was ended early, after {measured.run_s:.1f} s of {measured.shape.duration_s:.1f} s.")
    if measured.cut:
        notes.append("The limit on requests (--max-requests) cut the load off before its end.")
    if not _whole(measured):
        notes.append("It did not see the whole surge: there is no verdict on what was required.")
    if measured.capacity_per_s is None:
        notes.append("The capacity was not measured: goodput is compared with all that was offered.")
    used = measured.generator
    if used.unsent_share > UNSENT_SHARE and used.connections >= used.connections_needed:
        notes.append(
            f"{used.unsent_share:.1%} of the requests found no free connection: the server held all "
            f"{used.connections:,} for longer than the objective. They count as failed."
        )
    return notes


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _each(figures: Figures, recording: Recording, names: list[str]) -> list[Counted]:
    return [_counted_kinds(name, figures.kinds(name), recording) for name in dict.fromkeys(names)]


def _counted_kinds(name: str, kinds: list[int], recording: Recording) -> Counted:
    counts = recording.counts[:, kinds].sum(axis=(0, 1))
    return _counted(name, counts, recording.latency_by_kind[kinds].sum(axis=0))


def _by_rung(recording: Recording) -> list[Counted]:
    """Answers alone: a refusal comes from no rung."""
    found = []
    for index, label in enumerate(recording.labels):
        counts = recording.by_label[:, index].sum(axis=0)
        counts[Outcome.SHED :] = 0
        if counts.any():
            found.append(_counted(label or "the model", counts, recording.latency_by_label[index]))
    return found


def _by_reason(recording: Recording, outcome: Outcome) -> dict[str, int]:
    totals = recording.by_label[:, :, outcome].sum(axis=0)
    return {
        label or "unknown": int(totals[index]) for index, label in enumerate(recording.labels) if totals[index]
    }


def _counted(name: str, counts: Counts, latency: Counts) -> Counted:
    return Counted(
        name=name,
        offered=int(counts.sum()),
        good=int(counts[Outcome.GOOD]),
        late=int(counts[Outcome.LATE]),
        shed=int(counts[Outcome.SHED]),
        expired=int(counts[Outcome.EXPIRED]),
        failed=int(counts[Outcome.FAILED]),
        timeout=int(counts[Outcome.TIMEOUT]),
        unsent=int(counts[Outcome.UNSENT]),
        broken=int(counts[Outcome.BROKEN]),
        good_share=share(counts, "good"),
        p50_ms=quantile_ms(latency, QUANTILES["p50_ms"]),
        p90_ms=quantile_ms(latency, QUANTILES["p90_ms"]),
        p99_ms=quantile_ms(latency, QUANTILES["p99_ms"]),
        p999_ms=quantile_ms(latency, QUANTILES["p999_ms"]),
    )
