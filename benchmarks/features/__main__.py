"""`python -m benchmarks.features`: tables on standard output, progress on standard error."""

import argparse
import sys
from collections.abc import Callable
from functools import partial

from benchmarks.features import freshness, history, online, requests, scores
from benchmarks.features.bench import FULL, QUICK, Bench
from benchmarks.harness.command import FOLDER, chosen_figures, parser_of, run_command
from benchmarks.harness.cores import Cores
from benchmarks.harness.environments import Environments
from benchmarks.harness.figure import Result

FIGURES: dict[str, Callable[[Bench], Result]] = {
    "online": online.measure,
    "requests": requests.measure,
    "freshness": freshness.measure,
    "history": history.measure,
    "scores": scores.measure,
}


def arguments() -> argparse.Namespace:
    parser = parser_of("features", __doc__, list(FIGURES))
    parser.add_argument(
        "--peers", action="store_true", help="make the environments of peers that are missing, with --quick too"
    )
    return parser.parse_args()


def prepare(options: argparse.Namespace, say: Callable[[str], None]) -> Bench:
    """Raises `Unpinnable` with too few cores."""
    folder = FOLDER / "features"
    folder.mkdir(parents=True, exist_ok=True)
    return Bench(
        plan=QUICK if options.quick else FULL,
        make_peers=options.peers or not options.quick,
        cores=Cores.available(),
        environments=Environments(FOLDER / "env", say=say),
        folder=folder,
        say=say,
    )


def main() -> int:
    options = arguments()
    names = chosen_figures(options, list(FIGURES))
    return run_command("features", FIGURES, options, partial(prepare, options), names)


if __name__ == "__main__":
    sys.exit(main())
