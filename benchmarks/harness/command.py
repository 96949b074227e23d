"""What the commands of benchmarks made of figures have in common: running them, and saying what came of it."""

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from benchmarks.harness.claims import print_tables, ratios, summary
from benchmarks.harness.environments import EnvironmentFailed
from benchmarks.harness.figure import FigureFailed, Result
from benchmarks.harness.load import LoadFailed
from benchmarks.harness.processes import ServiceFailed
from benchmarks.harness.report import write_json

__all__ = ["end_servers_when_ended", "report", "run_figures", "warn_if_busy"]

ROOM_COLUMNS = 120
BUSY_LOAD = 0.7

B = TypeVar("B")
Say = Callable[[str], None]


def end_servers_when_ended() -> None:
    """Ended from outside, servers must be ended too: their contexts run on the way out."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # In the background of a shell this is ignored, and a server would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def warn_if_busy(say: Say) -> None:
    if os.getloadavg()[0] > BUSY_LOAD:
        say(f"warning: the machine is busy (load {os.getloadavg()[0]:.1f}); figures will be off")


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
