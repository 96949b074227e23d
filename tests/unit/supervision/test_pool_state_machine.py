"""The pool with processes that are only written down: whatever happens, in whatever order, somebody answers."""

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from penstock.supervision.actions import Action, End, Kill, Say, Spawn
from penstock.supervision.places import WorkerState
from penstock.supervision.pool import Pool, PoolConfig

SILENCE_S = 15.0
START_TIMEOUT_S = 40.0
DRAIN_TIMEOUT_S = 35.0
TICK_S = 1.0
PAUSE_LONGEST_S = 30.0
STABLE_S = 10.0


@dataclass
class Process:
    """A worker's process, as the machine knows it."""

    number: int
    generation: int
    stands: bool = False
    told_to_end: bool = False
    killed: bool = False
    started_s: float = 0.0


def config(workers: int) -> PoolConfig:
    return PoolConfig(
        workers=workers,
        start_timeout_s=START_TIMEOUT_S,
        silence_s=SILENCE_S,
        drain_timeout_s=DRAIN_TIMEOUT_S,
    )


class PoolMachine(RuleBasedStateMachine):
    """`processes` are those that run. A generation listed in `broken` never comes to stand; of one in `unlucky`
    a process crashed before it stood. `answering_least` is how many answered when a reload began, less those
    that the machine let crash.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 100.0
        self.processes: dict[int, Process] = {}
        self.ever: set[int] = set()
        self.reloads = 0
        self.workers = {0: 1}
        self.broken: set[int] = set()
        self.stopped = False
        self.unlucky: set[int] = set()
        self.answering_least = 0
        self.crashes: dict[int, list[float]] = {}

    @initialize(workers=st.integers(1, 4), stand=st.integers(0, 7))
    def start(self, workers: int, stand: int) -> None:
        self.workers[0] = workers
        self.pool = Pool(config(workers))
        self.carry_out(self.pool.start(self.now_s))
        assert len(self.processes) == workers
        for life in list(self.processes) if stand else []:
            self.processes[life].stands = True
            self.carry_out(self.pool.ready(life, self.now_s))

    def carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Spawn(life, number, generation):
                    assert not self.stopped, "nobody is started after a stop"
                    assert life not in self.ever, "a life is lived once"
                    self.ever.add(life)
                    self.processes[life] = Process(number, generation, started_s=self.now_s)
                    self.check_pause(number)
                case End(life):
                    process = self.processes[life]
                    assert process.stands
                    process.told_to_end = True
                case Kill(life):
                    self.processes[life].killed = True
                case Say(text):
                    assert text

    def check_pause(self, number: int) -> None:
        """Back-off: of a place whose workers crashed k times in a row and young, the next start waits."""
        ends = self.crashes.get(number, [])
        taken = [
            p for p in self.processes.values() if p.number == number and not p.told_to_end and not p.killed
        ]
        if len(taken) > 1 or len(ends) < 2 or self.reloads:
            return
        pause_s = min(0.5 * 2.0 ** (len(ends) - 2), PAUSE_LONGEST_S)
        assert self.now_s >= ends[-1] + pause_s - 1e-6

    def alive(self, *, stands: bool) -> list[int]:
        return [life for life, each in self.processes.items() if each.stands is stands and not each.killed]

    def answering(self) -> int:
        return sum(p.stands and not p.told_to_end and not p.killed for p in self.processes.values())

    # What can happen

    @precondition(lambda self: self.alive(stands=False))
    @rule(data=st.data())
    def stand(self, data: st.DataObject) -> None:
        life = data.draw(st.sampled_from(self.alive(stands=False)))
        process = self.processes[life]
        if process.generation in self.broken:
            self.pool.failed(life, "cannot start: broken")
            self.end(life)
            return
        process.stands = True
        self.carry_out(self.pool.ready(life, self.now_s))

    @precondition(lambda self: any(p.killed and not p.stands for p in self.processes.values()))
    @rule(data=st.data())
    def stand_while_the_kill_is_under_way(self, data: st.DataObject) -> None:
        lives = [life for life, p in self.processes.items() if p.killed and not p.stands]
        before = self.answering()
        self.carry_out(self.pool.ready(data.draw(st.sampled_from(lives)), self.now_s))
        assert self.answering() == before, "somebody drained for one that is about to end"

    @precondition(lambda self: self.processes)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        life = data.draw(st.sampled_from(sorted(self.processes)))
        process = self.processes[life]
        if process.stands and not process.told_to_end and not process.killed:
            self.answering_least = max(0, self.answering_least - 1)
        if not process.stands:
            self.unlucky.add(process.generation)
        self.end(life)

    def end(self, life: int) -> None:
        process = self.processes.pop(life)
        if not process.told_to_end and not process.killed:
            ends = self.crashes.setdefault(process.number, [])
            if self.now_s - process.started_s >= STABLE_S:
                ends.clear()
            ends.append(self.now_s)
        self.carry_out(self.pool.exited(life, "ended with status 1", self.now_s))

    @precondition(lambda self: any(p.told_to_end or p.killed for p in self.processes.values()))
    @rule()
    def end_as_told(self) -> None:
        for life in [life for life, p in self.processes.items() if p.told_to_end or p.killed]:
            self.end(life)

    @precondition(lambda self: self.answering())
    @rule(workers=st.integers(1, 4), works=st.booleans())
    def reload(self, workers: int, works: bool) -> None:
        self.reloads += 1
        self.workers[self.reloads] = workers
        if not works:
            self.broken.add(self.reloads)
        self.answering_least = min(workers, *self.workers.values(), self.answering())
        self.carry_out(self.pool.reload(config(workers), self.now_s))

    @rule(seconds=st.sampled_from([1.0, 2.0, 5.0]))
    def pass_time(self, seconds: float) -> None:
        """Everybody who stands says something all the time."""
        for _ in range(int(seconds / TICK_S)):
            self.now_s += TICK_S
            for life in self.processes:
                self.pool.heard(life, self.now_s)
            self.carry_out(self.pool.tick(self.now_s))

    @precondition(lambda self: self.reloads > 2)
    @rule()
    def stop(self) -> None:
        self.stopped = True
        self.answering_least = 0
        self.carry_out(self.pool.stop(self.now_s))
        assert all(p.told_to_end or p.killed for p in self.processes.values())

    # What has to hold

    @invariant()
    def each_place_has_at_most_one_holder_and_one_successor(self) -> None:
        for number in range(1, 5):
            held = [
                p for p in self.processes.values() if p.number == number and not p.told_to_end and not p.killed
            ]
            assert len(held) <= 2
            assert sum(p.stands for p in held) <= 1

    @invariant()
    def the_pool_knows_exactly_the_processes_that_run(self) -> None:
        assert dict(self.pool.lives()) == {life: p.number for life, p in self.processes.items()}
        shown = [view.life for view in self.pool.views() if view.life is not None]
        assert sorted(shown) == sorted(self.processes)
        assert self.pool.empty is (not self.processes)

    @invariant()
    def as_many_answer_as_before_the_reload(self) -> None:
        assert self.answering() >= self.answering_least

    @invariant()
    def who_serves_is_said_to_serve(self) -> None:
        serving = {
            life for life, p in self.processes.items() if p.stands and not p.told_to_end and not p.killed
        }
        assert set(self.pool.serving(self.now_s, fresh_s=float("inf"))) == serving

    def teardown(self) -> None:
        """Left in peace, it comes to what was asked for: the newest settings that work, or an end."""
        if not hasattr(self, "pool"):
            return
        for _ in range(25):
            for life, process in list(self.processes.items()):
                if life not in self.processes:
                    continue
                cannot_stand = not process.stands and process.generation in self.broken
                if process.told_to_end or process.killed or cannot_stand:
                    self.end(life)
                elif not process.stands:
                    process.stands = True
                    self.carry_out(self.pool.ready(life, self.now_s))
            self.pass_time(5.0)
        if self.stopped or self.pool.doomed:
            assert self.pool.empty
            return
        generations = {p.generation for p in self.processes.values()}
        assert len(generations) == 1
        (generation,) = generations
        assert generation not in self.broken
        assert len(self.processes) == self.workers[generation]
        assert all(view.state is WorkerState.SERVING for view in self.pool.views())
        if self.reloads not in self.broken | self.unlucky:
            assert generation == self.reloads


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
