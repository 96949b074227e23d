"""A surge drill from end to end: look at the server, measure its capacity if asked, run the load, report."""

import math
import re
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import Any

import msgspec

from penstock.core.clock import SystemClock
from penstock.core.errors import InvalidInput, PenstockError, shown
from penstock.core.rng import seeded
from penstock.drills.surge.fleet import Fleet, FleetResult, Progress
from penstock.drills.surge.limits import GeneratorFigures
from penstock.drills.surge.mix import Kind
from penstock.drills.surge.plan import Body, Load, Plan, Target, request_heads, request_tails
from penstock.drills.surge.quantiles import quantile_s
from penstock.drills.surge.recording import Outcome
from penstock.drills.surge.report import Measured, Report, make_report
from penstock.drills.surge.retrying import RetryModel
from penstock.drills.surge.shapes import Shape, make_shape, shape_of_bins
from penstock.drills.surge.target import body_of_file, make_bodies, model_inputs, parse_target, try_body
from penstock.drills.surge.thresholds import parse_threshold
from penstock.drills.surge.traces import read_trace

__all__ = ["Asked", "parse_rate", "run_drill"]

CAPACITY_CONCURRENCY = 64
CAPACITY_S = 4.0
CAPACITY_WARM_SHARE = 0.25
CAPACITY_TIMEOUT_S = 10.0
_RATE = re.compile(r"([0-9.]+(?:e[0-9]+)?)(x?)")


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the user wants, as it stands in the report. No key is in it."""

    url: str
    model: str
    version: str | None = None
    shape: str = "spike"
    trace: str | None = None
    trace_part: tuple[float, float] = (0.0, 1.0)
    base: str = "0.5x"
    """Requests a second, or with an x multiples of the capacity."""
    peak: str = "2x"
    capacity: str = "auto"
    """Requests a second; `auto` measures it, where anything needs it."""
    duration_s: float = 30.0
    requests_max: int = 10_000_000
    objective_ms: float = 100.0
    deadline_ms: float | None = None
    """Sent with each request; None is the objective."""
    timeout_ms: float = 1000.0
    retries: int = 0
    retry_delay_ms: float = 0.0
    body: str | None = None
    rows: int = 1
    bodies: int = 64
    """Different ones that are drawn. A model's cache soon knows all of them."""
    binary: bool = False
    processes: int = 1
    connections: int = 1000
    seed: int = 1
    require: tuple[str, ...] = ()
    allow_remote: bool = False
    allow_limited: bool = False

    def __post_init__(self) -> None:
        bounds = {
            "processes": (1, 64),
            "connections": (1, 60_000),
            "rows": (1, 100_000),
            "bodies": (1, 100_000),
        }
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise InvalidInput(f"--{name} {getattr(self, name)} is not between {low} and {high:,}")
        if self.connections < self.processes:
            raise InvalidInput(f"--connections {self.connections} are fewer than --processes {self.processes}")
        if self.seed < 0:
            raise InvalidInput(f"--seed {self.seed} is below 0", where="--seed", hint="any number from 0 on")
        if not 1 <= self.requests_max <= 100_000_000:
            raise InvalidInput(f"--max-requests {self.requests_max} is not between 1 and 100,000,000")
        if self.deadline_ms is not None and not 1 <= self.deadline_ms <= 86_400_000:
            raise InvalidInput(f"--deadline-ms {self.deadline_ms:g} is not between 1 and 86,400,000")


def run_drill(
    asked: Asked,
    mix: tuple[Kind, ...],
    *,
    watch: Callable[[Progress], None],
    say: Callable[[str], None],
    release: str = "",
) -> Report:
    """`release` is the version of Penstock, for the report.

    Raises `PenstockError` for what cannot be asked or measured; then there is no report.
    """
    known = tuple(dict.fromkeys(name for kind in mix for name in (kind.criticality, kind.tenant) if name))
    thresholds = tuple(parse_threshold(each, known) for each in asked.require)
    base, peak = parse_rate(asked.base, "--base"), parse_rate(asked.peak, "--peak")
    # With any rates, so that a shape that cannot be is told before anything is measured.
    bins = None if asked.trace is None else read_trace(Path(asked.trace), part=asked.trace_part)
    uses_base = bins is None and asked.shape != "constant"
    load = _load(asked, _shape(asked, bins, 1.0, 2.0), mix)
    plan = _plan(asked, load)
    capacity_per_s = _capacity(asked, plan, needed=peak[1] or (base[1] and uses_base), say=say)
    scale = capacity_per_s or 1.0
    rates = [value * (scale if relative else 1.0) for value, relative in (base, peak)]
    shape = _shape(asked, bins, rates[0], rates[1])
    plan = msgspec.structs.replace(plan, load=msgspec.structs.replace(plan.load, shape=shape))
    say(f"offering up to {shape.peak_per_s:,.0f} requests/s for {shape.duration_s:g} s")
    started = SystemClock().now().astimezone(UTC).isoformat(timespec="seconds")
    result = Fleet(plan).run(watch)
    return make_report(
        _measured(plan, result, capacity_per_s),
        thresholds,
        _told(asked, mix),
        about=(release, started),
        allow_limited=asked.allow_limited,
    )


def parse_rate(text: str, option: str) -> tuple[float, bool]:
    """`500` is requests a second, `2x` twice the capacity (True). Raises `InvalidInput`."""
    match = _RATE.fullmatch(text.strip())
    try:
        if match is not None:
            return float(match[1]), match[2] == "x"
    except ValueError:
        pass
    raise InvalidInput(f"{option} {shown(text)} is no rate", where=option, hint="e.g. 500 (a second), or 2x")


def _load(asked: Asked, shape: Shape, mix: tuple[Kind, ...]) -> Load:
    return Load(
        shape=shape,
        mix=mix,
        retry=RetryModel(retries_max=asked.retries, delay_s=asked.retry_delay_ms / 1e3),
        seed=asked.seed,
        requests_max=asked.requests_max,
        objective_s=asked.objective_ms / 1e3,
        timeout_s=asked.timeout_ms / 1e3,
    )


def _shape(asked: Asked, bins: tuple[float, ...] | None, base_per_s: float, peak_per_s: float) -> Shape:
    if bins is not None:
        name = Path(asked.trace or "").name
        return shape_of_bins(name, bins, peak_per_s=peak_per_s, duration_s=asked.duration_s)
    return make_shape(asked.shape, base_per_s=base_per_s, peak_per_s=peak_per_s, duration_s=asked.duration_s)


def _bodies(asked: Asked, target: Target) -> tuple[Body, ...]:
    if asked.body is not None:
        return (body_of_file(Path(asked.body)),)
    inputs = model_inputs(target)
    return make_bodies(inputs, seeded(asked.seed), count=asked.bodies, rows=asked.rows, binary=asked.binary)


def _plan(asked: Asked, load: Load) -> Plan:
    """Looks at the server, and asks it once."""
    target = parse_target(asked.url, asked.model, version=asked.version, allow_remote=asked.allow_remote)
    bodies = _bodies(asked, target)
    first = load.mix[0]
    try_body(target, bodies[0], first.api_key if first.tenant else "")
    target = msgspec.structs.replace(target, path=f"{target.path}/infer")
    deadline_s = (asked.deadline_ms or asked.objective_ms) / 1e3
    return Plan(
        target=target,
        load=load,
        heads=request_heads(target, load.mix, deadline_s=deadline_s, attempts=asked.retries + 1),
        tails=request_tails(bodies),
        processes=asked.processes,
        connections=asked.connections,
    )


def _capacity(asked: Asked, plan: Plan, *, needed: bool, say: Callable[[str], None]) -> float | None:
    """As told, or answers a second while a fixed number of requests is always in flight."""
    if asked.capacity != "auto":
        capacity_per_s, relative = parse_rate(asked.capacity, "--capacity")
        if relative or capacity_per_s <= 0:
            raise InvalidInput(f"--capacity {shown(asked.capacity)} is neither auto nor requests a second")
        return capacity_per_s
    if not needed:
        return None
    load = Load(
        shape=make_shape("constant", base_per_s=0, peak_per_s=1, duration_s=CAPACITY_S),
        mix=plan.load.mix[:1],
        objective_s=CAPACITY_TIMEOUT_S,
        timeout_s=CAPACITY_TIMEOUT_S,
    )
    say(f"measuring the capacity for {CAPACITY_S:g} s, {CAPACITY_CONCURRENCY} requests always in flight")
    each = -(-CAPACITY_CONCURRENCY // plan.processes)
    heads = request_heads(plan.target, load.mix, deadline_s=CAPACITY_TIMEOUT_S, attempts=1)
    result = Fleet(
        msgspec.structs.replace(
            plan, load=load, heads=heads, closed_loop=each, connections=each * plan.processes
        )
    ).run(lambda _: None)
    if result.stopped:
        raise PenstockError("ended while the capacity was measured: there is nothing to report")
    counts = result.recording.counts.sum(axis=1)
    warm = int(len(counts) * CAPACITY_WARM_SHARE)
    answered = int(counts[warm:, : Outcome.SHED].sum())
    if answered == 0:
        raise PenstockError(
            "the server answered nothing while its capacity was measured",
            hint="its refusals may be a quota's; say what it can do with --capacity NUMBER",
        )
    capacity_per_s = answered / ((len(counts) - warm) * result.recording.width_s)
    say(f"capacity: {capacity_per_s:,.0f} requests/s")
    return capacity_per_s


def _measured(plan: Plan, result: FleetResult, capacity_per_s: float | None) -> Measured:
    recording = result.recording
    offered = int(recording.counts.sum())
    lateness_ms = [1e3 * (quantile_s(recording.lateness, share) or 0.0) for share in (0.5, 0.99)]
    return Measured(
        recording=recording,
        shape=plan.load.shape,
        mix=plan.load.mix,
        generator=GeneratorFigures(
            processes=plan.processes,
            connections=plan.connections,
            lateness_p50_ms=lateness_ms[0],
            lateness_p99_ms=lateness_ms[1],
            lateness_max_ms=1e3 * recording.lateness_s_max,
            processor_share=max(result.processor_shares),
            loop_lag_max_ms=1e3 * max(use.loop_lag_s_max for use in result.use),
            unsent_share=float(recording.counts[:, :, Outcome.UNSENT].sum()) / max(offered, 1),
            connections_needed=math.ceil(plan.load.shape.peak_per_s * plan.load.objective_s),
            reconnects=sum(use.reconnects for use in result.use),
            connections_failed=result.connections_failed,
        ),
        capacity_per_s=capacity_per_s,
        run_s=max(use.run_s for use in result.use),
        gave_up=sum(use.gave_up for use in result.use),
        stopped=result.stopped,
        cut=result.cut,
    )


def _told(asked: Asked, mix: tuple[Kind, ...]) -> dict[str, Any]:
    """What was asked, with the mix and without its keys."""
    told: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(asked))
    told["mix"] = [{"class": kind.criticality, "tenant": kind.tenant, "weight": kind.weight} for kind in mix]
    return told
