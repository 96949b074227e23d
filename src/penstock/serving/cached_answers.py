"""A version's answers from its cache, and equal requests at once in one run (single-flight).

Whoever asks first leads: the run has its terms. Each caller waits for no longer than its own deadline, and may
leave. A leader that leaves leaves its run to the others; one that is refused, or late, is that alone: another
that has time left leads a run of its own. One that is more important, or due earlier, than a leader still in
the queue goes in its place, so that it never waits as if it were less.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

from penstock.core.clock import Clock
from penstock.core.errors import DeadlineExceeded, PenstockError, Refused
from penstock.core.tensors import Tensors, tensors_bytes
from penstock.serving.batching.outputs import BatchOutputs, BatchRows
from penstock.serving.batching.pending import PendingAnswer
from penstock.serving.cache.prediction_cache import CacheStatistics, PredictionCache, VersionCache
from penstock.serving.fallback.stale import Stale
from penstock.serving.inference import Inference
from penstock.serving.statistics import CacheCounts, Durations

__all__ = ["AnswerObserver", "CachedAnswers", "KeptAnswers"]

WAITING_MAX = 4096
"""So many wait for one run at most."""
ENTRY_BYTES = 1100
"""What an answer costs beside its elements, measured: objects, tables and its key."""
OUTPUT_BYTES = 450
"""Likewise each output in it, in the three forms that it is given in."""
ELEMENT_BYTES = 40
"""An element as a Python number in a list."""


class AnswerObserver(Protocol):
    """Told of those that did not lead; a leader is its run's."""

    def given(self, rows: int, seconds: float, now_s: float) -> None: ...

    def not_given(self, error: Exception, seconds: float) -> None: ...


class _Given(PendingAnswer):
    """An answer that is there, or a request that waits for another's run."""

    __slots__ = ("answers", "flight", "inference", "timer")

    def __init__(self, future: "asyncio.Future[BatchRows]") -> None:
        self.future = future

    @property
    def queued(self) -> bool:
        return False

    def abandon(self) -> None:
        """There is nothing to give up."""


class _Waiter(_Given):
    """One of those who wait for a flight."""

    __slots__ = ()

    def __init__(self, answers: "CachedAnswers", flight: "_Flight", inference: Inference) -> None:
        self.future = asyncio.get_running_loop().create_future()
        self.answers = answers
        self.flight = flight
        self.inference = inference
        self.timer: asyncio.TimerHandle | None = None

    def abandon(self) -> None:
        self.future.cancel()
        self.answers.left(self)


class _Flight:
    """A run, and who waits for it. `leader` is whose terms it has; None once that one has left."""

    __slots__ = ("begun_s", "key", "leader", "pending", "terms", "waiters")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.begun_s = 0.0
        self.waiters: dict[_Waiter, None] = {}
        self.leader: _Waiter | None = None
        self.terms = (0, 0.0)
        """Of the run: its criticality, and when it is due."""
        self.pending: PendingAnswer | None = None


class CachedAnswers:
    """What a deployment with a cache asks first. In the event loop alone.

    `run` has the model asked, and raises where the request is not taken on.
    """

    def __init__(
        self,
        cache: VersionCache[BatchRows],
        clock: Clock,
        run: Callable[[Inference], PendingAnswer],
        observer: AnswerObserver,
    ) -> None:
        self._cache = cache
        self._clock = clock
        self._run = run
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._flights: dict[bytes, _Flight] = {}
        self.hits_s = 0.0
        """From arrival to answer, of all that were answered from the cache."""

    def infer(self, inference: Inference) -> PendingAnswer:
        """What will hold the outputs. The inputs are conformed. Raises what `run` does."""
        key = self._cache.key(inference.tensors, inference.wanted)
        if key is None:
            return self._run(inference)
        given = self._give(key, inference)
        if given is not None:
            return given
        flight = self._flights.get(key)
        if flight is not None:
            return self._join(flight, inference)
        flight = _Flight(key)
        leader = _Waiter(self, flight, inference)
        self._lead(flight, leader)
        self._cache.missed()
        flight.waiters[leader] = None
        self._flights[key] = flight
        return leader

    def kept(self, inference: Inference) -> PendingAnswer | None:
        """The outputs if they are kept, and nothing is asked where they are not. The inputs are conformed."""
        key = self._cache.key(inference.tensors, inference.wanted)
        return None if key is None else self._give(key, inference)

    def statistics(self) -> CacheStatistics:
        return self._cache.statistics()

    def counts(self) -> CacheCounts:
        """Likewise, to be added up with those of other processes."""
        counted = self._cache.statistics()
        return CacheCounts(
            hits=Durations(counted.hits, self.hits_s),
            misses=counted.misses,
            joined=counted.joined,
            stale=counted.stale,
            saved_s=counted.saved_s,
        )

    def forget(self) -> None:
        """What was given so far, and what runs now, is given to nobody who asks from now on."""
        self._cache.forget()

    def close(self) -> None:
        """Nothing is looked up or kept any more; what runs is answered."""
        self._cache.close()

    def left(self, waiter: _Waiter) -> None:
        """Somebody does not wait any more."""
        flight = waiter.flight
        if waiter not in flight.waiters:
            return
        self._forget(waiter)
        if flight.leader is waiter:
            flight.leader = None
        if not flight.waiters:
            self._flights.pop(flight.key, None)
            if flight.pending is not None:
                flight.pending.abandon()

    def _give(self, key: bytes, inference: Inference) -> PendingAnswer | None:
        now_s = self._clock.monotonic()
        found = self._cache.get(key, now_s)
        if found is None:
            return None
        future = self._loop.create_future()
        future.set_result(found)
        seconds = now_s - inference.arrived_s
        self.hits_s += seconds
        self._observer.given(found.stop, seconds, now_s)
        return _Given(future)

    def _join(self, flight: _Flight, inference: Inference) -> PendingAnswer:
        if len(flight.waiters) >= WAITING_MAX:
            error = Refused(f"{WAITING_MAX} requests wait for the same answer already", reason="queue_full")
            self._observer.not_given(error, 0.0)
            raise error
        leader = flight.leader or next(iter(flight.waiters))
        # Its inputs are the same, so they are held once.
        waiter = _Waiter(self, flight, inference._replace(tensors=leader.inference.tensors))
        flight.waiters[waiter] = None
        pending = flight.pending
        assert pending is not None, "a flight that can be joined has a run"
        if _urgency(inference) < flight.terms and pending.queued:
            self._overtake(flight, waiter, pending)
        if flight.leader is not waiter:
            self._watch(waiter)
        self._cache.joined()
        return waiter

    def _overtake(self, flight: _Flight, waiter: _Waiter, pending: PendingAnswer) -> None:
        """The run gets the terms of one more important. It adds no load: the run that it replaces ends."""
        before = flight.leader
        try:
            self._lead(flight, waiter, admitted=True)
        except PenstockError:
            return
        pending.abandon()
        if before is not None:
            self._watch(before)

    def _lead(self, flight: _Flight, waiter: _Waiter, *, admitted: bool = False) -> None:
        """Starts a run with the waiter's terms. Raises what `run` does, and then nothing is changed."""
        inference = waiter.inference
        pending = self._run(inference._replace(admitted=True, weighed=True) if admitted else inference)
        flight.pending = pending
        flight.leader = waiter
        flight.terms = _urgency(inference)
        flight.begun_s = self._clock.monotonic()
        pending.future.add_done_callback(partial(self._landed, flight, pending))

    def _landed(self, flight: _Flight, pending: PendingAnswer, answer: "asyncio.Future[BatchRows]") -> None:
        """The run has an answer, or will have none."""
        if answer.cancelled():
            return
        error = answer.exception()
        if flight.pending is not pending or not flight.waiters:
            return
        if error is None:
            self._flights.pop(flight.key, None)
            self._answer(flight, answer.result())
        elif isinstance(error, Refused | DeadlineExceeded):
            leader = flight.leader
            if leader is not None:
                flight.leader = None
                self._forget(leader)
                _fail(leader, error)
            self._lead_anew(flight)
        else:
            self._flights.pop(flight.key, None)
            for waiter in list(flight.waiters):
                self._settle(waiter, error)

    def _answer(self, flight: _Flight, rows: BatchRows) -> None:
        now_s = self._clock.monotonic()
        if not rows.outputs.rung:
            rows = _own(rows)
            size_bytes = _weight(rows.outputs.tensors)
            self._cache.put(flight.key, rows, size_bytes, now_s, now_s - flight.begun_s)
        # The run itself is counted as its leader's answer, or, where that one has left, as the next one's.
        counted = flight.leader or next(iter(flight.waiters))
        for waiter in list(flight.waiters):
            self._forget(waiter)
            if waiter.future.done():
                continue
            waiter.future.set_result(rows)
            if waiter is not counted:
                seconds = now_s - waiter.inference.arrived_s
                self._observer.given(rows.stop - rows.start, seconds, now_s)

    def _lead_anew(self, flight: _Flight) -> None:
        """One of those who still wait leads; the most important, then the one with the least time, first."""
        for waiter in sorted(flight.waiters, key=lambda each: _urgency(each.inference)):
            try:
                self._lead(flight, waiter)
            except PenstockError as error:  # counted where it was raised
                self._forget(waiter)
                _fail(waiter, error)
            else:
                return
        self._flights.pop(flight.key, None)

    def _watch(self, waiter: _Waiter) -> None:
        """Sees to the deadline of one that does not lead; the queue sees to a leader's."""
        if waiter.timer is None:
            delay_s = max(0.0, waiter.inference.deadline_s - self._clock.monotonic())
            waiter.timer = self._loop.call_later(delay_s, self._late, waiter)

    def _late(self, waiter: _Waiter) -> None:
        flight = waiter.flight
        if waiter in flight.waiters and flight.leader is not waiter:
            error = DeadlineExceeded("the deadline passed before the model answered")
            self.left(waiter)
            _fail(waiter, error)
            self._observer.not_given(error, self._clock.monotonic() - waiter.inference.arrived_s)

    def _settle(self, waiter: _Waiter, error: BaseException) -> None:
        self._forget(waiter)
        _fail(waiter, error)
        if waiter is not waiter.flight.leader and isinstance(error, Exception):
            self._observer.not_given(error, self._clock.monotonic() - waiter.inference.arrived_s)

    def _forget(self, waiter: _Waiter) -> None:
        del waiter.flight.waiters[waiter]
        if waiter.timer is not None:
            waiter.timer.cancel()
            waiter.timer = None


class KeptAnswers:
    """Where ladders find answers that were given before."""

    def __init__(self, cache: PredictionCache[BatchRows], clock: Clock) -> None:
        self._cache = cache
        self._clock = clock

    def stale(self, model: str, inference: Inference, max_age_s: float) -> Stale | None:
        """The newest answer to the same inputs by any version of the model that is served."""
        now_s = self._clock.monotonic()
        found = self._cache.stale(model, inference.tensors, inference.wanted, now_s, max_age_s)
        return None if found is None else Stale(found[0].outputs.tensors, found[1])


def _fail(waiter: _Waiter, error: BaseException) -> None:
    if not waiter.future.done():
        waiter.future.set_exception(error)


def _urgency(inference: Inference) -> tuple[int, float]:
    """The least goes first: its criticality, and when it is due."""
    return inference.criticality, inference.deadline_s if inference.due_s is None else inference.due_s


def _own(rows: BatchRows) -> BatchRows:
    """A caller's rows apart from their batch, which would be held with them, and not to be changed."""
    outputs: Tensors = {}
    for name, array in rows.outputs.tensors.items():
        outputs[name] = own = array[rows.start : rows.stop].copy()
        own.flags.writeable = False
    return BatchRows(BatchOutputs(outputs), 0, rows.stop - rows.start)


def _weight(tensors: Tensors) -> int:
    """What an answer holds once it has been given in every form: arrays, lists of Python values, and bytes."""
    size_bytes = ENTRY_BYTES + 2 * tensors_bytes(tensors)
    for array in tensors.values():
        size_bytes += OUTPUT_BYTES + ELEMENT_BYTES * array.size
    return size_bytes
