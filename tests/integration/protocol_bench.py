"""Runs figures of `benchmarks.protocols` in their short form, as tests."""

import shutil

import pytest
from benchmarks.harness.cores import Unpinnable
from benchmarks.protocols.figure import Bench
from benchmarks.protocols.prepare import prepare


def quick_bench(folders: pytest.TempPathFactory) -> Bench:
    """All that a figure needs. Skips the test where this machine cannot have it."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler (cc) for the load generator")
    try:
        return prepare(
            folders.getbasetemp() / "protocol_bench", quick=True, minutes=None, versions=0, say=print
        )
    except Unpinnable as error:
        pytest.skip(str(error))
