"""The registry under several real processes: races, and kill -9 at every step of a push.

Run as a script, this file is such a process: `python test_registry_processes.py VERB FOLDER ARGUMENT`. It
says `ready`, waits for a line, then works and prints its results as one line of JSON.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from penstock.core.signature import Signature
from penstock.models.registry import (
    AliasMoved,
    Candidate,
    FolderArtifactStore,
    OnStep,
    Registry,
)
from penstock.models.registry.artifacts import no_step
from penstock.models.version import RuntimeKind, SourceFormat

PATIENCE_S = 60
FILE_STEPS = ("part opened", "part written", "artifact renamed")
STEPS = (
    *FILE_STEPS, "source stored", *FILE_STEPS, "golden stored",
    "write lock taken", "version inserted", "aliases set", "version committed",
)  # fmt: skip


def open_registry(folder: Path, on_step: OnStep = no_step) -> Registry:
    store = FolderArtifactStore(folder / "artifacts", on_step=on_step)
    return Registry.open(f"sqlite:///{folder}/penstock.db", store, on_step=on_step)


def make_candidate(folder: Path, content: bytes, golden: bytes = b"golden", creator: str = "test") -> Candidate:
    source = folder / f"{os.getpid()}.onnx"
    source.write_bytes(content)
    return Candidate(
        model="late",
        signature=Signature.of(inputs={"x": "FP32[-1]"}, outputs={"y": "FP32[-1]"}),
        runtime=RuntimeKind.ONNX,
        format=SourceFormat.ONNX,
        source=source,
        golden=golden,
        creator=creator,
        aliases=("champion",),
    )


def work_push(folder: Path, count: int) -> list[int]:
    with open_registry(folder) as registry:
        me = str(os.getpid())
        return [
            registry.push(make_candidate(folder, f"{me} {number}".encode(), creator=me)).number
            for number in range(count)
        ]


def work_push_until(folder: Path, duration_s: int) -> list[int]:
    """Pushes content that others push and delete too, so that the collector has something to take."""
    numbers = []
    with open_registry(folder) as registry:
        end = time.monotonic() + duration_s
        while time.monotonic() < end:
            content = f"shared {len(numbers) % 7}".encode()
            version = registry.push(make_candidate(folder, content, golden=content))
            # At once: the next push of the same content would mend what the collector had wrongly taken.
            assert registry.fetch(version).read_bytes() == content
            numbers.append(version.number)
            for number in numbers[-3:-2]:
                registry.delete("late", number)
    return numbers[-2:]


def work_collect_until(folder: Path, duration_s: int) -> int:
    collected = 0
    with open_registry(folder) as registry:
        end = time.monotonic() + duration_s
        while time.monotonic() < end:
            collected += len(registry.collect_garbage(grace_s=0).artifacts)
    return collected


def work_move(folder: Path, last: int) -> list[int]:
    moved = []
    with open_registry(folder) as registry:
        while (standing := registry.aliases("late")["champion"]) < last:
            try:
                registry.move_alias("late", "champion", to=standing + 1, expected=standing)
            except AliasMoved:
                continue
            moved.append(standing + 1)
    return moved


def work_open(folder: Path, count: int) -> int:
    for number in range(count):
        open_registry(folder / f"new-{number}").close()
    return count


def work_die(folder: Path, last_step: int) -> None:
    steps_left = last_step

    def die(step: str) -> None:
        nonlocal steps_left
        if steps_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        steps_left -= 1

    with open_registry(folder, on_step=die) as registry:
        registry.push(make_candidate(folder, b"second"))


WORK = {
    "push": work_push,
    "push-until": work_push_until,
    "collect-until": work_collect_until,
    "move": work_move,
    "open": work_open,
    "die": work_die,
}


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(verb: str, folder: str, argument: str) -> None:
    say("ready")
    sys.stdin.readline()
    say(json.dumps(WORK[verb](Path(folder), int(argument))))


@contextmanager
def worker(verb: str, folder: Path, argument: int) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, __file__, verb, str(folder), str(argument)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run_together(folder: Path, *work: tuple[str, int]) -> list:
    """Starts a process for each piece of work, lets them go at once, and gives their results."""
    results = []
    with ExitStack() as stack:
        running = [stack.enter_context(worker(verb, folder, argument)) for verb, argument in work]
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.communicate()[1]
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in running:
            output, errors = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 0, errors
            results.append(json.loads(output))
    return results


def test_racing_pushes_get_distinct_versions_and_none_is_lost(tmp_path: Path) -> None:
    results = run_together(tmp_path, *[("push", 20)] * 4)
    numbers = sorted(number for result in results for number in result)
    assert numbers == list(range(1, 81))
    with open_registry(tmp_path) as registry:
        versions = registry.versions("late")
        assert Counter(version.creator for version in versions).most_common()[-1][1] == 20
        assert registry.aliases("late") == {"champion": 80}
        for version in versions:
            assert registry.fetch(version).read_bytes().startswith(version.creator.encode())


def test_racing_moves_of_an_alias_are_won_by_one_each(tmp_path: Path) -> None:
    with open_registry(tmp_path) as registry:
        for _ in range(60):
            registry.push(make_candidate(tmp_path, b"content"))
        registry.move_alias("late", "champion", to=1)
    results = run_together(tmp_path, *[("move", 60)] * 3)
    assert sorted(number for result in results for number in result) == list(range(2, 61))


def test_new_databases_may_be_opened_by_many_at_once(tmp_path: Path) -> None:
    assert run_together(tmp_path, *[("open", 8)] * 4) == [8] * 4
    for number in range(8):
        with open_registry(tmp_path / f"new-{number}") as registry:
            assert registry.models() == ()


def test_a_collector_never_takes_what_a_push_refers_to(tmp_path: Path) -> None:
    *pushed, collected = run_together(tmp_path, ("push-until", 3), ("push-until", 3), ("collect-until", 3))
    assert collected > 0, "the collector has met something to take"
    with open_registry(tmp_path) as registry:
        left = registry.versions("late")
        assert sorted(version.number for version in left) == sorted(itertools.chain(*pushed))
        for version in left:
            assert registry.fetch(version).read_bytes().startswith(b"shared")
            registry.fetch(version, "golden")


def test_the_steps_of_a_push_are_those_that_are_killed(tmp_path: Path) -> None:
    steps: list[str] = []
    with open_registry(tmp_path, on_step=steps.append) as registry:
        registry.push(make_candidate(tmp_path, b"first"))
    assert tuple(steps) == STEPS


@pytest.mark.parametrize("last_step", range(len(STEPS)), ids=[f"{i}-{step}" for i, step in enumerate(STEPS)])
def test_a_push_that_is_killed_leaves_a_whole_version_or_none(tmp_path: Path, last_step: int) -> None:
    with open_registry(tmp_path) as registry:
        first = registry.push(make_candidate(tmp_path, b"first", golden=b"golden of the first"))
    with worker("die", tmp_path, last_step) as process:
        _, errors = process.communicate("go\n", timeout=PATIENCE_S)
        assert process.returncode == -signal.SIGKILL, errors

    pushed = STEPS[last_step] == "version committed"
    parts = STEPS[last_step] in {"part opened", "part written"}
    orphans = 0 if pushed else STEPS[: last_step + 1].count("artifact renamed")
    with open_registry(tmp_path) as registry:
        versions = registry.versions("late")
        assert [version.number for version in versions] == ([2, 1] if pushed else [1])
        assert registry.resolve("late") == versions[0]
        assert versions[-1] == first

        assert registry.collect_garbage(grace_s=3600).artifacts == ()
        garbage = registry.collect_garbage(grace_s=0)
        assert (len(garbage.artifacts), garbage.unfinished_files) == (orphans, int(parts))
        used = {artifact.digest for v in versions for artifact in (v.source, v.golden) if artifact}
        assert set(os.listdir(tmp_path / "artifacts")) == used
        for version in versions:
            content = b"first" if version == first else b"second"
            assert registry.fetch(version).read_bytes() == content
            assert b"golden" in registry.fetch(version, "golden").read_bytes()
        assert registry.push(make_candidate(tmp_path, b"second")).number == len(versions) + 1


if __name__ == "__main__":
    main(*sys.argv[1:])
