"""`python -m benchmarks.serving`: tables on standard output, progress on standard error."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from benchmarks.harness.command import FOLDER, begun, parser_of
from benchmarks.harness.cores import Cores, Unpinnable, pinned
from benchmarks.harness.environments import EnvironmentFailed, Environments
from benchmarks.harness.load import LoadFailed, LoadGenerator
from benchmarks.harness.processes import ServiceFailed
from benchmarks.harness.report import write_json
from benchmarks.serving.measure import FULL, QUICK, Bench
from benchmarks.serving.model import ModelFiles, Rows, ensure_model, load_rows
from benchmarks.serving.report import Results, markdown, print_tables, summary
from benchmarks.serving.systems import Kind, System, systems

ROOM_COLUMNS = 150

Say = Callable[[str], None]


def arguments() -> argparse.Namespace:
    parser = parser_of("serving", __doc__)
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables as Markdown")
    parser.add_argument("--skip-peers", action="store_true", help="only Penstock and the limits")
    parser.add_argument(
        "--only", action="append", metavar="NAME", default=[], help="only this system (repeatable)"
    )
    return parser.parse_args()


def chosen(options: argparse.Namespace, known: tuple[System, ...]) -> tuple[System, ...]:
    names = {system.name for system in known}
    unknown = set(options.only) - names
    if unknown:
        raise SystemExit(f"no such system: {', '.join(sorted(unknown))}\nhint: {', '.join(sorted(names))}")
    picked = [system for system in known if not options.only or system.name in options.only]
    return tuple(system for system in picked if not (options.skip_peers and system.kind is Kind.PEER))


def prepare_peers(results: Results, environments: Environments, say: Say) -> None:
    """Make what environments are missing, and note the versions in all of them."""
    for system in results.systems:
        if system.requirements is not None and system.environment is not None:
            try:
                environments.prepare(system.environment, system.requirements)
            except EnvironmentFailed as error:
                fail(results, system.name, str(error), say)
                continue
        results.versions[system.name] = environments.versions(system.environment, system.packages)


def prepare_subject(options: argparse.Namespace, bench: Bench, model: ModelFiles, say: Say) -> Results:
    """Push the model and ask for its input's name; without that, Penstock alone stands as failed."""
    results = Results(systems=chosen(options, systems()))
    ours = [system for system in results.systems if system.kind is Kind.SUBJECT]
    if not ours:
        return results
    say("pushing the model into a registry of its own")
    try:
        results.systems = chosen(options, systems(bench.push(ours[0], model)))
    except ServiceFailed as error:
        for system in ours:
            fail(results, system.name, str(error), say)
    return results


def measure(results: Results, bench: Bench, model: ModelFiles, rows: Rows, say: Say) -> None:
    """All rounds; each begins with another system, so that none always follows the same neighbour."""
    for number in range(bench.plan.rounds):
        turn = number % max(1, len(results.systems))
        for system in results.systems[turn:] + results.systems[:turn]:
            if system.name in results.failures:
                continue
            begun_s = time.monotonic()
            try:
                sample = bench.sample(system, model, rows)
            except ServiceFailed as error:
                fail(results, system.name, str(error), say)
                continue
            results.samples.setdefault(system.name, []).append(sample)
            say(
                f"round {number + 1}/{bench.plan.rounds}  {system.title:28} {sample.many.rps:10,.0f} requests/s"
                f"  ({time.monotonic() - begun_s:.1f} s)"
            )
        if "onnx_direct" not in results.failures:
            try:
                results.direct_rows_per_s.append(bench.direct_rows_per_s(model))
            except ServiceFailed as error:
                fail(results, "onnx_direct", str(error), say)


def measure_footprint(results: Results, bench: Bench, model: ModelFiles, rows: Rows, say: Say) -> None:
    for system in results.systems:
        if system.name == "penstock" and system.name not in results.failures:
            say("start, memory, 5,000 connections, import")
            try:
                results.footprint = bench.footprint(system, model, rows)
            except ServiceFailed as error:
                fail(results, "footprint", str(error), say)


def fail(results: Results, name: str, why: str, say: Say) -> None:
    results.failures[name] = why
    say(f"FAILED: {name}: {why}")


def run(options: argparse.Namespace, cores: Cores, say: Say) -> Results:
    plan = QUICK if options.quick else FULL
    load = LoadGenerator.build(FOLDER, core=cores.load)
    environments = Environments(FOLDER / "env", say=say)
    model = ensure_model(FOLDER / "model")
    rows = load_rows(model)
    bench = Bench(plan=plan, cores=cores, load=load, environments=environments, folder=FOLDER)
    results = prepare_subject(options, bench, model, say)
    prepare_peers(results, environments, say)
    begun_s = time.monotonic()
    with pinned(cores.load):
        measure(results, bench, model, rows, say)
        measure_footprint(results, bench, model, rows, say)
    say(f"measured in {time.monotonic() - begun_s:.0f} s")
    return results


def main() -> int:
    options = arguments()
    say, on = begun()
    try:
        results = run(options, Cores.available(), say)
    except (Unpinnable, LoadFailed) as error:
        say(f"error: {error}")
        return 2
    output = Console(width=None if sys.stdout.isatty() else ROOM_COLUMNS)
    print_tables(results, output)
    numbers, figures = summary(results)
    command = " ".join(["python -m benchmarks.serving", *sys.argv[1:]])
    if options.json:
        write_json(options.json, name="serving", on=on, ratios=numbers, figures=figures | {"command": command})
    if options.markdown:
        options.markdown.write_text(markdown(results, on=on, command=command))
    for name, why in results.failures.items():
        say(f"FAILED: {name}: {why.splitlines()[0]}")
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
