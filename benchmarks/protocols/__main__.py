"""`python -m benchmarks.protocols`: tables on standard output, progress on standard error."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from benchmarks.harness.command import end_servers_when_ended, report, run_figures, warn_if_busy
from benchmarks.harness.cores import Unpinnable, pinned
from benchmarks.harness.figure import Result
from benchmarks.harness.load import LoadFailed
from benchmarks.harness.report import machine
from benchmarks.protocols import codecs, grpc_peer, kills, rolling, rows, soak, swaps
from benchmarks.protocols.figure import Bench
from benchmarks.protocols.prepare import prepare

FOLDER = Path(__file__).parents[2] / ".bench"
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


def main() -> int:
    options = arguments()
    end_servers_when_ended()
    errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    on = machine()
    warn_if_busy(errors.print)
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
            results, failures = run_figures(FIGURES, names, bench, errors.print)
    except (Unpinnable, LoadFailed) as error:
        errors.print(f"error: {error}")
        return 2
    return report("protocols", results, failures, on=on, json=options.json, say=errors.print)


if __name__ == "__main__":
    sys.exit(main())
