"""What the workers of an instance know together, and what clients of one ask of all of them."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence

import msgspec

from penstock.core.errors import NotFound, PenstockError, Refused
from penstock.observe.snapshot import MetricFamily, MetricTotals
from penstock.serving.statistics import DeploymentStatistics, merge_statistics
from penstock.supervision.channel import Channel
from penstock.supervision.messages import (
    Answer,
    Applied,
    Ask,
    FromWorker,
    Pinned,
    Report,
    Sample,
    ToWorker,
    Wanted,
)
from penstock.supervision.processes import WorkerProcess

__all__ = ["Exchange"]

SAMPLE_TIMEOUT_S = 1.0
APPLY_TIMEOUT_S = 120.0


class Exchange:
    """Adds up reports, and has orders of clients carried out by every worker.

    `processes` are all that run, by their lives; `answering` those of them that serve. `measured` is what the
    supervisor itself measures.
    """

    def __init__(
        self,
        processes: Mapping[int, WorkerProcess],
        answering: Callable[[], Mapping[int, WorkerProcess]],
        measured: Callable[[], Sequence[MetricFamily]],
    ) -> None:
        self._processes = processes
        self._answering = answering
        self._measured = measured
        self._totals = MetricTotals()
        self._retired: tuple[DeploymentStatistics, ...] = ()
        self._requests = 0
        self._samples: dict[int, tuple[set[int], asyncio.Event]] = {}
        self._orders: dict[int, tuple[set[int], asyncio.Event, list[Applied]]] = {}
        self._ordering = asyncio.Lock()
        self.wanted = Wanted()

    def retire(self, report: Report) -> None:
        """Keeps what a worker that has ended had counted."""
        self._totals.retire(report.metrics)
        self._retired = merge_statistics((*self._retired, *(each.ended() for each in report.statistics)))

    def statistics(self) -> tuple[DeploymentStatistics, ...]:
        """What all workers together have counted, as far as they have reported it."""
        reports = [process.report for process in self._processes.values() if process.report is not None]
        live = [each for report in reports for each in report.statistics]
        return merge_statistics((*live, *self._retired))

    def reported(self, life: int, report: Report) -> None:
        if report.request in self._samples:
            awaited, all_told = self._samples[report.request]
            _cross_off(awaited, all_told, life)

    def applied(self, life: int, applied: Applied) -> None:
        if applied.revision in self._orders:
            awaited, all_told, failures = self._orders[applied.revision]
            if applied.error is not None:
                failures.append(applied)
            _cross_off(awaited, all_told, life)

    def left(self, life: int) -> None:
        """A worker that has ended answers nothing more."""
        for awaited, all_told in self._samples.values():
            _cross_off(awaited, all_told, life)
        for awaited, all_told, _ in self._orders.values():
            _cross_off(awaited, all_told, life)

    async def answer(self, ask: Ask, channel: Channel[ToWorker, FromWorker]) -> None:
        """Answers what a worker asks."""
        try:
            channel.send(Answer(request=ask.request, result=await self._result(ask)))
        except PenstockError as error:
            channel.send(
                Answer(
                    request=ask.request,
                    error=error.name if isinstance(error, _Relayed) else type(error).__name__,
                    message=error.message,
                    hint=error.hint,
                )
            )

    async def _result(self, ask: Ask) -> object:
        match ask.verb:
            case "metrics":
                reports = await self._sample()
                living = [(str(life), report.metrics) for life, report in reports]
                return self._totals.render([("supervisor", self._measured()), *living])
            case "statistics":
                await self._sample()
                return self.statistics()
            case "load" | "unload":
                async with self._ordering:
                    await self._order(_ordered(self.wanted, ask))
                return None
        raise NotFound(f"a supervisor does not know {ask.verb!r}")

    async def _sample(self) -> list[tuple[int, Report]]:
        """The reports of all that run: fresh ones of those that serve and answer in time, else their last."""
        asked = dict(self._answering())
        self._requests += 1
        request = self._requests
        told = asyncio.Event()
        self._samples[request] = (set(asked), told)
        try:
            for process in asked.values():
                process.channel.send(Sample(request))
            async with asyncio.timeout(SAMPLE_TIMEOUT_S):
                if asked:
                    await told.wait()
        except TimeoutError:
            pass
        finally:
            del self._samples[request]
        # Of those that run now: one that has ended meanwhile is among the retired, and must not count twice.
        return [
            (life, process.report) for life, process in self._processes.items() if process.report is not None
        ]

    async def _order(self, wanted: Wanted) -> None:
        """Has every worker serve what is wanted. Where one cannot, all go back to what was wanted before."""
        before = self.wanted
        self.wanted = wanted
        undone = msgspec.structs.replace(before, revision=wanted.revision + 1)
        try:
            failures = await self._apply(wanted)
        except Refused:
            # Workers take orders one after the other; waiting for this one as well is no use to the client.
            self.wanted = undone
            for process in self._answering().values():
                process.channel.send(undone)
            raise
        if failures:
            self.wanted = undone
            with contextlib.suppress(Refused):
                await self._apply(undone)
            raise _Relayed(failures[0])

    async def _apply(self, wanted: Wanted) -> list[Applied]:
        asked = dict(self._answering())
        told = asyncio.Event()
        failures: list[Applied] = []
        self._orders[wanted.revision] = (set(asked), told, failures)
        try:
            for process in asked.values():
                process.channel.send(wanted)
            async with asyncio.timeout(APPLY_TIMEOUT_S):
                if asked:
                    await told.wait()
        except TimeoutError:
            raise Refused("not every worker has done it in time", reason="workers") from None
        finally:
            del self._orders[wanted.revision]
        return failures


class _Relayed(PenstockError):
    """A worker's error. Its name crosses the process, for the type to be found again there."""

    def __init__(self, applied: Applied) -> None:
        super().__init__(applied.message, hint=applied.hint)
        self.name = applied.error


def _cross_off(awaited: set[int], all_told: asyncio.Event, life: int) -> None:
    awaited.discard(life)
    if not awaited:
        all_told.set()


def _ordered(wanted: Wanted, ask: Ask) -> Wanted:
    """What is wanted once a client's order is carried out."""
    loaded = set(wanted.loaded)
    unloaded = set(wanted.unloaded)
    dropped = set(wanted.dropped)
    pinned = Pinned(ask.model, ask.version or "")
    if ask.verb == "load":
        loaded.add(pinned)
        if ask.version is None:
            unloaded.discard(ask.model)
        dropped.discard(pinned)
    elif ask.version is None:
        loaded = {each for each in loaded if each.model != ask.model}
        dropped = {each for each in dropped if each.model != ask.model}
        unloaded.add(ask.model)
    else:
        loaded.discard(pinned)
        dropped.add(pinned)
    return Wanted(
        revision=wanted.revision + 1,
        loaded=tuple(sorted(loaded)),
        unloaded=tuple(sorted(unloaded)),
        dropped=tuple(sorted(dropped)),
    )
