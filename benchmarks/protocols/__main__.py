"""`python -m benchmarks.protocols`: tables on standard output, progress on standard error."""

import argparse
import sys
from collections.abc import Callable

from benchmarks.harness.command import FOLDER, chosen_figures, parser_of, run_command
from benchmarks.harness.figure import Result
from benchmarks.protocols import codecs, grpc_peer, kills, rolling, rows, soak, swaps
from benchmarks.protocols.figure import Bench
from benchmarks.protocols.prepare import prepare

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
    parser = parser_of("protocols", __doc__, list(FIGURES))
    parser.add_argument("--minutes", type=float, help="how long the soak takes (default 10)")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    names = chosen_figures(options, list(FIGURES))

    def prepared(say: Callable[[str], None]) -> Bench:
        versions = swaps.versions_wanted(quick=options.quick) if "swaps" in names else 0
        return prepare(FOLDER, quick=options.quick, minutes=options.minutes, versions=versions, say=say)

    return run_command("protocols", FIGURES, options, prepared, names)


if __name__ == "__main__":
    sys.exit(main())
