"""What the commands of benchmarks have in common: their options, running figures, saying what came of it."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from rich.console import Console

from benchmarks.harness.claims import print_tables, ratios, summary
from benchmarks.harness.cores import Cores, Unpinnable, pinned
from benchmarks.harness.environments import EnvironmentFailed
from benchmarks.harness.figure import FigureFailed, Result
from benchmarks.harness.load import LoadFailed
from benchmarks.harness.processes import ServiceFailed
from benchmarks.harness.report import machine, write_json

__all__ = [
    "FOLDER",
    "Bench",
    "begun",
    "chosen_figures",
    "parser_of",
    "report",
    "run_command",
    "run_figures",
]

FOLDER = Path(__file__).parents[2] / ".bench"
"""What is made once and used by later runs, too."""
ROOM_COLUMNS = 120
BUSY_LOAD = 0.7

Say = Callable[[str], None]


class Bench(Protocol):
    """What figures are measured with."""

    @property
    def cores(self) -> Cores: ...


B = TypeVar("B", bound=Bench)


def parser_of(name: str, description: str | None, figures: Sequence[str] = ()) -> argparse.ArgumentParser:
    """With the options that every benchmark has; `--only` where it is made of figures."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument("--quick", action="store_true", help="everything in short: under a minute of measuring")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON")
    if figures:
        parser.add_argument(
            "--only", action="append", choices=figures, default=[], help="only this figure (repeatable)"
        )
    return parser


def chosen_figures(options: argparse.Namespace, figures: Sequence[str]) -> list[str]:
    """All, or those that `--only` names; in the order of the benchmark."""
    return [name for name in figures if not options.only or name in options.only]


def begun() -> tuple[Say, dict[str, object]]:
    """How progress is told, on standard error, and the machine that this runs on."""
    _end_servers_when_ended()
    say = Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print
    on = machine()
    if os.getloadavg()[0] > BUSY_LOAD:
        say(f"warning: the machine is busy (load {os.getloadavg()[0]:.1f}); figures will be off")
    return say, on


def run_command(
    name: str,
    figures: Mapping[str, Callable[[B], Result]],
    options: argparse.Namespace,
    prepare: Callable[[Say], B],
    names: Sequence[str],
) -> int:
    """Measures the named figures with what `prepare` makes, and reports; the exit status."""
    say, on = begun()
    try:
        bench = prepare(say)
        with pinned(bench.cores.load):
            results, failures = run_figures(figures, names, bench, say)
    except (Unpinnable, LoadFailed) as error:
        say(f"error: {error}")
        return 2
    return report(name, results, failures, on=on, json=options.json, say=say)


def _end_servers_when_ended() -> None:
    """Ended from outside, servers must be ended too: their contexts run on the way out."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # In the background of a shell this is ignored, and a server would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def run_figures(
    figures: Mapping[str, Callable[[B], Result]], names: Sequence[str], bench: B, say: Say
) -> tuple[list[Result], dict[str, str]]:
    """Each named figure once; of those that failed, why."""
    results, failures = [], {}
    for name in names:
        begun_s = time.monotonic()
        try:
            results.append(figures[name](bench))
        except (FigureFailed, ServiceFailed, LoadFailed, EnvironmentFailed) as error:
            failures[name] = str(error)
            say(f"FAILED: {name}: {error}")
        say(f"{name}: {time.monotonic() - begun_s:.0f} s")
    return results, failures


def report(
    name: str,
    results: Sequence[Result],
    failures: Mapping[str, str],
    *,
    on: Mapping[str, object],
    json: Path | None,
    say: Say,
) -> int:
    """Tables on standard output, the JSON where it is wanted; the exit status."""
    print_tables(
        results,
        Console(width=None if sys.stdout.isatty() else ROOM_COLUMNS, highlight=False, markup=False),
    )
    if json:
        command = " ".join([f"python -m benchmarks.{name}", *sys.argv[1:]])
        figures = summary(results, failures) | {"command": command}
        write_json(json, name=name, on=on, ratios=ratios(results), figures=figures)
    for figure, why in failures.items():
        say(f"FAILED: {figure}: {why.splitlines()[0]}")
    return 1 if failures else 0
