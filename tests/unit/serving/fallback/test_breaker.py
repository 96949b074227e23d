"""The breaker against a plain reading of its rules, whatever happens and however the clock moves."""

import math
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.core.errors import ConfigurationError
from penstock.serving.fallback.breaker import BreakerConfig, BreakerState, CircuitBreaker, Probe

CONFIG = BreakerConfig(
    failure_share=0.5, window_requests=8, requests_min=4, open_first_s=1.0, open_longest_s=6.0, probes=2
)


def closed_breaker(jitter: float = 1.0) -> CircuitBreaker:
    return CircuitBreaker(CONFIG, lambda: jitter)


def fail(breaker: CircuitBreaker, times: int, now_s: float = 0.0) -> None:
    for _ in range(times):
        breaker.observe(failed=True, begun_s=now_s, now_s=now_s)


def close_again(breaker: CircuitBreaker, now_s: float) -> None:
    for _ in range(CONFIG.probes):
        probe = breaker.probe(now_s)
        assert probe is not None
        probe.succeeded(now_s)
    assert breaker.closed


def test_it_opens_on_the_share_once_enough_is_known() -> None:
    breaker = closed_breaker()
    fail(breaker, 3)
    assert breaker.closed, "three requests tell too little"
    fail(breaker, 1)
    assert breaker.state(0.0) is BreakerState.OPEN
    breaker = closed_breaker()
    for number in range(100):
        breaker.observe(failed=number % 3 == 2, begun_s=0.0, now_s=0.0)
    assert breaker.closed, "a third is less than half"


def test_what_failed_long_ago_is_forgotten() -> None:
    breaker = closed_breaker()
    fail(breaker, 3)
    for _ in range(8):
        breaker.observe(failed=False, begun_s=0.0, now_s=0.0)
    fail(breaker, 3)
    assert breaker.closed, "3 of the last 8"
    fail(breaker, 1)
    assert not breaker.closed


def test_it_stays_open_twice_as_long_each_time_and_no_longer_than_the_cap() -> None:
    breaker = closed_breaker()
    fail(breaker, 4)
    now_s = 0.0
    pauses = []
    for _ in range(6):
        pauses.append(breaker.open_s(now_s))
        assert breaker.probe(now_s) is None
        now_s += breaker.open_s(now_s)
        probe = breaker.probe(now_s)
        assert probe is not None
        probe.failed(now_s)
    assert pauses == [1.0, 2.0, 4.0, 6.0, 6.0, 6.0]


def test_half_of_the_pause_is_random() -> None:
    for jitter, pause_s in ((0.0, 0.5), (0.5, 0.75), (1.0, 1.0)):
        breaker = closed_breaker(jitter)
        fail(breaker, 4)
        assert breaker.open_s(0.0) == pause_s


def test_a_breaker_that_opens_soon_again_pauses_longer_and_a_calm_one_begins_anew() -> None:
    breaker = closed_breaker()
    fail(breaker, 4)
    close_again(breaker, 1.0)
    fail(breaker, 4, 2.0)
    assert breaker.open_s(2.0) == 2.0
    close_again(breaker, 4.0)
    fail(breaker, 4, 11.0)
    assert breaker.open_s(11.0) == 1.0


def test_only_as_many_probes_as_there_may_be() -> None:
    breaker = closed_breaker()
    fail(breaker, 4)
    probes = [breaker.probe(1.0) for _ in range(5)]
    assert [probe is not None for probe in probes] == [True, True, False, False, False]
    first, second = probes[0], probes[1]
    assert first is not None
    assert second is not None
    first.ignored(1.5)
    third = breaker.probe(1.5)
    assert third is not None, "what says nothing frees its place"
    third.succeeded(2.0)
    assert breaker.probe(2.0) is None, "one more success is on its way, and enough"
    second.succeeded(2.0)
    assert breaker.closed


def test_a_probe_ends_once() -> None:
    breaker = closed_breaker()
    fail(breaker, 4)
    probe = breaker.probe(1.0)
    assert probe is not None
    probe.succeeded(1.0)
    probe.succeeded(1.0)
    probe.failed(1.0)
    assert not breaker.closed
    assert breaker.state(1.0) is BreakerState.HALF_OPEN
    assert breaker.statistics(1.0).probes == 0


def test_a_lost_probe_does_not_keep_it_from_closing() -> None:
    breaker = closed_breaker()
    fail(breaker, 4)
    lost = [breaker.probe(1.0), breaker.probe(1.0)]
    assert breaker.probe(6.9) is None
    close_again(breaker, 7.0)
    for probe in lost:
        assert probe is not None
        probe.failed(8.0)
    assert breaker.closed, "they are of another time"


def test_outcomes_of_requests_from_before_it_closed_do_not_count() -> None:
    breaker = closed_breaker()
    fail(breaker, 4)
    close_again(breaker, 2.0)
    for _ in range(20):
        breaker.observe(failed=True, begun_s=1.9, now_s=3.0)
    assert breaker.closed
    assert breaker.statistics(3.0).requests == 0


def test_a_clock_that_jumps() -> None:
    breaker = closed_breaker()
    fail(breaker, 4, 1e9)
    assert breaker.open_s(0.0) == CONFIG.open_longest_s, "set back, it waits no longer than it ever does"
    assert breaker.probe(CONFIG.open_longest_s) is not None
    breaker = closed_breaker()
    fail(breaker, 4)
    assert breaker.probe(1e12) is not None


@pytest.mark.parametrize(
    "wrong",
    [
        {"failure_share": 0.0},
        {"failure_share": 1.1},
        {"failure_share": math.nan},
        {"requests_min": 0},
        {"requests_min": 101},
        {"window_requests": 10**9},
        {"open_first_s": 0.0},
        {"open_first_s": 31.0},
        {"open_longest_s": math.inf},
        {"probes": 0},
        {"probes": 10**9},
    ],
)
def test_what_cannot_work_is_no_configuration(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="cannot work"):
        BreakerConfig(**wrong)


class BreakerMachine(RuleBasedStateMachine):
    """`outcomes` is what has been seen since it closed; `out` are probes that have not ended."""

    def __init__(self) -> None:
        super().__init__()
        self.jitter = 0.0
        self.breaker = CircuitBreaker(CONFIG, lambda: self.jitter)
        self.now_s = 0.0
        self.closed_s = -math.inf
        self.outcomes: list[bool] = []
        self.out: list[Probe] = []
        self.good = 0

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 10.0, 1e6, -5.0, -1e6]), jitter=st.floats(0, 1))
    def move_the_clock(self, seconds: float, jitter: float) -> None:
        self.now_s += seconds
        self.jitter = jitter

    @rule(failed=st.booleans(), age_s=st.sampled_from([0.0, 0.5, 5.0]))
    def end_a_request(self, failed: bool, age_s: float) -> None:
        was_closed = self.breaker.closed
        begun_s = self.now_s - age_s
        self.breaker.observe(failed=failed, begun_s=begun_s, now_s=self.now_s)
        if was_closed and begun_s >= self.closed_s:
            self.outcomes.append(failed)
            last = self.outcomes[-CONFIG.window_requests :]
            opens = failed and len(last) >= CONFIG.requests_min and 2 * sum(last) >= len(last)
            assert self.breaker.closed is not opens
            if opens:
                self.opened()
        else:
            assert self.breaker.closed is was_closed

    @precondition(lambda self: not self.breaker.closed)
    @rule()
    def ask_for_a_probe(self) -> None:
        waits = self.breaker.open_s(self.now_s) > 0
        probe = self.breaker.probe(self.now_s)
        if waits:
            assert probe is None
        elif probe is None:
            assert self.breaker.statistics(self.now_s).probes + self.good == CONFIG.probes
        if probe is not None:
            self.out.append(probe)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), how=st.sampled_from(["succeeded", "failed", "ignored"]))
    def end_a_probe(self, data: st.DataObject, how: str) -> None:
        probe = data.draw(st.sampled_from(self.out))
        self.out.remove(probe)
        standing = probe in self.breaker._probes
        getattr(probe, how)(self.now_s)
        if not standing or how == "ignored":
            return
        if how == "failed":
            assert self.breaker.open_s(self.now_s) > 0
            self.opened()
            return
        self.good += 1
        assert self.breaker.closed is (self.good == CONFIG.probes)
        if self.breaker.closed:
            self.closed()

    @precondition(lambda self: not self.breaker.closed)
    @rule()
    def it_can_always_be_closed(self) -> None:
        """Whatever came before: after its longest pause, a version that is well answers again."""
        self.now_s += CONFIG.open_longest_s
        while not self.breaker.closed:
            probe = self.breaker.probe(self.now_s)
            assert probe is not None, "stuck"
            probe.succeeded(self.now_s)
        self.closed()

    @invariant()
    def bounds_hold(self) -> None:
        statistics = self.breaker.statistics(self.now_s)
        assert 0 <= statistics.probes <= CONFIG.probes
        assert 0 <= statistics.failures <= statistics.requests <= CONFIG.window_requests
        assert 0 <= statistics.open_s <= CONFIG.open_longest_s
        assert self.breaker.closed is (self.breaker.state(self.now_s) is BreakerState.CLOSED)
        if self.breaker.closed:
            last = self.outcomes[-CONFIG.window_requests :]
            assert (statistics.requests, statistics.failures) == (len(last), sum(last))

    def opened(self) -> None:
        self.good = 0
        assert CONFIG.open_first_s / 2 <= self.breaker.open_s(self.now_s) <= CONFIG.open_longest_s

    def closed(self) -> None:
        self.closed_s = self.now_s
        self.outcomes = []
        self.good = 0


BreakerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBreakerMachine = BreakerMachine.TestCase
