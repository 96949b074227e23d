"""One process's share of the load, on one event loop. A request counts from its intended time."""

import asyncio
from collections import deque
from typing import NamedTuple

from penstock.core.clock import Clock
from penstock.drills.surge.connection import Connection, Flight
from penstock.drills.surge.plan import Plan
from penstock.drills.surge.recording import Finished, Outcome, Recording
from penstock.drills.surge.retrying import Retrying
from penstock.drills.surge.schedule import Schedule

__all__ = ["Generator", "GeneratorUse"]

CONNECTING_MAX = 32
"""Connections opened at once: more overflow the server's backlog, and the kernel then drops them unseen."""
RECONNECT_PAUSE_S = 0.05
REFUSED_PAUSE_S = 0.02
STEP_S = 0.001
"""Arrivals are sent in steps of a millisecond: shorter timers turn into a loop that takes a core for itself."""
SWEEP_S = 0.01
_RETRIED = (Outcome.SHED, Outcome.EXPIRED, Outcome.TIMEOUT, Outcome.UNSENT, Outcome.BROKEN)


class GeneratorUse(NamedTuple):
    """What one process needed."""

    run_s: float
    loop_lag_s_max: float
    reconnects: int
    gave_up: int
    """Clients that were never answered, with all their retries."""


class Generator:
    """Sends a schedule over connections that it holds open, and records what comes of each request.

    `open()`, then `await run(at)`. Waiting requests, those in flight and retries are each bounded in time:
    by the objective, by the timeout, by the end of the load.
    """

    def __init__(self, plan: Plan, schedule: Schedule, clock: Clock, *, connections: int) -> None:
        load = plan.load
        self._plan, self._clock = plan, clock
        self._at_s: list[float] = schedule.at_s.tolist()
        self._kinds: list[int] = schedule.kind.tolist()
        self._next = 0
        self._end_s = load.shape.duration_s
        if schedule.cut:
            # What the limit on requests cut off does not come: there is nothing to wait for.
            self._end_s = float(schedule.at_s[-1]) if len(schedule.at_s) else 0.0
        self._start_s = 0.0
        self._wanted = connections
        self._idle: list[Connection] = []
        self._waiting: deque[Flight] = deque()
        self._flying: deque[Flight] = deque()
        self._retrying = Retrying(load.retry, end_s=self._end_s)
        self._finished: list[Finished] = []
        self._timer: asyncio.Handle | None = None
        self._timer_s = 0.0
        self._over = asyncio.Event()
        self._connecting = asyncio.Semaphore(CONNECTING_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._sent = 0
        self._lag_s_max = 0.0
        self._reconnects = 0
        self._running = False
        self._unreachable = False
        self.offered = 0
        self.recording = Recording(duration_s=load.shape.duration_s, kinds=len(load.mix))

    async def open(self) -> int:
        """Opens all connections; how many there are. Raises `OSError` where there is none."""
        found = await asyncio.gather(*(self._connect() for _ in range(self._wanted)), return_exceptions=True)
        failures = [each for each in found if isinstance(each, BaseException)]
        if len(failures) == len(found):
            raise failures[0]
        return len(found) - len(failures)

    async def run(self, at_s: float) -> GeneratorUse:
        """The whole load, begun at this monotonic time; ends when the last request has its outcome."""
        loop = asyncio.get_running_loop()
        self._start_s = at_s
        await asyncio.sleep(max(at_s - self._clock.monotonic(), 0))
        self._running = True
        for _ in range(self._plan.closed_loop):
            self._offer(self._now(), 0, 0)
        self._dispatch()
        loop.call_later(SWEEP_S, self._sweep, self._now() + SWEEP_S)
        await self._over.wait()
        self._running = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._flush()
        gave_up = self._retrying.gave_up + len(self._retrying)
        return GeneratorUse(min(self._now(), self._end_s), self._lag_s_max, self._reconnects, gave_up)

    def stop(self) -> None:
        """No further requests; those in flight still get their outcome."""
        self._end_s = min(self._end_s, max(self._now(), 0.0))
        self._next = len(self._at_s)

    def _now(self) -> float:
        return self._clock.monotonic() - self._start_s

    def _dispatch(self) -> None:
        """Offers all that is due, and sets the timer for what comes next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now_s = self._now()
        at_s, kinds, index = self._at_s, self._kinds, self._next
        while index < len(at_s) and at_s[index] <= now_s:
            self._offer(at_s[index], kinds[index], 0)
            index += 1
        self._next = index
        for due_s, attempt, kind in self._retrying.due(min(now_s, self._end_s)):
            self._offer(due_s, kind, attempt)
        due = [at_s[index]] if index < len(at_s) else []
        if self._retrying.next_s is not None:
            due.append(self._retrying.next_s)
        if due and self._running:
            self._wake(min(due))

    def _offer(self, intended_s: float, kind: int, attempt: int) -> None:
        self.offered += 1
        flight = Flight(intended_s, max(self._now() - intended_s, 0.0), kind, attempt)
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                self._send(connection, flight)
                return
        self._waiting.append(flight)

    def _send(self, connection: Connection, flight: Flight) -> None:
        plan = self._plan
        self._sent += 1
        self._flying.append(flight)
        tail = plan.tails[self._sent % len(plan.tails)]
        connection.send(flight, plan.heads[flight.kind][flight.attempt] + tail)

    def _sweep(self, expected_s: float) -> None:
        """What has waited too long ends here; so does the load."""
        now_s = self._now()
        self._lag_s_max = max(self._lag_s_max, now_s - expected_s)
        objective_s, timeout_s = self._plan.load.objective_s, self._plan.load.timeout_s
        while self._waiting and self._waiting[0].intended_s + objective_s <= now_s:
            # Whose fault it is that no connection was free: the server's, where it takes none.
            outcome = Outcome.BROKEN if self._unreachable else Outcome.UNSENT
            self._count(self._waiting.popleft(), outcome, 0, now_s)
        while self._flying and (self._flying[0].over or self._flying[0].intended_s + timeout_s <= now_s):
            flight = self._flying.popleft()
            if not flight.over:
                if flight.connection is not None:
                    flight.connection.abort()
                self._count(flight, Outcome.TIMEOUT, 0, now_s)
        self._flush()
        if now_s >= self._end_s and self._next == len(self._at_s) and not (self._waiting or self._flying):
            self._over.set()
            return
        asyncio.get_running_loop().call_later(SWEEP_S, self._sweep, now_s + SWEEP_S)

    def _count(self, flight: Flight, outcome: Outcome, label: int, now_s: float) -> None:
        flight.over = True
        latency_s = now_s - flight.intended_s
        self._finished.append(
            Finished(
                flight.intended_s, latency_s, flight.lateness_s, flight.kind, outcome, label, flight.attempt
            )
        )
        if self._plan.closed_loop:
            if now_s < self._end_s:
                # A server that refuses would do nothing else if who was refused came back at once.
                pause_s = 0.0 if outcome <= Outcome.LATE else REFUSED_PAUSE_S
                asyncio.get_running_loop().call_later(pause_s, lambda: self._offer(self._now(), flight.kind, 0))
        elif outcome in _RETRIED and self._retrying.failed(now_s, flight.kind, flight.attempt):
            self._come_back()

    def _come_back(self) -> None:
        """The timer may be set for later than who just failed is due; or there is none any more."""
        due_s = self._retrying.next_s
        if due_s is not None and (self._timer is None or due_s + STEP_S < self._timer_s):
            if self._timer is not None:
                self._timer.cancel()
            self._wake(due_s)

    def _wake(self, due_s: float) -> None:
        now_s = self._now()
        self._timer_s = max(due_s, now_s + STEP_S)
        self._timer = asyncio.get_running_loop().call_later(self._timer_s - now_s, self._dispatch)

    def _flush(self) -> None:
        finished, self._finished = self._finished, []
        self.recording.add(finished)

    # What connections tell.

    def answered(self, flight: Flight, status: int, reason: bytes, rung: bytes) -> None:
        now_s = self._now()
        if status == 200:
            good = now_s - flight.intended_s <= self._plan.load.objective_s
            label = self.recording.label(rung.decode("latin-1")) if rung else 0
            self._count(flight, Outcome.GOOD if good else Outcome.LATE, label, now_s)
        elif status in (429, 503):
            told = reason.decode("latin-1")[:64] or f"status {status}"
            self._count(flight, Outcome.SHED, self.recording.label(told), now_s)
        elif status == 504:
            self._count(flight, Outcome.EXPIRED, 0, now_s)
        else:
            self._count(flight, Outcome.FAILED, self.recording.label(f"status {status}"), now_s)

    def freed(self, connection: Connection) -> None:
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._idle.append(connection)

    def broken(self, flight: Flight) -> None:
        if not flight.over:
            self._count(flight, Outcome.BROKEN, 0, self._now())

    def lost(self) -> None:
        """Another one takes its place. An idle one that is lost is thrown away when its turn comes."""
        if self._running and self._now() < self._end_s:
            task = asyncio.get_running_loop().create_task(self._reconnect())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _reconnect(self) -> None:
        self._reconnects += 1
        while self._running:
            if await self._connect_again():
                return

    async def _connect_again(self) -> bool:
        """Who fails keeps its place meanwhile: a thousand that try again at once would take the processor."""
        async with self._connecting:
            try:
                connection = await self._connection()
            except OSError:
                self._unreachable = True
                await asyncio.sleep(RECONNECT_PAUSE_S)
                return False
        self._unreachable = False
        self.freed(connection)
        return True

    async def _connect(self) -> None:
        async with self._connecting:
            connection = await self._connection()
        self.freed(connection)

    async def _connection(self) -> Connection:
        target = self._plan.target
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(self), target.host, target.port
        )
        return connection
