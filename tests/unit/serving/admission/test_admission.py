from dataclasses import dataclass

import pytest

from penstock.serving.admission.admission import LAG_S_MAX, LAG_S_MIN, MARGIN, Admission, ShedReason
from penstock.serving.admission.lag import BEAT_S, LoopLag
from penstock.serving.admission.shedder import TICK_S


@dataclass
class Waiting:
    """A backlog that says what it is told to."""

    full_for: tuple[int, ...] = ()
    wait_s: float = 0.05
    next_is_full: bool = True
    wait_first_s: float | None = None
    """For the most important class."""
    answer_s: float = 0.01

    def full(self, criticality: int) -> bool:
        return criticality in self.full_for

    def next_full(self, criticality: int) -> bool:
        return self.next_is_full

    def answer_in_s(self, criticality: int, wait_s: float) -> float:
        return self.answer_s

    def wait_in_s(self, criticality: int, now_s: float) -> float:
        return self.wait_first_s if criticality == 1 and self.wait_first_s is not None else self.wait_s

    def oldest_s(self, now_s: float) -> float:
        return self.wait_s

    def batch_s(self) -> float:
        return 0.005


def asked(
    admission: Admission, now_s: float = 0.0, due_s: float | None = 0.1, **said: object
) -> ShedReason | None:
    known: dict[str, object] = {"criticality": 2, "caller": b"one"} | said
    return admission.refusal(now_s, due_s, **known)  # type: ignore[arg-type]


def admission(backlog: Waiting, *, enabled: bool = True) -> Admission:
    return Admission(backlog, LoopLag(), objective_s=0.1, enabled=enabled)


def shedding(backlog: Waiting) -> Admission:
    made = admission(backlog)
    for number in range(40):
        for criticality in (1, 2, 3, 4):
            asked(made, number * TICK_S, number * TICK_S + 1, criticality=criticality)
        made.tick(number * TICK_S)
    assert made.ratio == 0.95
    return made


def test_who_can_be_answered_in_time_is_taken_on() -> None:
    made = admission(Waiting(answer_s=0.1 / MARGIN - 1e-6))
    assert asked(made) is None
    assert made.statistics().admitted == 1


def test_who_cannot_is_not() -> None:
    made = admission(Waiting(answer_s=0.1 / MARGIN + 1e-6))
    assert asked(made) is ShedReason.TOO_LATE
    assert asked(made, criticality=1) is None  # for whom a refusal is no better than a late answer
    assert made.statistics().refused == {"too_late": 1}


def test_who_named_no_time_is_refused_for_a_queue_and_not_for_a_slow_run() -> None:
    slow = Waiting(wait_s=5.0, answer_s=5.0, next_is_full=False)
    assert asked(admission(slow), due_s=None) is None
    assert asked(admission(slow), due_s=0.1) is ShedReason.TOO_LATE, "it would be of no use any more"
    assert asked(admission(Waiting(wait_s=5.0, answer_s=5.0)), due_s=None) is ShedReason.TOO_LATE
    assert asked(shedding(slow), 10.0, due_s=None) is not None
    assert asked(admission(Waiting(answer_s=0.1 / MARGIN - 1e-6)), due_s=None) is None, "the objective"


def test_of_the_most_important_only_a_queue_of_its_own_is_shed() -> None:
    """Three in four of what comes are less important; 0.95 of all is more than those."""
    backlog = Waiting()
    made = shedding(backlog)
    told = [asked(made, 4.0, 5.0, criticality=1) for _ in range(10)]
    assert ShedReason.OVERLOAD in told
    backlog.next_is_full = False
    assert [asked(made, 4.0, 5.0, criticality=1) for _ in range(10)] == [None] * 10
    assert asked(made, 4.0, 5.0, criticality=2) is ShedReason.OVERLOAD
    told = [asked(made, 4.0, 5.0, criticality=1, retry=True) for _ in range(10)]
    assert told == [ShedReason.OVERLOAD] * 10, "it counts as less important"


def test_a_slow_run_keeps_the_most_important_out_no_more_while_others_are_shed() -> None:
    slow = Waiting(wait_s=5.0, answer_s=5.0, next_is_full=False)
    made = shedding(slow)
    assert asked(made, 10.0, due_s=None, criticality=2) is not None
    assert asked(made, 10.0, due_s=None, criticality=1) is None
    slow.next_is_full = True
    assert asked(made, 10.0, due_s=None, criticality=1) is not None


def test_an_idle_runtime_takes_anybody_so_that_a_wrong_prediction_is_found_out() -> None:
    assert asked(admission(Waiting(wait_s=0.0, answer_s=99.0))) is None


@pytest.mark.parametrize("due_s", [0.0, -5.0, float("-inf")])
def test_a_deadline_that_has_passed(due_s: float) -> None:
    assert asked(admission(Waiting()), due_s=due_s) is ShedReason.EXPIRED


def test_a_full_queue_takes_nobody() -> None:
    assert asked(admission(Waiting(full_for=(1, 2, 3, 4))), criticality=1) is ShedReason.QUEUE_FULL


def test_what_is_full_for_the_less_important_takes_the_others() -> None:
    made = admission(Waiting(full_for=(3, 4)))
    for criticality, reason in ((2, None), (3, ShedReason.QUEUE_FULL)):
        assert asked(made, criticality=criticality) is reason
        assert made.cap(0.0, criticality) is reason


def test_switched_off_it_takes_everybody() -> None:
    assert asked(admission(Waiting(full_for=(1, 2, 3, 4)), enabled=False), due_s=-1.0) is None


def test_the_least_important_go_first_and_who_hardly_waits_never() -> None:
    made = shedding(Waiting(wait_first_s=0.001))
    assert asked(made, 4.0, 5.0, criticality=4) is ShedReason.OVERLOAD
    assert asked(made, 4.0, 5.0, criticality=1) is None


def test_a_retry_counts_a_class_less_while_there_is_shedding() -> None:
    made = admission(Waiting())
    for number in range(2):
        for criticality in (3, 4):
            asked(made, number * TICK_S, number * TICK_S + 1, criticality=criticality)
        made.tick(number * TICK_S)
    assert 0 < made.ratio <= 0.5
    assert asked(made, 1.0, 2.0, criticality=3) is None
    assert asked(made, 1.0, 2.0, criticality=3, retry=True) is ShedReason.OVERLOAD


def test_nobody_is_shed_while_the_runtime_would_run_dry() -> None:
    backlog = Waiting()
    made = shedding(backlog)
    backlog.wait_s = 0.001
    assert asked(made, 4.0, 5.0, criticality=4) is None


def test_a_loop_that_is_far_behind_takes_nobody() -> None:
    lag = LoopLag()
    made = Admission(Waiting(), lag, objective_s=0.1)
    assert asked(made, 100.0, 200.0) is None  # nothing beats, so nothing is late
    lag.beat(0.0)
    assert lag.lag_s(BEAT_S + LAG_S_MIN + 0.01) > LAG_S_MIN
    assert asked(made, BEAT_S + LAG_S_MIN + 0.01, 10.0) is ShedReason.LOOP_LAG
    lag.beat(0.3)
    assert asked(made, 0.3, 10.0) is ShedReason.LOOP_LAG  # the turn that just ended was that long
    lag.beat(0.3 + BEAT_S)
    assert asked(made, 0.3 + BEAT_S, 10.0) is None
    lag.rest()
    assert lag.lag_s(1e9) == 0.0


@pytest.mark.parametrize(
    ("objective_s", "behind_s"),
    [(0.01, LAG_S_MIN), (1.0, 0.25), (4.0, 1.0), (8.0, LAG_S_MAX), (60.0, LAG_S_MAX)],
)
def test_how_far_a_loop_may_be_behind_is_a_share_of_the_objective(objective_s: float, behind_s: float) -> None:
    lag = LoopLag()
    made = Admission(Waiting(), lag, objective_s=objective_s)
    lag.beat(0.0)
    late_s = BEAT_S + behind_s
    assert asked(made, late_s - 0.001, 100.0) is None
    assert asked(made, late_s + 0.001, 100.0) is ShedReason.LOOP_LAG
    assert made.cap(late_s - 0.001, 2) is None
    assert made.cap(late_s + 0.001, 2) is ShedReason.LOOP_LAG


def test_the_most_important_is_taken_by_a_loop_that_is_behind_for_the_others() -> None:
    lag = LoopLag()
    made = Admission(Waiting(), lag, objective_s=0.1)
    lag.beat(0.0)
    for behind_s, criticality, reason in (
        (LAG_S_MIN + 0.01, 2, ShedReason.LOOP_LAG),
        (LAG_S_MIN + 0.01, 1, None),
        (LAG_S_MAX - 0.01, 1, None),
        (LAG_S_MAX + 0.01, 1, ShedReason.LOOP_LAG),
    ):
        assert asked(made, BEAT_S + behind_s, 10.0, criticality=criticality) is reason
        assert made.cap(BEAT_S + behind_s, criticality) is reason
        assert made.behind(BEAT_S + behind_s, criticality) is (reason is not None)


def test_switched_off_no_lag_counts() -> None:
    lag = LoopLag()
    made = Admission(Waiting(), lag, objective_s=0.1, enabled=False)
    lag.beat(0.0)
    assert not made.behind(BEAT_S + LAG_S_MAX + 1.0, 2)
