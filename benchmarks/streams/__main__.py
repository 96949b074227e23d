"""`python -m benchmarks.streams`: tables on standard output, progress on standard error."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from benchmarks.harness.command import end_servers_when_ended, report, run_figures, warn_if_busy
from benchmarks.harness.cores import Cores, Unpinnable, pinned
from benchmarks.harness.environments import Environments
from benchmarks.harness.figure import Result
from benchmarks.harness.report import machine
from benchmarks.streams import from_log, keys, log, pipeline
from benchmarks.streams.bench import FULL, QUICK, Bench
from benchmarks.streams.events import ensure_events
from benchmarks.streams.model import ensure_model
from benchmarks.streams.systems import SYSTEMS

FOLDER = Path(__file__).parents[2] / ".bench"
FIGURES: dict[str, Callable[[Bench], Result]] = {
    "sparse": pipeline.measure_sparse,
    "dense": pipeline.measure_dense,
    "log": log.measure,
    "keys": keys.measure,
    "from_log": from_log.measure_throughput,
    "latency": from_log.measure_latency,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="everything in short: under a minute of measuring")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON")
    parser.add_argument(
        "--only", action="append", choices=FIGURES, default=[], help="only this figure (repeatable)"
    )
    parser.add_argument(
        "--system",
        action="append",
        choices=[system.name for system in SYSTEMS],
        default=[],
        help="of the pipeline only this system (repeatable)",
    )
    parser.add_argument(
        "--peers", action="store_true", help="make the environments of peers that are missing, with --quick too"
    )
    return parser.parse_args()


def prepare(options: argparse.Namespace, say: Callable[[str], None]) -> Bench:
    """Raises `Unpinnable` with too few cores."""
    folder = FOLDER / "streams"
    events = ensure_events(folder)
    return Bench(
        plan=QUICK if options.quick else FULL,
        make_peers=options.peers or not options.quick,
        only=frozenset(options.system),
        cores=Cores.available(),
        environments=Environments(FOLDER / "env", say=say),
        events=events,
        model=ensure_model(folder, events),
        folder=folder,
        say=say,
    )


def main() -> int:
    options = arguments()
    end_servers_when_ended()
    say = Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print
    on = machine()
    warn_if_busy(say)
    names = [name for name in FIGURES if not options.only or name in options.only]
    try:
        bench = prepare(options, say)
        with pinned(bench.cores.load):
            results, failures = run_figures(FIGURES, names, bench, say)
    except Unpinnable as error:
        say(f"error: {error}")
        return 2
    return report("streams", results, failures, on=on, json=options.json, say=say)


if __name__ == "__main__":
    sys.exit(main())
