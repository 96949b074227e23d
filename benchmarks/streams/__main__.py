"""`python -m benchmarks.streams`: tables on standard output, progress on standard error."""

import argparse
import sys
from collections.abc import Callable
from functools import partial

from benchmarks.harness.command import FOLDER, chosen_figures, parser_of, run_command
from benchmarks.harness.cores import Cores
from benchmarks.harness.environments import Environments
from benchmarks.harness.figure import Result
from benchmarks.streams import from_log, keys, log, pipeline
from benchmarks.streams.bench import FULL, QUICK, Bench
from benchmarks.streams.events import ensure_events
from benchmarks.streams.model import ensure_model
from benchmarks.streams.systems import SYSTEMS

FIGURES: dict[str, Callable[[Bench], Result]] = {
    "sparse": pipeline.measure_sparse,
    "dense": pipeline.measure_dense,
    "log": log.measure,
    "keys": keys.measure,
    "from_log": from_log.measure_throughput,
    "latency": from_log.measure_latency,
}


def arguments() -> argparse.Namespace:
    parser = parser_of("streams", __doc__, list(FIGURES))
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
    names = chosen_figures(options, list(FIGURES))
    return run_command("streams", FIGURES, options, partial(prepare, options), names)


if __name__ == "__main__":
    sys.exit(main())
