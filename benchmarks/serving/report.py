"""From samples to figures, ratios and tables."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from rich.console import Console
from rich.table import Table

from benchmarks.harness.report import median, ratio
from benchmarks.serving.measure import Footprint, Sample
from benchmarks.serving.systems import Kind, System

__all__ = ["Figures", "Results", "markdown", "print_tables", "ratios", "summary"]

COLUMNS = (
    "system",
    "requests/s",
    "p50 ms",
    "p99 ms",
    "p50 ms, 1 conn.",
    "p99 ms, 1 conn.",
    "start s",
    "MB",
    "Penstock is",
)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Medians over the rounds of one system: at 64 connections, and at 1."""

    rps_64: float
    p50_us_64: float
    p99_us_64: float
    rps_1: float
    p50_us_1: float
    p99_us_1: float
    start_s: float
    resident_mb: float
    rounds: int

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> "Figures":
        assert samples, "figures of nothing"

        def middle(values: Sequence[float]) -> float:
            return median(values) or 0.0

        return cls(
            rps_64=middle([sample.many.rps for sample in samples]),
            p50_us_64=middle([sample.many.p50_us for sample in samples]),
            p99_us_64=middle([sample.many.p99_us for sample in samples]),
            rps_1=middle([sample.single.rps for sample in samples]),
            p50_us_1=middle([sample.single.p50_us for sample in samples]),
            p99_us_1=middle([sample.single.p99_us for sample in samples]),
            start_s=middle([sample.start_s for sample in samples]),
            resident_mb=middle([sample.resident_mb for sample in samples]),
            rounds=len(samples),
        )


@dataclass(kw_only=True)
class Results:
    """What a run has gathered; a system stands in `failures` as soon as one round of it failed."""

    systems: tuple[System, ...]
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    direct_rows_per_s: list[float] = field(default_factory=list)
    footprint: Footprint | None = None
    versions: dict[str, dict[str, str]] = field(default_factory=dict)

    def figures(self) -> dict[str, Figures]:
        """Figures of the systems that did not fail, in order."""
        return {
            system.name: Figures.of(self.samples[system.name])
            for system in self.systems
            if self.samples.get(system.name) and system.name not in self.failures
        }

    def peers(self) -> list[str]:
        return [system.name for system in self.systems if system.kind is Kind.PEER]


def ratios(
    figures: Mapping[str, Figures], *, peers: Sequence[str], direct: float | None, footprint: Footprint | None
) -> dict[str, float | None]:
    """Penstock over the others; None where one side was not measured.

    `best_peer` is over the peer with the most requests a second, `p50_vs_best_peer` over the one with the
    lowest median latency at one connection (below 1: Penstock is faster), `idle_p99` the p99 among 5,000
    open connections over that of 64 alone.
    """
    ours = figures.get("penstock")
    rps = ours.rps_64 if ours else None
    measured = [figures[name] for name in peers if name in figures]

    def over(name: str) -> float | None:
        return ratio(rps, figures[name].rps_64) if name in figures else None

    binary = figures.get("penstock_binary")
    return {
        "echo_limit": over("granian_echo"),
        "http_limit": over("uvloop_echo"),
        "onnx_direct": ratio(rps, direct),
        "fastapi_sklearn": over("fastapi_sklearn"),
        "best_peer": ratio(rps, max((peer.rps_64 for peer in measured), default=None)),
        "binary_vs_json": ratio(binary.rps_64 if binary else None, rps),
        "p50_vs_best_peer": ratio(
            ours.p50_us_1 if ours else None, min((peer.p50_us_1 for peer in measured), default=None)
        ),
        "idle_p99": ratio(footprint.p99_5000_us, footprint.p99_64_us) if footprint else None,
    }


def summary(results: Results) -> tuple[dict[str, float | None], dict[str, object]]:
    """`ratios` and `figures` of the JSON report."""
    figures = results.figures()
    direct = median(results.direct_rows_per_s)
    numbers = ratios(figures, peers=results.peers(), direct=direct, footprint=results.footprint)
    return numbers, {
        "systems": {name: asdict(value) for name, value in figures.items()},
        "onnx_direct_rows_per_s": direct,
        "footprint": asdict(results.footprint) if results.footprint else None,
        "versions": results.versions,
        "failures": results.failures,
    }


def _rows(results: Results) -> list[tuple[str, ...]]:
    """The cells of the main table, fastest first within each kind."""
    figures = results.figures()
    ours = figures.get("penstock")
    order = {Kind.SUBJECT: 0, Kind.LIMIT: 1, Kind.PEER: 2}
    systems = [system for system in results.systems if system.name in figures]
    systems.sort(key=lambda system: (order[system.kind], -figures[system.name].rps_64))
    rows = []
    for system in systems:
        seen = figures[system.name]
        times = ratio(ours.rps_64, seen.rps_64) if ours else None
        latencies = (seen.p50_us_64, seen.p99_us_64, seen.p50_us_1, seen.p99_us_1)
        rows.append(
            (
                system.title,
                f"{seen.rps_64:,.0f}",
                *(f"{value / 1000:.2f}" for value in latencies),
                f"{seen.start_s:.1f}",
                f"{seen.resident_mb:.0f}",
                _times(times),
            )
        )
    direct = median(results.direct_rows_per_s)
    if direct is not None:
        times = ratio(ours.rps_64, direct) if ours else None
        blank = ("",) * (len(COLUMNS) - 3)
        rows.append(("limit: ONNX Runtime, batches of 64", f"{direct:,.0f}", *blank, _times(times)))
    return rows


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} times"


def _ratio_rows(results: Results) -> list[tuple[str, str]]:
    numbers, _ = summary(results)
    return [(name, "not measured" if value is None else f"{value:.2f}") for name, value in numbers.items()]


def _footprint_rows(seen: Footprint) -> list[tuple[str, str]]:
    return [
        ("start to first good answer", f"{seen.start_s:.2f} s"),
        ("resident memory of the worker", f"{seen.worker_mb:.0f} MB"),
        ("resident memory of all its processes", f"{seen.tree_mb:.0f} MB"),
        (f"growth of the worker over {seen.growth_answers:,} answers", f"{seen.growth_mb:+.1f} MB"),
        ("`import penstock`", f"{seen.import_s:.2f} s"),
        ("`penstock --help`", f"{seen.help_s:.2f} s"),
        ("p99 of 64 connections alone", f"{seen.p99_64_us / 1000:.2f} ms"),
        (f"p99 of 64 among {seen.idle + 64:,}", f"{seen.p99_5000_us / 1000:.2f} ms"),
        ("idle connections served in the end", f"{seen.idle_served:,} of {seen.idle:,}"),
        ("requests of the active ones that failed", f"{seen.idle_failed:,}"),
    ]


def _version_rows(results: Results) -> list[tuple[str, str]]:
    titles = {system.name: system.title for system in results.systems}
    return [
        (titles.get(name, name), ", ".join(f"{package} {version}" for package, version in versions.items()))
        for name, versions in results.versions.items()
    ]


def _sections(results: Results) -> list[tuple[tuple[str, ...], Sequence[tuple[str, ...]]]]:
    sections: list[tuple[tuple[str, ...], Sequence[tuple[str, ...]]]] = [
        (COLUMNS, _rows(results)),
        (("ratio", "value"), _ratio_rows(results)),
    ]
    if results.footprint is not None:
        sections.append((("Penstock itself", "measured"), _footprint_rows(results.footprint)))
    sections.append((("system", "versions"), _version_rows(results)))
    return sections


def print_tables(results: Results, console: Console) -> None:
    for header, rows in _sections(results):
        table = Table(*header)
        for row in rows:
            table.add_row(*row)
        for column in table.columns[1:]:
            column.justify = "left" if header[-1] == "versions" else "right"
        console.print(table)


def markdown(results: Results, *, on: Mapping[str, object], command: str) -> str:
    """The same tables as Markdown, under the command and the machine that they were taken with."""
    parts = [f"`{command}` on {on['processor']}, {on['system']}, Python {on['python']}."]
    for header, rows in _sections(results):
        right = " | ".join("---" if header[-1] == "versions" else "---:" for _ in header[1:])
        lines = [f"| {' | '.join(header)} |", f"| --- | {right} |"]
        parts.append("\n".join(lines + [f"| {' | '.join(row)} |" for row in rows]))
    parts += [f"Failed: {name}: {why.splitlines()[0]}" for name, why in results.failures.items()]
    return "\n\n".join(parts) + "\n"
