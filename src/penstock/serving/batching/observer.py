"""Who is told what a dispatcher does."""

from typing import NamedTuple, Protocol

__all__ = ["BatchRun", "DispatchObserver"]


class BatchRun(NamedTuple):
    """A batch that ran for `seconds`. Its first request had waited `first_waited_s`, all of them `waited_s`."""

    requests: int
    rows: int
    first_waited_s: float
    waited_s: float
    seconds: float


class DispatchObserver(Protocol):
    """Is told what happens, in the event loop."""

    def taken(self, sojourn_s: float) -> None:
        """A batch was formed whose newest request had waited so long, deliberate waiting not counted."""
        ...

    def batch(self, run: BatchRun) -> None: ...

    def answered(self, rows: int, seconds: float, now_s: float) -> None:
        """A request of `rows` was answered at `now_s` (monotonic), `seconds` after it came."""
        ...

    def failed(self, error: Exception, seconds: float) -> None:
        """A request was not answered, `seconds` after it came."""
        ...
