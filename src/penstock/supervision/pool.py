"""Which worker processes there should be: decided from what has happened, with no process in sight.

Every method takes the time (monotonic seconds) and returns what is to be done. A worker that ends is started
anew, with back-off when it keeps ending; one that says nothing for too long is killed; on a reload each is
replaced by a new one, which has to stand before the old one drains, so that somebody always answers. Workers
for streams are started once one that serves has found that the app has streams.
"""

from collections.abc import Iterator

import msgspec

from penstock.supervision.actions import Action, End, Kill, Role, Say, Spawn
from penstock.supervision.places import Life, Place, WorkerState, WorkerView

__all__ = ["Pool", "PoolConfig"]

AWAY_S = 2.0
"""Who is not asked what to do for longer was away itself: what workers said meanwhile may lie unread."""


class PoolConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`start_timeout_s` bounds the time until a worker stands, `silence_s` that between two reports of it
    (`stream_silence_s` of one for streams), `drain_timeout_s` that from the order to drain to its end.
    """

    workers: int
    start_timeout_s: float
    silence_s: float = 15.0
    stream_silence_s: float = 15.0
    drain_timeout_s: float


class Pool:
    """The workers of a serve instance."""

    def __init__(self, config: PoolConfig) -> None:
        self._config = config
        self._proven_config = config
        self._checked_s = float("-inf")
        self._slots = [Place(number) for number in range(1, config.workers + 1)]
        self._streams = 0
        self._proven_streams = 0
        """How many workers for streams there should be, and should have been before a reload."""
        self._lives: dict[int, Life] = {}
        self._next_life = 1
        self._generation = 0
        self._newest_generation = 0
        """Generations are counted on, also after one that did not work: who starts workers counts along."""
        self._stopping = False
        self._proven = False
        """Whether any worker has ever stood: before that, one that cannot start is the end of it all."""
        self._reloading = False
        self._proven_generation = 0
        """The last generation of which every worker has stood, or the one that it all began with."""

    @property
    def proven_generation(self) -> int:
        """The last generation of settings that has come to stand as a whole."""
        return self._proven_generation

    def generation_of(self, life: int) -> int:
        """The generation of settings that it has, and the newest for one that has ended."""
        return self._lives[life].generation if life in self._lives else self._generation

    @property
    def doom(self) -> str:
        """Why the first workers cannot start."""
        return next((slot.cause for slot in self._slots if slot.cause), "")

    @property
    def empty(self) -> bool:
        """Whether every process has ended."""
        return not self._lives

    @property
    def doomed(self) -> bool:
        """No worker has ever stood, and one has ended: the rest is to be ended too."""
        return not self._proven and any(slot.cause for slot in self._slots)

    def serving(self, now_s: float, fresh_s: float = 5.0) -> list[int]:
        """The lives that answer: they stand, and have been heard of not long ago."""
        return [
            life.life
            for life in self._lives.values()
            if life.slot.role is Role.SERVE
            and life.state is WorkerState.SERVING
            and not life.killed
            and now_s - life.heard_s <= fresh_s
        ]

    def start(self, now_s: float) -> list[Action]:
        return [self._spawn(slot, now_s) for slot in self._slots]

    def want_streams(self, count: int, now_s: float) -> list[Action]:
        """There should be so many workers for streams. Those that are too many drain."""
        if self._stopping or count == self._streams:
            return []
        self._streams = count
        if not self._reloading:
            self._proven_streams = count
        actions: list[Action] = []
        for number in range(1, count + 1):
            if not any(slot.role is Role.STREAM and slot.number == number for slot in self._slots):
                slot = Place(number, Role.STREAM)
                self._slots.append(slot)
                actions.append(self._spawn(slot, now_s))
        # In a reload they are let go of at its end, with all others that are too many.
        return actions if self._reloading else [*actions, *self._let_go_surplus(now_s)]

    def reload(self, config: PoolConfig, now_s: float) -> list[Action]:
        """New settings: every worker is replaced, one after the other. A reload under way starts over.

        The new generation is the number of reloads so far, those that did not work included.
        """
        self._newest_generation += 1
        if self._stopping or not self._proven:
            return []
        self._config = config
        self._generation = self._newest_generation
        self._reloading = True
        actions: list[Action] = []
        for slot in self._slots:
            actions += self._dismiss(slot.successor)
        serving = sum(slot.role is Role.SERVE for slot in self._slots)
        for number in range(serving + 1, config.workers + 1):
            slot = Place(number)
            self._slots.append(slot)
            actions.append(self._spawn(slot, now_s))
        return [*actions, *self._replace_next(now_s)]

    def heard(self, life: int, now_s: float) -> None:
        if life in self._lives:
            self._lives[life].heard_s = now_s

    def ready(self, life: int, now_s: float) -> list[Action]:
        """It stands and accepts. Whom it replaces drains."""
        actions: list[Action] = []
        worker = self._lives[life]
        worker.heard_s = now_s
        if worker.state is not WorkerState.STARTING or worker.killed:
            return []
        worker.state = WorkerState.SERVING
        self._proven = True
        slot = worker.slot
        if slot.successor is worker:
            if slot.holder is not None:
                actions += self._drain(slot.holder, now_s)
            slot.holder, slot.successor = worker, None
            slot.backoff.started(worker.started_s)
        if self._reloading:
            actions += self._replace_next(now_s)
        return actions

    def failed(self, life: int, cause: str) -> None:
        """It has said why it is about to end."""
        self._lives[life].cause = cause

    def exited(self, life: int, how: str, now_s: float) -> list[Action]:
        """Its process has ended."""
        worker = self._lives.pop(life)
        slot = worker.slot
        cause = worker.cause or how
        if slot.holder is worker:
            slot.holder = None
            if worker.state is WorkerState.DRAINING or self._stopping:
                return []
            return self._lost(worker, cause, now_s)
        if slot.successor is not worker:
            return []
        slot.successor = None
        if worker.obsolete:
            return self._replace_next(now_s) if self._reloading else []
        return self._reload_failed(f"{slot.name} {cause}", worker.generation, now_s)

    def _lost(self, worker: Life, cause: str, now_s: float) -> list[Action]:
        """It ended by itself, or because it had to be killed."""
        slot = worker.slot
        slot.cause = cause
        slot.backoff.failed(now_s)
        if not self._proven:
            return [action for other in self._lives.values() for action in self._kill(other)]
        actions: list[Action] = []
        if worker.state is WorkerState.STARTING and worker.generation != self._proven_generation:
            actions += self._reload_failed(f"{slot.name} {cause}", worker.generation, now_s)
        if not actions:
            slot.restarts += 1
            actions.append(self._told(slot, now_s))
        return [*actions, *self.tick(now_s)]

    def _told(self, slot: Place, now_s: float) -> Say:
        """That its worker has ended."""
        wait_s = slot.backoff.wait_s(now_s)
        failures = slot.backoff.statistics().failures
        again = "it is started anew" if wait_s == 0 else f"next start in {wait_s:.1f} s"
        loop = f", {failures} times in a row" if failures > 1 else ""
        return Say(f"{slot.name} {slot.cause}{loop}; {again}", error=True)

    def tick(self, now_s: float) -> list[Action]:
        """Called often: whose turn it is to start, and who has taken too long."""
        away_s = max(0.0, now_s - self._checked_s - AWAY_S) if self._checked_s > float("-inf") else 0.0
        self._checked_s = now_s
        actions: list[Action] = []
        for worker in self._lives.values():
            worker.heard_s += away_s
            actions += self._check(worker, now_s)
        if self._stopping or not self._proven:
            return actions
        for slot in self._wanted():
            # Where a successor is on its way, it takes the place.
            free = slot.holder is None and slot.successor is None
            if free and slot.backoff.wait_s(now_s) == 0:
                actions.append(self._spawn(slot, now_s))
        return actions

    def stop(self, now_s: float) -> list[Action]:
        """All of them drain; nobody is started any more."""
        self._stopping = True
        self._reloading = False
        actions: list[Action] = []
        for worker in self._lives.values():
            actions += self._drain(worker, now_s)
        return actions

    def lives(self) -> Iterator[tuple[int, int]]:
        """(life, worker number) of every process."""
        for worker in self._lives.values():
            yield worker.life, worker.slot.number

    def views(self) -> list[WorkerView]:
        """Every worker, and those that drain beside their successors or without one."""
        found = []
        slots = dict.fromkeys((*self._slots, *(worker.slot for worker in self._lives.values())))
        for slot in slots:
            held = [worker for worker in self._lives.values() if worker.slot is slot]
            found += [self._view(slot, worker) for worker in held] or [self._view(slot, None)]
        return found

    def _view(self, slot: Place, worker: Life | None) -> WorkerView:
        backoff = slot.backoff.statistics()
        return WorkerView(
            number=slot.number,
            role=slot.role,
            life=worker.life if worker is not None else None,
            state=worker.state if worker is not None else None,
            generation=worker.generation if worker is not None else self._generation,
            started_s=worker.started_s if worker is not None else 0.0,
            restarts=slot.restarts,
            failures=backoff.failures,
            cause=slot.cause,
            next_start_s=backoff.not_before_s,
        )

    def _spawn(self, slot: Place, now_s: float) -> Spawn:
        worker = Life(self._next_life, slot, self._generation, now_s)
        self._next_life += 1
        self._lives[worker.life] = worker
        if slot.holder is None:
            assert slot.successor is None, "a successor is on its way to this place"
            slot.holder = worker
            slot.backoff.started(now_s)
        else:
            slot.successor = worker
        return Spawn(worker.life, slot.number, worker.generation, slot.role)

    def _drain(self, worker: Life, now_s: float) -> list[Action]:
        if worker.state is WorkerState.DRAINING:
            return []
        # One that does not stand yet has nothing to finish.
        starting = worker.state is WorkerState.STARTING
        worker.state = WorkerState.DRAINING
        worker.drained_s = now_s
        return self._kill(worker) if starting else [End(worker.life)]

    def _kill(self, worker: Life) -> list[Action]:
        worker.killed = True
        return [Kill(worker.life)]

    def _dismiss(self, successor: Life | None) -> list[Action]:
        if successor is None:
            return []
        successor.obsolete = True
        return self._kill(successor)

    def _replace_next(self, now_s: float) -> list[Action]:
        """The next worker of an older generation gets its successor; one at a time."""
        if any(slot.successor is not None for slot in self._slots):
            return []
        slots = self._wanted()
        for slot in slots:
            if slot.holder is not None and slot.holder.generation != self._generation:
                return [self._spawn(slot, now_s)]
        if not all(slot.holder is not None and slot.holder.state is WorkerState.SERVING for slot in slots):
            return []  # those who start in an empty place have to stand as well
        returned = self._generation == self._proven_generation
        self._proven_generation, self._proven_config = self._generation, self._config
        self._proven_streams = self._streams
        done = "every worker has the settings from before again"
        if not returned:
            done = "settings and app file were read again: every worker is new"
        return [*self._end_reload(now_s), Say(done)]

    def _end_reload(self, now_s: float) -> list[Action]:
        """Nobody is replaced any more; the workers that are too many drain."""
        self._reloading = False
        return self._let_go_surplus(now_s)

    def _wanted(self) -> list[Place]:
        counts = {Role.SERVE: self._config.workers, Role.STREAM: self._streams}
        return [slot for slot in self._slots if slot.number <= counts[slot.role]]

    def _let_go_surplus(self, now_s: float) -> list[Action]:
        wanted = self._wanted()
        surplus = [slot for slot in self._slots if slot not in wanted]
        self._slots = wanted
        actions: list[Action] = []
        for slot in surplus:
            if slot.holder is not None:
                actions += self._drain(slot.holder, now_s)
        return actions

    def _reload_failed(self, cause: str, generation: int, now_s: float) -> list[Action]:
        """A worker of this generation did not come to stand. Those that did are replaced in turn.

        Nothing where that is of no concern any more.
        """
        if self._stopping or not self._reloading or generation != self._generation:
            return []
        if generation == self._proven_generation:
            # Trying on and on would start one process after the other; those who serve go on serving.
            told = f"the settings from before do not work any more either; who serves goes on: {cause}"
            return [Say(told, error=True), *self._end_reload(now_s)]
        told = f"the new settings or app file do not work, the old ones stay: {cause}"
        actions: list[Action] = [Say(told, error=True)]
        for slot in self._slots:
            actions += self._dismiss(slot.successor)
        self._generation, self._config = self._proven_generation, self._proven_config
        self._streams = self._proven_streams
        holders = [slot.holder for slot in self._wanted() if slot.holder is not None]
        if any(holder.generation != self._generation for holder in holders):
            return [*actions, *self._replace_next(now_s)]
        return [*actions, *self._end_reload(now_s)]

    def _check(self, worker: Life, now_s: float) -> list[Action]:
        if worker.killed:
            # Once more: its process may only just have come to be when it was killed first.
            return [Kill(worker.life)]
        config = self._config
        silence_s = config.stream_silence_s if worker.slot.role is Role.STREAM else config.silence_s
        match worker.state:
            case WorkerState.STARTING if now_s - worker.started_s > config.start_timeout_s:
                worker.cause = f"did not stand within {config.start_timeout_s:.0f} s and was killed"
            case WorkerState.SERVING if now_s - worker.heard_s > silence_s:
                worker.cause = f"said nothing for {silence_s:.0f} s and was killed"
            case WorkerState.DRAINING if now_s - worker.drained_s > config.drain_timeout_s:
                worker.cause = "did not end when it was told to, and was killed"
            case _:
                return []
        return self._kill(worker)
