"""`python -m benchmarks.surge`: tables on standard output, progress on standard error."""

import argparse
import sys
from collections.abc import Callable

from benchmarks.harness.command import FOLDER, chosen_figures, parser_of, run_command
from benchmarks.harness.figure import Result
from benchmarks.surge import cache, crowd, fallback, goodput, one_core, overhead, peers
from benchmarks.surge.bench import EVERY_MODEL, EVERY_PEER, Bench
from benchmarks.surge.prepare import prepare

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
    parser = parser_of("surge", __doc__, list(FIGURES))
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
    names = chosen_figures(options, list(FIGURES))
    if options.skip_peers:
        names = [name for name in names if name != "peers"]

    def prepared(say: Callable[[str], None]) -> Bench:
        return prepare(FOLDER, quick=options.quick, chosen=options.model, peers=options.peer, say=say)

    return run_command("surge", FIGURES, options, prepared, names)


if __name__ == "__main__":
    sys.exit(main())
