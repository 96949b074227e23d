"""`python -m benchmarks.surge`: tables on standard output, progress on standard error."""

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
from benchmarks.surge import cache, crowd, fallback, goodput, one_core, overhead, peers
from benchmarks.surge.bench import EVERY_MODEL, EVERY_PEER, Bench
from benchmarks.surge.prepare import prepare

FOLDER = Path(__file__).parents[2] / ".bench"
FIGURES: dict[str, Callable[[Bench], Result]] = {
    "goodput": goodput.measure,
    "one_core": one_core.measure,
    "crowd": crowd.measure,
    "fallback": fallback.measure,
    "overhead": overhead.measure,
    "cache": cache.measure,
    "peers": peers.measure,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.surge", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="everything in short: under a minute of measuring")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON")
    parser.add_argument(
        "--only", action="append", choices=FIGURES, default=[], help="only this figure (repeatable)"
    )
    parser.add_argument(
        "--model", action="append", choices=EVERY_MODEL, default=[], help="only this model (repeatable)"
    )
    parser.add_argument(
        "--peer", action="append", choices=EVERY_PEER, default=[], help="only this peer (repeatable)"
    )
    parser.add_argument("--skip-peers", action="store_true", help="only Penstock")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    end_servers_when_ended()
    say = Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print
    on = machine()
    warn_if_busy(say)
    names = [name for name in FIGURES if not options.only or name in options.only]
    if options.skip_peers:
        names = [name for name in names if name != "peers"]
    try:
        bench = prepare(FOLDER, quick=options.quick, chosen=options.model, peers=options.peer, say=say)
        with pinned(bench.cores.load):
            results, failures = run_figures(FIGURES, names, bench, say)
    except (Unpinnable, LoadFailed) as error:
        say(f"error: {error}")
        return 2
    return report("surge", results, failures, on=on, json=options.json, say=say)


if __name__ == "__main__":
    sys.exit(main())
