"""What each kind of rung does when it is asked."""

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol

from penstock.core.calling import on_behalf_of
from penstock.core.errors import ConfigurationError, ModelFailed, NotFound, PenstockError, Refused
from penstock.core.signature import Signature
from penstock.core.tensors import Array, Tensors, row_count, slice_rows
from penstock.serving.batching.outputs import BatchOutputs, BatchRows
from penstock.serving.batching.pending import Answer
from penstock.serving.fallback.bulkhead import Bulkhead, BulkheadPermit
from penstock.serving.fallback.fitting import check_backup, constant_answer, fitted, outputs_of
from penstock.serving.fallback.rungs import (
    CACHED,
    CONSTANT,
    HEURISTIC,
    Backup,
    Cached,
    Constant,
    Heuristic,
    Rung,
)
from penstock.serving.fallback.stale import StaleAnswers
from penstock.serving.inference import Inference

__all__ = ["AskedModel", "Step", "Waiting", "step_of"]

log = logging.getLogger(__name__)

HEURISTIC_THREADS = 2
"""A function that hangs takes one with it; with the second, the others still answer."""


class AskedModel(Protocol):
    """A version that a ladder asks, its own or a backup's."""

    @property
    def model(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def signature(self) -> Signature: ...

    def ask(self, inference: Inference) -> Answer:
        """What will hold the version's own answer, no other rung's."""
        ...

    def beyond_s(self, rows: int) -> float:
        """How much longer so many rows take than what fits a batch, in seconds, as predicted."""
        ...


class Waiting(NamedTuple):
    """A rung that computes: what will hold its answer, and what to call when nobody wants it any more."""

    future: "asyncio.Future[BatchRows]"
    abandon: Callable[[], object]


class Step(Protocol):
    """A rung at work. Whatever it raises or gives up on goes to the next one."""

    name: str
    computes: bool
    """Whether its answer takes time."""
    expires: bool
    """Whether it drops by itself what is not answered in time."""
    longest_s: float
    """What it may take at most, however much time there is."""

    def ask(self, inference: Inference, until_s: float) -> BatchRows | Waiting:
        """The answer, or what will hold it; its inputs are conformed. Raises where there is none to be had."""
        ...

    def check(self) -> None:
        """Raises `ConfigurationError` where it cannot stand in for the model."""
        ...

    def close(self) -> None: ...


def step_of(
    rung: Rung, asked: AskedModel, find: Callable[[str], AskedModel | None], stale: StaleAnswers | None
) -> Step:
    """What does what the rung says. Raises `ConfigurationError` for a constant that does not fit the model."""
    match rung:
        case Cached():
            return _CachedStep(rung, asked, stale)
        case Backup():
            return _BackupStep(rung, asked, find)
        case Constant():
            return _ConstantStep(rung, asked)
        case Heuristic():
            return _HeuristicStep(rung, asked)


class _CachedStep:
    """Answers at once, so that no two are ever inside together: it needs no bulkhead."""

    name = CACHED
    computes = False
    expires = False
    longest_s = math.inf

    def __init__(self, rung: Cached, asked: AskedModel, stale: StaleAnswers | None) -> None:
        self._max_age_s = rung.max_age_s
        self._asked = asked
        self._stale = stale

    def ask(self, inference: Inference, until_s: float) -> BatchRows:  # noqa: ARG002 - a step's signature
        model = self._asked.model
        found = self._stale and self._stale.stale(model, inference, self._max_age_s)
        if not found:
            raise NotFound("no answer to these inputs is kept that is young enough")
        outputs = outputs_of(self._asked.signature, found.tensors)
        if outputs is None:
            raise NotFound(f"version {found.version}, which answered these inputs last, gives other outputs")
        return BatchRows(BatchOutputs(outputs, CACHED, model, found.version), 0, row_count(outputs))

    def check(self) -> None: ...

    def close(self) -> None: ...


class _ConstantStep:
    """Likewise."""

    name = CONSTANT
    computes = False
    expires = False
    longest_s = math.inf

    def __init__(self, rung: Constant, asked: AskedModel) -> None:
        self._asked = asked
        self._answer = constant_answer(asked.model, asked.signature, rung)

    def ask(self, inference: Inference, until_s: float) -> BatchRows:  # noqa: ARG002 - a step's signature
        rows = row_count(inference.tensors)
        return BatchRows(BatchOutputs(self._answer(rows), CONSTANT, self._asked.model), 0, rows)

    def check(self) -> None: ...

    def close(self) -> None: ...


class _BackupStep:
    """Asks what answers for the backup model now, with its queue, admission and breaker but not its ladder."""

    computes = True
    expires = True
    longest_s = math.inf

    def __init__(self, rung: Backup, asked: AskedModel, find: Callable[[str], AskedModel | None]) -> None:
        self.name = rung.name
        self._asked = asked
        self._find = find
        self._bulkhead = Bulkhead(rung.concurrency)
        self._outputs = [spec.name for spec in asked.signature.outputs]
        self._known: tuple[AskedModel, ConfigurationError | None] | None = None

    def ask(self, inference: Inference, until_s: float) -> Waiting:
        backup = self._backup()
        permit = _entered(self._bulkhead, self.name)
        try:
            answer = backup.ask(
                inference._replace(
                    tensors={spec.name: inference.tensors[spec.name] for spec in backup.signature.inputs},
                    deadline_s=until_s,
                    due_s=None,
                    wanted=None,
                    admitted=False,
                )
            )
        except BaseException:
            permit.leave()
            raise
        answered: asyncio.Future[BatchRows] = answer.future.get_loop().create_future()

        def done(given: "asyncio.Future[BatchRows]") -> None:
            permit.leave()
            error = None if given.cancelled() else given.exception()
            if answered.done():
                return
            if given.cancelled():
                answered.cancel()
            elif error is not None:
                answered.set_exception(error)
            else:
                answered.set_result(self._own(backup, given.result()))

        answer.future.add_done_callback(done)
        return Waiting(answered, answer.abandon)

    def check(self) -> None:
        backup = self._find(self.name)
        if backup is not None:
            check_backup(self._asked.model, self._asked.signature, backup.model, backup.signature)

    def close(self) -> None: ...

    def _own(self, backup: AskedModel, rows: BatchRows) -> BatchRows:
        """The outputs that the model would have given, of this caller alone: the others' are no fallbacks."""
        tensors = {name: rows.outputs.tensors[name] for name in self._outputs}
        given = BatchOutputs(
            slice_rows(tensors, rows.start, rows.stop), self.name, backup.model, backup.version
        )
        return BatchRows(given, 0, rows.stop - rows.start)

    def _backup(self) -> AskedModel:
        """What answers for it now. Raises where that does not fit, or there is none."""
        backup = self._find(self.name)
        if backup is None:
            raise Refused(f"no version of {self.name!r} is loaded", reason="backup")
        if self._known is None or self._known[0] is not backup:
            self._known = (backup, self._misfit(backup))
        misfit = self._known[1]
        if misfit is not None:
            raise misfit
        return backup

    def _misfit(self, backup: AskedModel) -> ConfigurationError | None:
        asked = self._asked
        try:
            check_backup(asked.model, asked.signature, backup.model, backup.signature)
        except ConfigurationError as error:
            log.error("%s", error)
            return error.with_traceback(None)
        return None


class _HeuristicStep:
    """Calls the function in threads of its own, never in the event loop."""

    name = HEURISTIC
    computes = True
    expires = False

    def __init__(self, rung: Heuristic, asked: AskedModel) -> None:
        self._function = rung.function
        self.longest_s = rung.timeout_ms / 1000
        self._asked = asked
        self._bulkhead = Bulkhead(rung.concurrency)
        self._threads = ThreadPoolExecutor(HEURISTIC_THREADS, thread_name_prefix=f"heuristic-{asked.model}")
        self._said: set[str] = set()

    def ask(self, inference: Inference, until_s: float) -> Waiting:
        permit = _entered(self._bulkhead, self.name)
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[BatchRows] = loop.create_future()
        try:
            work = self._threads.submit(
                self._call, _read_only(inference.tensors), until_s, inference.criticality
            )
        except BaseException:
            permit.leave()
            raise

        def finished(work: "Future[BatchRows]") -> None:
            # A loop that has closed wants no answers.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_hand_over, work, answered, permit)

        work.add_done_callback(finished)
        return Waiting(answered, work.cancel)

    def check(self) -> None: ...

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _call(self, tensors: Tensors, until_s: float, criticality: int) -> BatchRows:
        """In one of the threads."""
        rows = row_count(tensors)
        try:
            with on_behalf_of(until_s, criticality):
                given = fitted(self._asked.signature, self._function(tensors), rows)
        except BaseException as error:
            raise self._blamed(error) from None
        return BatchRows(BatchOutputs(given, HEURISTIC, self._asked.model), 0, rows)

    def _blamed(self, error: BaseException) -> PenstockError:
        """Told to the log once for each kind: under load it may be asked ten thousand times a second."""
        kind = type(error).__name__
        if kind not in self._said and len(self._said) < 100:
            self._said.add(kind)
            log.error("the heuristic of model %r does not answer", self._asked.model, exc_info=error)
        return error if isinstance(error, PenstockError) else ModelFailed(f"the heuristic raised {kind}")


def _entered(bulkhead: Bulkhead, name: str) -> BulkheadPermit:
    permit = bulkhead.enter()
    if permit is None:
        raise Refused(f"as many requests wait for rung {name!r} as may", reason="bulkhead")
    return permit


def _read_only(tensors: Mapping[str, Array]) -> Tensors:
    """Views that a function cannot write through: the rungs below get the same inputs."""
    views = {name: array.view() for name, array in tensors.items()}
    for view in views.values():
        view.flags.writeable = False
    return views


def _hand_over(
    work: "Future[BatchRows]", answered: "asyncio.Future[BatchRows]", permit: BulkheadPermit
) -> None:
    """In the event loop, when the thread is through: only then is there room for another."""
    permit.leave()
    if answered.done():
        return
    if work.cancelled():
        answered.cancel()
    elif (error := work.exception()) is not None:
        answered.set_exception(error.with_traceback(None))
    else:
        answered.set_result(work.result())
