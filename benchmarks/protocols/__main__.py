"""`python -m benchmarks.protocols`: tables on standard output, progress on standard error."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from benchmarks.harness.claims import print_tables, ratios, summary
from benchmarks.harness.cores import Unpinnable, pinned
from benchmarks.harness.environments import EnvironmentFailed
from benchmarks.harness.figure import FigureFailed, Result
from benchmarks.harness.load import LoadFailed
from benchmarks.harness.processes import ServiceFailed
from benchmarks.harness.report import machine, write_json
from benchmarks.protocols import codecs, grpc_peer, kills, rolling, rows, soak, swaps
from benchmarks.protocols.figure import Bench
from benchmarks.protocols.prepare import prepare

FOLDER = Path(__file__).parents[2] / ".bench"
ROOM_COLUMNS = 120
BUSY_LOAD = 0.7
FIGURES: dict[str, Callable[[Bench], Result]] = {
    "codecs": codecs.measure,
    "grpc": grpc_peer.measure,
    "rows": rows.measure,
    "swaps": swaps.measure,
    "kills": kills.measure,
    "rolling": rolling.measure,
    "soak": soak.measure,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.protocols", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="everything in short: under a minute of measuring")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON")
    parser.add_argument(
        "--only", action="append", choices=FIGURES, default=[], help="only this figure (repeatable)"
    )
    parser.add_argument("--minutes", type=float, help="how long the soak takes (default 10)")
    return parser.parse_args()


def measure(bench: Bench, names: list[str]) -> tuple[list[Result], dict[str, str]]:
    """Each figure once; of those that failed, why."""
    results, failures = [], {}
    for name in names:
        begun_s = time.monotonic()
        try:
            results.append(FIGURES[name](bench))
        except (FigureFailed, ServiceFailed, LoadFailed, EnvironmentFailed) as error:
            failures[name] = str(error)
            bench.say(f"FAILED: {name}: {error}")
        bench.say(f"{name}: {time.monotonic() - begun_s:.0f} s")
    return results, failures


def main() -> int:
    options = arguments()
    # Ended from outside, servers must be ended too: their contexts run on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # In the background of a shell this is ignored, and a server would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    on = machine()
    if os.getloadavg()[0] > BUSY_LOAD:
        errors.print(f"warning: the machine is busy (load {os.getloadavg()[0]:.1f}); figures will be off")
    names = [name for name in FIGURES if not options.only or name in options.only]
    try:
        bench = prepare(
            FOLDER,
            quick=options.quick,
            minutes=options.minutes,
            versions=swaps.versions_wanted(quick=options.quick) if "swaps" in names else 0,
            say=errors.print,
        )
        with pinned(bench.cores.load):
            results, failures = measure(bench, names)
    except (Unpinnable, LoadFailed) as error:
        errors.print(f"error: {error}")
        return 2
    output = Console(width=None if sys.stdout.isatty() else ROOM_COLUMNS, highlight=False, markup=False)
    print_tables(results, output)
    command = " ".join(["python -m benchmarks.protocols", *sys.argv[1:]])
    if options.json:
        figures = summary(results, failures) | {"command": command}
        write_json(options.json, name="protocols", on=on, ratios=ratios(results), figures=figures)
    for name, why in failures.items():
        errors.print(f"FAILED: {name}: {why.splitlines()[0]}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
