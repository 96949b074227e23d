"""The report as one page that stands alone: for someone who did not run the drill."""

from collections.abc import Sequence
from html import escape
from typing import Any

from penstock.drills.surge.chart import Series, line_chart
from penstock.drills.surge.report import Counted, Report
from penstock.drills.surge.timeline import Timeline

__all__ = ["render_page"]

_STYLE = """
:root{color-scheme:light dark;--back:#fff;--text:#1b1f24;--soft:#667080;--rule:#dfe3e8;--offered:#8a94a3;
--admitted:#2f6fde;--good:#14833b;--failed:#c62828;--shed0:#e08600;--shed1:#b05bd6;--shed2:#00899b;--shed3:#8a6d3b}
@media(prefers-color-scheme:dark){:root{--back:#14171c;--text:#e6e9ee;--soft:#9aa4b2;--rule:#2c323b;
--offered:#8f9aab;--admitted:#6ea2ff;--good:#4cc779;--failed:#ff6b6b;--shed0:#ffb347;--shed1:#cf8cf0;
--shed2:#4fd0e0;--shed3:#cdb07a}}
body{background:var(--back);color:var(--text);font:15px/1.5 system-ui,sans-serif;max-width:960px;
margin:2rem auto;padding:0 1rem}h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.1rem;margin-top:2rem}
small,.soft{color:var(--soft)}.verdict{display:inline-block;padding:.2rem .7rem;border-radius:.4rem;
border:2px solid currentColor;font-weight:600}.is-held{color:var(--good)}.is-not-held{color:var(--failed)}
.is-not-measured{color:var(--shed0)}.warning{border-left:4px solid var(--shed0);padding:.4rem .8rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .7rem;border-bottom:1px solid var(--rule);text-align:right;white-space:nowrap}
th:first-child,td:first-child,th.words{text-align:left}td.words{text-align:left;white-space:normal}
figure{margin:1.5rem 0}svg{width:100%;min-width:640px;height:auto}.grid{stroke:var(--rule);fill:none}
.axis{fill:var(--soft);font:11px system-ui,sans-serif}.mark{stroke:var(--soft);stroke-dasharray:4 4}
.bound{stroke:var(--failed);stroke-dasharray:6 4}.line,.raw{fill:none;stroke-width:2}
.raw{stroke-width:1;opacity:.4}
.legend span{display:inline-block;margin-right:1.2rem;font-size:.85rem}
.legend i{display:inline-block;width:1.1rem;height:.25rem;
margin-right:.4rem;vertical-align:middle}
"""
_COLOURS = ("offered", "admitted", "good", "failed", "shed0", "shed1", "shed2", "shed3")
_SENTENCES = {
    "held": "All that was required held.",
    "not held": "At least one requirement did not hold.",
    "not measured": "No verdict: something that a verdict needs could not be measured, or not be trusted.",
    "nothing required": "Nothing was required of this drill, so there is no verdict; the figures stand below.",
}


def render_page(report: Report) -> str:
    """HTML with inline style and pictures; it fetches nothing. Words from outside are escaped."""
    asked = report.asked
    colours = "".join(
        f".{name}{{stroke:var(--{name})}}i.{name}{{background:var(--{name})}}" for name in _COLOURS
    )
    title = f"Surge drill of {asked['model']}"
    about = f"{report.started} · {asked['url']} · Penstock {report.penstock}"
    verdict = f'<span class="verdict is-{report.verdict.replace(" ", "-")}">{escape(report.verdict)}</span>'
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(about)}</p>',
        f"<p>{verdict} {_SENTENCES[report.verdict]}</p>",
        _doubts(report),
        f"<p>{_summary(report)}</p>",
        _thresholds(report),
        *_charts(report),
        *_tables(report),
        _generator(report),
        "<h2>What was asked</h2>",
        _table(("option", "value"), [(key, _plain(value)) for key, value in asked.items() if key != "mix"]),
        _table(
            ("class", "tenant", "weight"), [(k["class"], k["tenant"] or "–", k["weight"]) for k in asked["mix"]]
        ),
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}: {escape(report.verdict)}</title><style>{_STYLE}{colours}</style>"
    )
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>\n'


def _doubts(report: Report) -> str:
    told = [f"The generator, not the server, may have been the limit: {each}." for each in report.limits]
    return "".join(f'<p class="warning">{escape(each)}</p>' for each in told + report.notes)


def _summary(report: Report) -> str:
    total, asked = report.total, report.asked
    capacity = ""
    if report.capacity_per_s is not None:
        told = "was measured as" if asked["capacity"] == "auto" else "was given as"
        capacity = f" The server's capacity {told} {report.capacity_per_s:,.0f} requests a second."
    goodput = (
        ""
        if report.goodput is None
        else (f" Of what the server could have answered, it answered {report.goodput:.1%} well (goodput).")
    )
    recovery = {
        True: f" After the surge it was back to normal within {report.recovery_s or 0:.1f} s.",
        False: " After the surge it did not come back to normal.",
        None: "",
    }[report.recovered]
    retries = ""
    if report.retries:
        retries = (
            f" {report.retries:,} of the requests were retries; {report.clients_given_up:,} clients "
            "gave up in the end."
        )
    return escape(
        f"In {report.run_s:.0f} s {total.offered:,} requests were offered. {total.good:,} "
        f"({total.good_share or 0:.1%}) were answered within {asked['objective_ms']:g} ms of the moment "
        f"they were meant to be sent: these are the good ones. {total.late:,} were answered later, "
        f"{total.shed:,} were refused (shed), {_failed(total):,} failed otherwise."
        f"{capacity}{goodput}{recovery}{retries}"
    )


def _thresholds(report: Report) -> str:
    if not report.thresholds:
        return ""
    rows = [(each.text, _number(each.measured), str(each.outcome), each.meaning) for each in report.thresholds]
    return "<h2>What was required</h2>" + _table(("requirement", "measured", "outcome", "it means"), rows)


def _charts(report: Report) -> list[str]:
    line, step_s = report.timeline, report.timeline.step_s
    moments = ((report.surge_start_s, "surge begins"), (report.surge_end_s, "surge ends"))
    marks = [(at_s, words) for at_s, words in moments if at_s is not None and at_s <= report.run_s]
    per_s = "requests a second, by when they were meant to be sent"
    dashed = "" if report.capacity_per_s is None else "; dashed: the capacity"
    load = line_chart(
        "Offered, admitted, good",
        _load(line),
        step_s=step_s,
        unit=per_s + dashed,
        marks=marks,
        line_at=report.capacity_per_s,
    )
    refused = line_chart("Refused and failed", _refused(report), step_s=step_s, unit=per_s, marks=marks)
    objective_ms = float(report.asked["objective_ms"])
    latency = line_chart(
        "Latency of the answers",
        _latency(line),
        step_s=step_s,
        unit=f"milliseconds from the intended time; dashed: the objective of {objective_ms:g} ms",
        marks=marks,
        line_at=objective_ms,
    )
    return ["<h2>Over time</h2>", _how_drawn(line), load, refused, latency]


def _how_drawn(line: Timeline) -> str:
    if line.smooth.over_s <= line.step_s:
        return f'<p class="soft">A point for each {line.step_s:.3g} s.</p>'
    return (
        f'<p class="soft">Each strong line is taken over {line.smooth.over_s:.2g} s around its point, the '
        f"light one over {line.step_s:.2g} s: chance makes it jagged, but a short dip shows there.</p>"
    )


def _load(line: Timeline) -> list[Series]:
    smooth = line.smooth
    return [
        Series("offered", smooth.offered_per_s, "offered", _raw(line, line.offered_per_s)),
        Series("admitted (answered 200)", smooth.admitted_per_s, "admitted", _raw(line, line.admitted_per_s)),
        Series("good", smooth.good_per_s, "good", _raw(line, line.good_per_s)),
    ]


def _refused(report: Report) -> list[Series]:
    line, smooth = report.timeline, report.timeline.smooth
    found = [
        Series(f"shed: {reason}", smooth.shed_per_s[reason], f"shed{index % 4}", _raw(line, rates))
        for index, (reason, rates) in enumerate(line.shed_per_s.items())
    ]
    found.append(Series("failed otherwise", smooth.failed_per_s, "failed", _raw(line, line.failed_per_s)))
    if report.retries:
        retries = _raw(line, line.retries_per_s)
        found.append(Series("retries among the offered", smooth.retries_per_s, "offered", retries))
    return found


def _latency(line: Timeline) -> list[Series]:
    smooth = line.smooth
    return [
        Series("half were faster (p50)", smooth.p50_ms, "good", _raw(line, line.p50_ms)),
        Series("90 % were faster (p90)", smooth.p90_ms, "admitted", _raw(line, line.p90_ms)),
        Series("99 % were faster (p99)", smooth.p99_ms, "shed0", _raw(line, line.p99_ms)),
    ]


def _raw(line: Timeline, values: Sequence[float | None]) -> Sequence[float | None]:
    """What to draw behind a smooth line: nothing where that is no smoother."""
    return values if line.smooth.over_s > line.step_s else ()


def _tables(report: Report) -> list[str]:
    parts = ["<h2>By class</h2>", _counted([report.total, *report.by_class])]
    if report.by_tenant:
        parts += ["<h2>By tenant</h2>", _counted(report.by_tenant)]
    if report.by_rung:
        parts += [
            "<h2>By what answered</h2><p class=soft>The model itself, or a rung of its fallback ladder.</p>",
            _counted(report.by_rung),
        ]
    reasons = [("shed", name, f"{count:,}") for name, count in report.shed_by_reason.items()]
    reasons += [("failed", name, f"{count:,}") for name, count in report.failed_by_reason.items()]
    if reasons:
        parts += ["<h2>Reasons</h2>", _table(("outcome", "reason", "requests"), reasons)]
    return parts


def _counted(rows: Sequence[Counted]) -> str:
    columns = (
        "",
        "offered",
        "good",
        "good %",
        "late",
        "shed",
        "failed",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "p99.9 ms",
    )
    return _table(
        columns,
        [
            (
                each.name,
                f"{each.offered:,}",
                f"{each.good:,}",
                f"{100 * (each.good_share or 0):.2f}",
                f"{each.late:,}",
                f"{each.shed:,}",
                f"{_failed(each):,}",
                *map(_number, (each.p50_ms, each.p90_ms, each.p99_ms, each.p999_ms)),
            )
            for each in rows
        ],
    )


def _generator(report: Report) -> str:
    used = report.generator
    rows = [
        ("processes", f"{used.processes}"),
        ("connections", f"{used.connections:,}"),
        ("connections opened again", f"{used.reconnects:,}"),
        ("it sent late by, half of the time less than", f"{used.lateness_p50_ms:.2f} ms"),
        ("it sent late by, 99 % of the time less than", f"{used.lateness_p99_ms:.2f} ms"),
        ("it sent late by, at most", f"{used.lateness_max_ms:.1f} ms"),
        ("longest that an event loop stood still", f"{used.loop_lag_max_ms:.1f} ms"),
        ("processor time of its busiest process", f"{used.processor_share:.0%} of a core"),
        ("requests that found no free connection", f"{used.unsent_share:.2%}"),
    ]
    return "<h2>The generator itself</h2>" + _table(("", "figure"), rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th{_class(column)}>{escape(column)}</th>" for column in columns)
    lines = "".join(
        "<tr>" + "".join(f"<td{_class(str(cell))}>{escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{lines}</table></div>'


def _class(text: str) -> str:
    return ' class="words"' if len(text) > 24 or text == "it means" else ""


def _failed(counted: Counted) -> int:
    return counted.expired + counted.failed + counted.timeout + counted.unsent + counted.broken


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else "–" if value is None else str(value)
