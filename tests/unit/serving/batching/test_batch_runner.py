"""What stands between a runtime's batches: examinations, a piece at a time."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

from penstock.core.clock import ManualClock
from penstock.core.errors import WrongOutputs
from penstock.models.runtimes.runtime import Runtime
from penstock.serving.batching.batch_runner import BatchRunner

GUARD_S = 10.0


class Rig:
    """A runner whose batches are empty: each only says that it has run."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.seen: list[str] = []
        self.runner = BatchRunner(self, self.clock, 60.0, self._ran)  # type: ignore[arg-type]
        self.runner._run_batch = lambda batch: batch  # type: ignore[method-assign,assignment,return-value]

    def _ran(self, batch: object) -> None:
        self.seen.append(str(batch))

    def close(self) -> None:
        self.seen.append("closed")

    def end(self) -> None:
        asyncio.run(self.runner.close())


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.end()


def test_batches_go_before_the_next_piece(rig: Rig) -> None:
    def work(runtime: Runtime) -> Iterator[None]:
        for number in range(3):
            rig.seen.append(f"piece {number}")
            rig.runner.put([f"batch {number}"])  # type: ignore[list-item]
            yield

    assert rig.runner.examine(work).result(GUARD_S) == 0.0
    assert rig.seen == [f"{what}" for n in range(3) for what in (f"piece {n}", f"['batch {n}']")]


def test_pauses_are_no_part_of_what_it_took(rig: Rig) -> None:
    def work(runtime: Runtime) -> Iterator[None]:
        for seconds in (0.001, 0.002):
            rig.clock.advance(seconds)
            yield
            rig.clock.advance(0.004)

    assert rig.runner.examine(work).result(GUARD_S) == pytest.approx(0.011)


def test_a_plain_one_is_a_piece(rig: Rig) -> None:
    def work(runtime: Runtime) -> None:
        rig.clock.advance(0.5)

    assert rig.runner.examine(work).result(GUARD_S) == 0.5


def test_what_a_later_piece_raises_ends_it(rig: Rig) -> None:
    def work(runtime: Runtime) -> Iterator[None]:
        yield
        raise WrongOutputs("row 7 differs")

    with pytest.raises(WrongOutputs, match="row 7"):
        rig.runner.examine(work).result(GUARD_S)
    assert rig.runner.examine(lambda _: None).result(GUARD_S) == 0.0, "the thread goes on"


def test_one_that_has_begun_does_not_hold_up_the_end() -> None:
    rig = Rig()
    begun = threading.Event()

    def work(runtime: Runtime) -> Iterator[None]:
        while True:
            begun.set()
            yield

    ended = rig.runner.examine(work)
    assert begun.wait(GUARD_S)
    rig.end()
    with pytest.raises(CancelledError):
        ended.result(GUARD_S)
    assert rig.seen == ["closed"]
