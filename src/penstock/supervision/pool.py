"""Which worker processes there should be: decided from what has happened, with no process in sight.

Every method takes the time (monotonic seconds) and returns what is to be done. A worker that ends is started
anew, with back-off when it keeps ending; one that says nothing for too long is killed; on a reload each is
replaced by a new one, which has to stand before the old one drains, so that somebody always answers.
"""

import enum
from collections.abc import Iterator

import msgspec

from penstock.core.backoff import RestartBackoff
from penstock.supervision.actions import Action, End, Kill, Say, Spawn

__all__ = ["Pool", "PoolConfig", "WorkerState", "WorkerView"]


AWAY_S = 2.0
"""Who is not asked what to do for longer was away itself: what workers said meanwhile may lie unread."""


class WorkerState(enum.Enum):
    """What a worker process does at the moment."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


class PoolConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`start_timeout_s` bounds the time until a worker stands, `silence_s` that between two reports of it,
    `drain_timeout_s` that from the order to drain to its end.
    """

    workers: int
    start_timeout_s: float
    silence_s: float = 15.0
    drain_timeout_s: float


class WorkerView(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as `penstock status` shows it. `life` and `state` are None while there is no process."""

    number: int
    life: int | None
    state: WorkerState | None
    generation: int
    started_s: float
    restarts: int
    failures: int
    """Ends in a row, without a long life between them."""
    cause: str
    """Why it ended last; empty where it never has."""
    next_start_s: float


class _Life:
    """One process, from its start to its end."""

    def __init__(self, life: int, slot: "_Slot", generation: int, now_s: float) -> None:
        self.life = life
        self.slot = slot
        self.generation = generation
        self.state = WorkerState.STARTING
        self.started_s = now_s
        self.heard_s = now_s
        self.drained_s = float("inf")
        self.cause = ""
        self.killed = False
        """Its end is decided; whatever it still says on the way there changes nothing."""
        self.obsolete = False
        """It was to take over, and is not wanted for that any more."""


class _Slot:
    """The place of one worker: who has it, and who is to take it over."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.backoff = RestartBackoff()
        self.holder: _Life | None = None
        self.successor: _Life | None = None
        self.restarts = 0
        self.cause = ""


class Pool:
    """The workers of a serve instance."""

    def __init__(self, config: PoolConfig) -> None:
        self._config = config
        self._proven_config = config
        self._checked_s = float("-inf")
        self._slots = [_Slot(number) for number in range(1, config.workers + 1)]
        self._lives: dict[int, _Life] = {}
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
            if life.state is WorkerState.SERVING and not life.killed and now_s - life.heard_s <= fresh_s
        ]

    def start(self, now_s: float) -> list[Action]:
        return [self._spawn(slot, now_s) for slot in self._slots]

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
        for number in range(len(self._slots) + 1, config.workers + 1):
            slot = _Slot(number)
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
        return self._reload_failed(f"{slot.number} {cause}", worker.generation, now_s)

    def _lost(self, worker: _Life, cause: str, now_s: float) -> list[Action]:
        """It ended by itself, or because it had to be killed."""
        slot = worker.slot
        slot.cause = cause
        slot.backoff.failed(now_s)
        if not self._proven:
            return [action for other in self._lives.values() for action in self._kill(other)]
        actions: list[Action] = []
        if worker.state is WorkerState.STARTING and worker.generation != self._proven_generation:
            actions += self._reload_failed(f"{slot.number} {cause}", worker.generation, now_s)
        if not actions:
            slot.restarts += 1
            actions.append(self._told(slot, now_s))
        return [*actions, *self.tick(now_s)]

    def _told(self, slot: _Slot, now_s: float) -> Say:
        """That its worker has ended."""
        wait_s = slot.backoff.wait_s(now_s)
        failures = slot.backoff.statistics().failures
        again = "it is started anew" if wait_s == 0 else f"next start in {wait_s:.1f} s"
        loop = f", {failures} times in a row" if failures > 1 else ""
        return Say(f"worker {slot.number} {slot.cause}{loop}; {again}", error=True)

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
        for slot in self._slots[: self._config.workers]:
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

    def _view(self, slot: _Slot, worker: _Life | None) -> WorkerView:
        backoff = slot.backoff.statistics()
        return WorkerView(
            number=slot.number,
            life=worker.life if worker is not None else None,
            state=worker.state if worker is not None else None,
            generation=worker.generation if worker is not None else self._generation,
            started_s=worker.started_s if worker is not None else 0.0,
            restarts=slot.restarts,
            failures=backoff.failures,
            cause=slot.cause,
            next_start_s=backoff.not_before_s,
        )

    def _spawn(self, slot: _Slot, now_s: float) -> Spawn:
        worker = _Life(self._next_life, slot, self._generation, now_s)
        self._next_life += 1
        self._lives[worker.life] = worker
        if slot.holder is None:
            assert slot.successor is None, "a successor is on its way to this place"
            slot.holder = worker
            slot.backoff.started(now_s)
        else:
            slot.successor = worker
        return Spawn(worker.life, slot.number, worker.generation)

    def _drain(self, worker: _Life, now_s: float) -> list[Action]:
        if worker.state is WorkerState.DRAINING:
            return []
        # One that does not stand yet has nothing to finish.
        starting = worker.state is WorkerState.STARTING
        worker.state = WorkerState.DRAINING
        worker.drained_s = now_s
        return self._kill(worker) if starting else [End(worker.life)]

    def _kill(self, worker: _Life) -> list[Action]:
        worker.killed = True
        return [Kill(worker.life)]

    def _dismiss(self, successor: _Life | None) -> list[Action]:
        if successor is None:
            return []
        successor.obsolete = True
        return self._kill(successor)

    def _replace_next(self, now_s: float) -> list[Action]:
        """The next worker of an older generation gets its successor; one at a time."""
        if any(slot.successor is not None for slot in self._slots):
            return []
        slots = self._slots[: self._config.workers]
        for slot in slots:
            if slot.holder is not None and slot.holder.generation != self._generation:
                return [self._spawn(slot, now_s)]
        if not all(slot.holder is not None and slot.holder.state is WorkerState.SERVING for slot in slots):
            return []  # those who start in an empty place have to stand as well
        returned = self._generation == self._proven_generation
        self._proven_generation, self._proven_config = self._generation, self._config
        done = "every worker has the settings from before again"
        if not returned:
            done = "settings and app file were read again: every worker is new"
        return [*self._end_reload(now_s), Say(done)]

    def _end_reload(self, now_s: float) -> list[Action]:
        """Nobody is replaced any more; the workers that are too many drain."""
        surplus = self._slots[self._config.workers :]
        self._slots = self._slots[: self._config.workers]
        self._reloading = False
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
            told = f"the settings from before do not work any more either; who serves goes on: worker {cause}"
            return [Say(told, error=True), *self._end_reload(now_s)]
        told = f"the new settings or app file do not work, the old ones stay: worker {cause}"
        actions: list[Action] = [Say(told, error=True)]
        for slot in self._slots:
            actions += self._dismiss(slot.successor)
        self._generation, self._config = self._proven_generation, self._proven_config
        holders = [slot.holder for slot in self._slots[: self._config.workers] if slot.holder is not None]
        if any(holder.generation != self._generation for holder in holders):
            return [*actions, *self._replace_next(now_s)]
        return [*actions, *self._end_reload(now_s)]

    def _check(self, worker: _Life, now_s: float) -> list[Action]:
        if worker.killed:
            # Once more: its process may only just have come to be when it was killed first.
            return [Kill(worker.life)]
        config = self._config
        match worker.state:
            case WorkerState.STARTING if now_s - worker.started_s > config.start_timeout_s:
                worker.cause = f"did not stand within {config.start_timeout_s:.0f} s and was killed"
            case WorkerState.SERVING if now_s - worker.heard_s > config.silence_s:
                worker.cause = f"said nothing for {config.silence_s:.0f} s and was killed"
            case WorkerState.DRAINING if now_s - worker.drained_s > config.drain_timeout_s:
                worker.cause = "did not end when it was told to, and was killed"
            case _:
                return []
        return self._kill(worker)
