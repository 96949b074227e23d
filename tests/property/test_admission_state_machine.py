"""Admission before a real queue, whatever comes: each is counted once, and nobody is preferred to who is more
important or has more time.
"""

from dataclasses import dataclass, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.serving.admission.admission import LAG_S_MAX, Admission, ShedReason
from penstock.serving.admission.lag import BEAT_S, LoopLag
from penstock.serving.admission.shedder import RATIO_MAX, TICK_S
from penstock.serving.batching.batcher import Batcher, BatchingConfig

OBJECTIVE_S = 0.1
QUEUE_ROWS_MAX = 64
callers = st.sampled_from([b"a", b"b", b"c", b"d", b"e"])


@dataclass(eq=False)
class Waiting:
    arrived_s: float
    due_s: float
    deadline_s: float
    criticality: int
    rows: int
    size_bytes: int = 1
    shape_key: tuple[tuple[int, ...], ...] = ()
    queued: bool = False
    abandoned: bool = False
    waiting_since_s: float = 0.0
    whole: bool = True

    def split(self, rows: int) -> "Waiting":
        part = replace(self, rows=rows, size_bytes=0, queued=False, whole=False)
        self.rows -= rows
        return part


class AdmissionMachine(RuleBasedStateMachine):
    """A model that takes `row_s` for each row; the loop comes round on time unless it is said to lag."""

    def __init__(self) -> None:
        super().__init__()
        config = BatchingConfig(
            objective_s=OBJECTIVE_S, rows_max=32, queue_rows_max=QUEUE_ROWS_MAX, queue_bytes_max=1 << 20
        )
        self.batcher: Batcher[Waiting] = Batcher(config, rows_max=32)
        self.lag = LoopLag()
        self.admission = Admission(self.batcher, self.lag, objective_s=OBJECTIVE_S)
        self.now_s = 0.0
        self.ticked_s = 0.0
        self.row_s = 0.002
        self.come_round()
        self.asked = self.taken_on = self.refused = 0
        self.in_all = self.answered = self.given_up = 0

    def come_round(self) -> None:
        """The loop is not behind."""
        self.lag.rest()
        self.lag.beat(self.now_s)

    def ask(self, due_s: float, criticality: int, caller: bytes, *, retry: bool) -> ShedReason | None:
        """What would become of a request, and nothing else: the answer is taken back."""
        admission, shedder = self.admission, self.admission.shedder
        kept = (admission._admitted, admission._refused.copy(), shedder._ranks.copy(), shedder._tie_debt)
        reason = admission.refusal(self.now_s, due_s, criticality, caller, retry)
        admission._admitted, admission._refused, shedder._ranks, shedder._tie_debt = kept
        return reason

    @rule(
        time_s=st.sampled_from([0.01, 0.05, 0.1, 1.0, 30.0]),
        criticality=st.integers(1, 4),
        rows=st.sampled_from([1, 1, 1, 3, 40, 100]),
        caller=callers,
        retry=st.booleans(),
        times=st.integers(1, 40),
    )
    def come(
        self, time_s: float, criticality: int, rows: int, caller: bytes, *, retry: bool, times: int
    ) -> None:
        for _ in range(times):
            due_s = self.now_s + time_s
            reason = self.admission.refusal(self.now_s, due_s, criticality, caller, retry)
            beyond_s = self.batcher.beyond_s(rows)
            if reason is None and beyond_s:
                reason = self.admission.refusal_of_rows(self.now_s, due_s, criticality, beyond_s)
            self.asked += 1
            if reason is not None:
                self.refused += 1
                continue
            self.taken_on += 1
            request = Waiting(self.now_s, due_s, due_s, criticality, rows, waiting_since_s=self.now_s)
            self.in_all += self.batcher.offer(request)

    @rule(rounds=st.integers(5, 20), time_s=st.sampled_from([0.1, 0.3]))
    def surge(self, rounds: int, time_s: float) -> None:
        for number in range(rounds):
            for criticality in range(1, 5):
                self.come(time_s, criticality, 1, b"%d" % (number % 7), retry=False, times=8)
            if self.batcher.running:
                self.end()
            if len(self.batcher.queue):
                self.run()

    @precondition(lambda self: not self.batcher.running and len(self.batcher.queue))
    @rule()
    def run(self) -> None:
        turn = self.batcher.turn(self.now_s, at_once=True)
        self.admission.shedder.dequeued(turn.sojourn_s)
        self.given_up += len(turn.expired)

    @precondition(lambda self: self.batcher.running)
    @rule()
    def end(self) -> None:
        batch = self.batcher.running
        rows = sum(request.rows for request in batch)
        self.pass_time(rows * self.row_s)
        self.batcher.ran(rows, rows * self.row_s)
        self.answered += sum(request.whole for request in batch)

    @rule(seconds=st.sampled_from([0.001, 0.01, 0.1, 2.0]))
    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.come_round()
        while self.now_s - self.ticked_s >= TICK_S:
            self.ticked_s += TICK_S
            self.admission.tick(self.now_s)

    @precondition(lambda self: self.lag.lag_s(self.now_s) == 0.0)
    @rule(criticality=st.integers(1, 4), time_s=st.sampled_from([0.1, 30.0]), caller=callers)
    def a_loop_far_behind_takes_nobody(self, criticality: int, time_s: float, caller: bytes) -> None:
        behind_s = self.admission.lag_s_max if criticality > 1 else LAG_S_MAX
        now_s, self.now_s = self.now_s, self.now_s + BEAT_S + 1.01 * behind_s
        assert self.ask(self.now_s + time_s, criticality, caller, retry=False) is not None
        self.now_s = now_s

    @rule(share=st.floats(0.5, 3.0), caller=callers, retry=st.booleans())
    def nobody_is_preferred(self, share: float, caller: bytes, *, retry: bool) -> None:
        """Who is taken on would be with more time too, and if it were more important, or not a retry."""
        wait_s = self.batcher.wait_in_s(2, self.now_s)
        due_s = self.now_s + 1e-6 + share * self.batcher.answer_in_s(2, wait_s)  # about what decides
        # Of those that are worth the same some are shed: who comes next may not be, and so is left out.
        reasons = [self.ask(due_s, each, caller, retry=retry) for each in range(1, 5)]
        longer = [self.ask(due_s + 0.1, each, caller, retry=retry) for each in range(1, 5)]
        for criticality in range(4):
            if reasons[criticality] is None:
                assert longer[criticality] is None
                assert reasons[: criticality + 1] == [None] * (criticality + 1)
        if retry and reasons[1] is None:
            assert self.ask(due_s, 2, caller, retry=False) is None

    @rule(criticality=st.integers(1, 4), caller=callers, retry=st.booleans())
    def too_late_is_too_late(self, criticality: int, caller: bytes, *, retry: bool) -> None:
        assert self.ask(self.now_s, criticality, caller, retry=retry) is ShedReason.EXPIRED

    @precondition(lambda self: not self.batcher.running and not len(self.batcher.queue))
    @rule(criticality=st.integers(1, 4), caller=callers, retry=st.booleans())
    def an_idle_model_takes_anybody(self, criticality: int, caller: bytes, *, retry: bool) -> None:
        assert self.ask(self.now_s + 1e-6, criticality, caller, retry=retry) is None

    @invariant()
    def everybody_is_counted_once(self) -> None:
        statistics = self.admission.statistics()
        assert (statistics.admitted, sum(statistics.refused.values())) == (self.taken_on, self.refused)
        assert self.asked == self.taken_on + self.refused
        whole = sum(request.whole for request in self.batcher.running)
        assert self.in_all == self.answered + self.given_up + whole + len(self.batcher.queue)

    @invariant()
    def bounds_are_kept(self) -> None:
        assert 0.0 <= self.admission.ratio <= RATIO_MAX
        # One request of any size is taken by an empty queue.
        assert self.batcher.queue.rows <= QUEUE_ROWS_MAX + 100


TestAdmission = AdmissionMachine.TestCase
TestAdmission.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
