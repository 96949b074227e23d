"""Runs batches on a runtime, in a thread of its own, one at a time."""

import asyncio
import enum
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from penstock.core.calling import on_behalf_of
from penstock.core.clock import Clock
from penstock.core.errors import InvalidInput, ModelFailed, PenstockError
from penstock.core.tensors import Tensors, concatenate_rows
from penstock.models.runtimes.runtime import Examine, Runtime
from penstock.serving.batching.pending import PendingRequest

__all__ = ["BatchRunner", "FinishedBatch"]

log = logging.getLogger(__name__)

JOIN_S_MAX = 1.0
PAUSE_TIMES, PAUSE_S_MAX = 9.0, 0.25
"""Between two pieces of an examination the runtime is left to others for so many times as long as the first one
took, but no longer than that.
"""


class _Revive(enum.Enum):
    REVIVE = "revive"


_REVIVE: Final = _Revive.REVIVE


@dataclass(slots=True)
class _Examination:
    """What is to be done with the runtime beside running batches. `pieces` once it has begun, the next of them
    from `due_s` on; `spent_s` is what they took in all.
    """

    work: Examine
    ended: "Future[float]"
    pieces: Iterator[None] | None = None
    due_s: float = 0.0
    spent_s: float = 0.0


_Errand = list[PendingRequest] | _Revive | _Examination | None


@dataclass(slots=True)
class FinishedBatch:
    """What a run gave: outputs for all together, or (when the run failed) each request's own outcome."""

    requests: list[PendingRequest]
    rows: int
    started_s: float
    ended_s: float
    outputs: Tensors | None
    outcomes: list[Tensors | PenstockError] | None = None


class BatchRunner:
    """`ran` is called in the runner's thread with what each batch gave. The runtime is closed with it."""

    def __init__(
        self,
        runtime: Runtime,
        clock: Clock,
        run_timeout_s: float,
        ran: Callable[[FinishedBatch], object],
    ) -> None:
        self._runtime = runtime
        self._clock = clock
        self._run_timeout_s = run_timeout_s
        self._ran = ran
        self._reviving = False
        self._begun: deque[_Examination] = deque()
        """Examinations of which there are pieces left."""
        self._batches: queue.SimpleQueue[_Errand] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run_batches, name="runtime", daemon=True)
        self._thread.start()

    def put(self, batch: list[PendingRequest]) -> None:
        """Runs the batch after those before it."""
        self._batches.put(batch)

    def examine(self, work: Examine) -> "Future[float]":
        """Does `work` with the runtime between batches, a piece at a time. The future has what it raised, or
        how long it took, in seconds; it is cancelled where the thread ends before.
        """
        ended: Future[float] = Future()
        self._batches.put(_Examination(work, ended))
        return ended

    def revive(self) -> None:
        """Starts a runtime that is down anew."""
        if not self._reviving:
            self._reviving = True
            self._batches.put(_REVIVE)

    async def close(self) -> None:
        """Ends the thread, then closes the runtime."""
        self._batches.put(None)
        # A thread that is stuck in a run that cannot be stopped is left to die with the process.
        await asyncio.to_thread(self._thread.join, JOIN_S_MAX)
        if not self._thread.is_alive():
            self._runtime.close()

    def _run_batches(self) -> None:
        """The runtime's thread."""
        while (batch := self._next()) is not None:
            if isinstance(batch, _Revive):
                self._revive_runtime()
                continue
            if isinstance(batch, _Examination):
                self._examine(batch)
                continue
            self._ran(self._run_batch(batch))
            del batch
        for examination in self._begun:
            examination.ended.cancel()

    def _next(self) -> _Errand:
        """What is to be done: what was put here, or else an examination whose pause is over."""
        if not self._begun:
            return self._batches.get()
        pause_s = self._begun[0].due_s - self._clock.monotonic()
        with suppress(queue.Empty):
            return self._batches.get(timeout=pause_s) if pause_s > 0 else self._batches.get_nowait()
        return self._begun.popleft()

    def _examine(self, examination: _Examination) -> None:
        """One piece of it."""
        began_s = self._clock.monotonic()
        try:
            if examination.pieces is None:
                examination.pieces = examination.work(self._runtime) or iter(())
            next(examination.pieces)
        except StopIteration:
            examination.ended.set_result(examination.spent_s + self._clock.monotonic() - began_s)
        except BaseException as error:
            examination.ended.set_exception(_bare(error))
        else:
            now_s = self._clock.monotonic()
            examination.spent_s += now_s - began_s
            examination.due_s = now_s + min(PAUSE_TIMES * (now_s - began_s), PAUSE_S_MAX)
            self._begun.append(examination)

    def _revive_runtime(self) -> None:
        try:
            self._runtime.revive()
        except Exception:
            # Nothing may end this thread: whoever asked later would wait for an answer until the deadline.
            log.exception("a runtime that is down does not start")
        finally:
            self._reviving = False

    def _run_batch(self, batch: list[PendingRequest]) -> FinishedBatch:
        started_s = self._clock.monotonic()
        rows = sum(request.rows for request in batch)
        outputs: Tensors | None = None
        outcomes: list[Tensors | PenstockError] | None = None
        # What the model calls in turn is wanted as long as one of them waits, and matters as much as the first.
        deadline_s = max(request.deadline_s for request in batch)
        with on_behalf_of(deadline_s, min(request.criticality for request in batch)):
            try:
                outputs = self._run_rows([request.tensors for request in batch], rows)
            except InvalidInput as error:
                outcomes = self._run_apart(batch) if len(batch) > 1 else [_bare(error)]
            except BaseException as error:  # whatever a runtime raises, exits too, goes to the callers
                outcomes = [_bare(error)] * len(batch)
        return FinishedBatch(batch, rows, started_s, self._clock.monotonic(), outputs, outcomes)

    def _run_apart(self, batch: list[PendingRequest]) -> list[Tensors | PenstockError]:
        """Each request alone: one caller's rows that the model refuses are no other caller's concern."""
        outcomes: list[Tensors | PenstockError] = []
        for request in batch:
            try:
                outcomes.append(self._run_rows([request.tensors], request.rows))
            except BaseException as error:
                outcomes.append(_bare(error))
        return outcomes

    def _run_rows(self, parts: list[Tensors], rows: int) -> Tensors:
        outputs = self._runtime.run(concatenate_rows(parts), self._run_timeout_s)
        given = {len(array) for array in outputs.values()}
        if given != {rows}:
            raise ModelFailed(
                f"the model gave {' and '.join(map(str, sorted(given))) or 'no'} rows for {rows}",
                hint="each row of inputs has to give one row of outputs, whatever else is in the batch",
            )
        return outputs


def _bare(error: BaseException) -> PenstockError:
    """The error without its traceback and causes: their frames hold the whole batch, in a circle with it."""
    if not isinstance(error, PenstockError):
        log.error("a model raised", exc_info=error)
        error = ModelFailed(f"the model raised {type(error).__name__}", hint="the server's log has the details")
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
