"""`python -m benchmarks.jobs`: tables on standard output, progress on standard error."""

import sys
from collections.abc import Callable

from benchmarks.harness.command import FOLDER, parser_of, run_command
from benchmarks.harness.cores import Cores
from benchmarks.harness.environments import Environments
from benchmarks.jobs.bench import Bench, measure
from benchmarks.serving.model import ensure_model


def main() -> int:
    options = parser_of("jobs", __doc__).parse_args()

    def prepare(say: Callable[[str], None]) -> Bench:
        return Bench(
            jobs=1500 if options.quick else 10_000,
            repeats=1 if options.quick else 5,
            cores=Cores.available(),
            environments=Environments(FOLDER / "env", say=say),
            model=ensure_model(FOLDER / "model"),
            folder=FOLDER / "jobs",
            say=say,
        )

    return run_command("jobs", {"jobs": measure}, options, prepare, ["jobs"])


if __name__ == "__main__":
    sys.exit(main())
