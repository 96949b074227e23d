"""`penstock drill`: rehearsals against a running server."""

import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

import penstock
from penstock.cli.drill_options import (
    AllowLimitedOption,
    AllowRemoteOption,
    ApiKeyOption,
    BaseOption,
    BinaryOption,
    BodiesOption,
    BodyOption,
    CapacityOption,
    ClassOption,
    ConnectionsOption,
    DeadlineOption,
    DurationOption,
    HtmlOption,
    JsonFileOption,
    MaxRequestsOption,
    ObjectiveOption,
    PeakOption,
    ProcessesOption,
    RequireOption,
    RetriesOption,
    RetryDelayOption,
    RowsOption,
    SeedOption,
    ShapeOption,
    TenantOption,
    TimeoutOption,
    TraceOption,
    TracePartOption,
    UrlOption,
    VersionOption,
)
from penstock.cli.drill_progress import plain_progress, rich_progress
from penstock.cli.options import JsonOption, parse_pairs, server_url
from penstock.cli.output import print_error, print_json, print_table, print_text, say
from penstock.core.errors import InvalidInput, PenstockError, StorageFailed, shown

__all__ = ["app"]

app = typer.Typer(help="Rehearse what may come: load and surges.", no_args_is_help=True)


@app.callback()
def root() -> None:
    """Rehearse what may come: load and surges."""


@app.command()
def surge(  # noqa: PLR0913, PLR0917 - a command's options
    name: Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.")],
    version: VersionOption = None,
    url: UrlOption = None,
    shape: ShapeOption = "spike",
    trace: TraceOption = None,
    trace_part: TracePartOption = "0:1",
    base: BaseOption = "0.5x",
    peak: PeakOption = "2x",
    capacity: CapacityOption = "auto",
    duration: DurationOption = 30.0,
    max_requests: MaxRequestsOption = 10_000_000,
    objective_ms: ObjectiveOption = 100.0,
    deadline_ms: DeadlineOption = None,
    timeout_ms: TimeoutOption = 1000.0,
    class_: ClassOption = None,
    tenant: TenantOption = None,
    api_key: ApiKeyOption = None,
    retries: RetriesOption = None,
    retry_delay_ms: RetryDelayOption = 0.0,
    body: BodyOption = None,
    rows: RowsOption = 1,
    bodies: BodiesOption = 64,
    binary: BinaryOption = False,
    processes: ProcessesOption = 1,
    connections: ConnectionsOption = 1000,
    seed: SeedOption = 1,
    require: RequireOption = None,
    html: HtmlOption = None,
    json_file: JsonFileOption = None,
    allow_remote: AllowRemoteOption = False,
    allow_limited: AllowLimitedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Offer more than the server can do, and see what becomes of it.

    Ends with 0 if all that is required holds, 1 if not, 2 if it could not be measured.
    """
    given = dict(locals())
    try:
        status = _surge(given)
    except PenstockError as error:
        # 1 is what a drill says that was not passed; this one was not held at all.
        print_error(error)
        status = 2
    raise typer.Exit(status)


def _surge(given: dict[str, Any]) -> int:
    from penstock.drills.surge.drill import Asked, run_drill
    from penstock.drills.surge.mix import make_mix

    named = {"name", "url", "duration", "max_requests", "retries", "trace_part", "trace", "body", "require"}
    same = {key: value for key, value in given.items() if key in Asked.__struct_fields__ and key not in named}
    retries = given["retries"]
    asked = Asked(
        **same,
        model=given["name"],
        url=given["url"] or server_url(),
        duration_s=given["duration"],
        requests_max=given["max_requests"],
        retries=retries if retries is not None else 3 * (given["shape"] == "flash-crowd"),
        trace=_text(given["trace"]),
        trace_part=_part(given["trace_part"]),
        body=_text(given["body"]),
        require=tuple(given["require"] or ()),
    )
    keys = {tenant: _key(text) for tenant, text in parse_pairs(given["api_key"], "--api-key").items()}
    mix = make_mix(parse_pairs(given["class_"], "--class"), parse_pairs(given["tenant"], "--tenant"), keys)
    for file in (given["html"], given["json_file"]):
        if file is not None and not file.parent.is_dir():
            raise InvalidInput(f"there is no folder {file.parent} for the report", where=str(file))
    with _progress(asked.objective_ms) as watch:
        report = run_drill(asked, mix, watch=watch, say=say, release=penstock.__version__)
    _write(report, given)
    return report.exit_code


def _write(report: Any, given: dict[str, Any]) -> None:
    from penstock.drills.surge.page import render_page

    encoded = msgspec.json.format(msgspec.json.encode(report), indent=2)
    for file, content in ((given["json_file"], encoded), (given["html"], None)):
        if file is None:
            continue
        try:
            file.write_bytes(render_page(report).encode() if content is None else content)
        except OSError as error:
            raise StorageFailed(f"the report {file} could not be written: {error}") from error
        say(f"report: {file}")
    if given["as_json"]:
        print_json(report)
    else:
        _print_summary(report)


def _print_summary(report: Any) -> None:
    columns = ("", "offered", "good", "good %", "late", "shed", "failed", "p50 ms", "p99 ms")
    rows = [report.total, *report.by_class, *report.by_tenant]
    print_table(columns, [_row(each) for each in rows])
    goodput = "not measured" if report.goodput is None else f"{report.goodput:.3f}"
    recovery = "never" if report.recovered is False else "not measured"
    recovery = recovery if report.recovery_s is None else f"{report.recovery_s:.1f} s"
    print_text(f"goodput {goodput} · recovery {recovery} · retries {report.retries}")
    for note in report.notes:
        print_text(f"note: {note}")
    for limit in report.limits:
        print_text(f"the generator was the limit: {limit}")
    for each in report.thresholds:
        measured = "not measured" if each.measured is None else f"{each.measured:.4g}"
        print_text(f"{each.outcome}: {each.text} (measured: {measured})")
    print_text(f"verdict: {report.verdict}")


def _row(counted: Any) -> tuple[Any, ...]:
    failed = counted.expired + counted.failed + counted.timeout + counted.unsent + counted.broken
    shares = (_percent(counted.good_share), counted.late, counted.shed, failed)
    return (counted.name, counted.offered, counted.good, *shares, _ms(counted.p50_ms), _ms(counted.p99_ms))


def _progress(objective_ms: float) -> AbstractContextManager[Any]:
    return rich_progress(objective_ms) if sys.stderr.isatty() else plain_progress(say)


def _key(text: str) -> str:
    """A key as it stands, or `env:NAME`: what stands on a command line is seen by all on the machine."""
    if not text.startswith("env:"):
        return text
    variable = text.removeprefix("env:")
    if variable not in os.environ:
        raise InvalidInput(f"--api-key: there is no variable {shown(variable)}", where="--api-key")
    return os.environ[variable]


def _part(text: str) -> tuple[float, float]:
    low, _, high = text.partition(":")
    try:
        return float(low), float(high)
    except ValueError:
        raise InvalidInput(
            f"--trace-part {shown(text)} is no part of a trace", where="--trace-part", hint="e.g. 0.6:1"
        ) from None


def _text(file: Path | None) -> str | None:
    return None if file is None else str(file)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f}"


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
