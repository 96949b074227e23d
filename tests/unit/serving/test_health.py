from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.serving.health import HealthConfig, VersionHealth

CONFIG = HealthConfig(every_s=10.0, failures_max=3, runtime_share=0.1, timeout_s=5.0)


def fresh(jitter: float = 0.5) -> VersionHealth:
    return VersionHealth(CONFIG, 0.0, lambda: jitter)


def test_when_a_check_is_due() -> None:
    health = fresh()
    assert not health.due(9.9, idle=True)
    assert health.due(10.0, idle=True)
    assert not health.due(14.9, idle=False), "it waits for an idle moment"
    assert health.due(15.0, idle=False), "but not for ever"
    health.began(15.0)
    assert not health.due(16.0, idle=True), "one at a time"
    health.ended(16.0, None)
    assert not health.due(25.9, idle=True)
    assert health.due(26.0, idle=True)


def test_jitter() -> None:
    assert fresh(0.0).due(7.5, idle=True)
    assert not fresh(1.0).due(12.4, idle=True)
    assert fresh(1.0).due(12.5, idle=True)


def test_slow_checks_come_more_seldom() -> None:
    health = fresh()
    health.began(10.0)
    health.ended(30.0, None, spent_s=4.0)
    assert not health.due(69.9, idle=True), "a tenth of the runtime's time at most"
    assert health.due(70.0, idle=True), "however long it waited for others"


def test_failures_in_a_row_make_it_sick_and_one_pass_makes_it_well() -> None:
    health = fresh()
    found = []
    for fault in ("a", "b", None, "c", "d", "e", "f", None):
        health.began(0.0)
        health.ended(0.0, fault)
        found.append(health.sick)
    assert found == [None, None, None, None, None, "e", "f", None]
    assert (health.statistics().passed, health.statistics().failed) == (2, 6)


def test_a_check_that_does_not_end_is_a_failure_again_and_again() -> None:
    health = fresh()
    health.began(10.0)
    sick = []
    for now_s in (14.0, 16.0, 20.0, 22.0, 28.0):
        assert not health.due(now_s, idle=True)
        sick.append(health.sick is not None)
    assert sick == [False, False, False, False, True]
    health.ended(29.0, "it was killed")
    assert health.statistics().failures == 3, "counted already"
    assert health.sick is not None
    health.began(1000.0)
    health.ended(1000.0, None)
    assert health.sick is None


class HealthMachine(RuleBasedStateMachine):
    """Whatever comes: sick is exactly after so many failures in a row, and a check becomes due again."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.health = VersionHealth(CONFIG, 0.0, lambda: 0.3)
        self.running = False
        self.row = 0

    @rule(seconds=st.sampled_from([0.0, 1.0, 4.0, 20.0, 1e6]), idle=st.booleans())
    def pass_time(self, seconds: float, idle: bool) -> None:
        self.now_s += seconds
        before = self.health.statistics().failures
        due = self.health.due(self.now_s, idle=idle)
        self.row += self.health.statistics().failures - before
        assert not (due and self.running)
        if due:
            self.health.began(self.now_s)
            self.running = True

    @precondition(lambda self: self.running)
    @rule(fault=st.sampled_from([None, "wrong"]))
    def end(self, fault: str | None) -> None:
        before = self.health.statistics().failures
        self.health.ended(self.now_s, fault)
        self.running = False
        if fault is None:
            self.row = 0
        else:
            added = self.health.statistics().failures - before
            assert added in (0, 1)
            self.row += added
        far_s = self.now_s + CONFIG.every_s * 2 + 1e6 / CONFIG.runtime_share
        assert self.health._next_s <= far_s

    @invariant()
    def sick_after_so_many(self) -> None:
        assert (self.health.sick is not None) is (self.row >= CONFIG.failures_max)


HealthMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestHealthMachine = HealthMachine.TestCase
