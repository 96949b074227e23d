"""What the event loop reads of a process runtime while the runtime's thread changes it."""

from types import SimpleNamespace

from penstock.models.runtimes.process import ProcessRuntime


class Vanishing(ProcessRuntime):
    """Its worker is there at the first look, and gone at the next."""

    def __init__(self) -> None:
        self._looks = 0

    @property
    def _worker(self):  # type: ignore[no-untyped-def,override]
        self._looks += 1
        return SimpleNamespace(process=SimpleNamespace(pid=2**22 + 1)) if self._looks == 1 else None


def test_a_worker_that_dies_while_it_is_looked_at() -> None:
    assert Vanishing().pid == 2**22 + 1
    assert Vanishing().memory_bytes == 0, "no process has that number"
