"""Waiting against never waiting, in a small simulation of one server that runs batches."""

import heapq
import random
from collections.abc import Callable

import pytest

from penstock.serving.batching.service_model import ServiceModel
from penstock.serving.batching.wait_policy import WaitPolicy

ROWS_MAX = 32

Wait = Callable[[int, float], float]
"""From rows that wait and how long the first has, to how long to wait."""


def learned(fixed_s: float, per_row_s: float) -> ServiceModel:
    service = ServiceModel()
    for rows in (1, 2, 4, 8, 16, 32):
        service.observe(rows, fixed_s + per_row_s * rows)
    return service


def poisson(rate: float, count: int, seed: int) -> list[float]:
    rng = random.Random(seed)
    now, times = 0.0, []
    for _ in range(count):
        now += rng.expovariate(rate)
        times.append(now)
    return times


def simulate(
    arrivals: list[float], service: ServiceModel, wait: Wait, arrived: Callable[[float], None]
) -> tuple[float, int]:
    """The mean latency in seconds, and how often the server waited. As the dispatcher does it: a decision
    when a request finds the server idle, when a wait is over and when a batch ends.
    """
    events: list[tuple[float, int, str]] = [(time_s, order, "arrival") for order, time_s in enumerate(arrivals)]
    heapq.heapify(events)
    order = len(events)
    waiting: list[float] = []
    running: list[float] = []
    latency_s, waits, timer_set = 0.0, 0, False
    while events:
        now, _, kind = heapq.heappop(events)
        if kind == "arrival":
            arrived(now)
            waiting.append(now)
        elif kind == "end":
            latency_s += sum(now - came for came in running)
            running = []
        else:
            timer_set = False
        if running or timer_set or not waiting:
            continue
        order += 1
        pause_s = wait(len(waiting), now - waiting[0])
        if pause_s > 0:
            waits, timer_set = waits + 1, True
            heapq.heappush(events, (now + pause_s, order, "timer"))
            continue
        running, waiting = waiting[:ROWS_MAX], waiting[ROWS_MAX:]
        ends = now + service.fixed_s + service.per_row_s * len(running)
        heapq.heappush(events, (ends, order, "end"))
    assert not waiting
    assert not running
    return latency_s / len(arrivals), waits


def compare(fixed_s: float, per_row_s: float, rate: float, seed: int) -> tuple[float, float, int]:
    """Mean latency by the rule, mean latency without waiting, and how often the rule waited."""
    service = learned(fixed_s, per_row_s)
    arrivals = poisson(rate, 3000, seed)
    policy = WaitPolicy(service)
    ruled_s, waits = simulate(
        arrivals, service, lambda rows, waited_s: policy.wait_s(rows=rows, waited_s=waited_s), policy.arrived
    )
    never_s, none = simulate(arrivals, service, lambda rows, waited_s: 0.0, lambda now: None)
    assert none == 0
    return ruled_s, never_s, waits


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("per_fixed", [1, 2, 4, 8, 16, 32])
def test_waiting_never_costs_on_a_server_with_a_large_fixed_cost(per_fixed: int, seed: int) -> None:
    """`per_fixed` requests come, on the average, in the time of the fixed cost."""
    ruled_s, never_s, _ = compare(0.1, 0.0002, per_fixed / 0.1, seed)
    assert ruled_s <= never_s * 1.01


def test_waiting_pays_where_requests_come_close_together() -> None:
    ruled_s, never_s, waits = compare(0.1, 0.0002, 40.0, seed=5)
    assert waits > 0
    assert ruled_s < never_s


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("fixed_s", "rate"), [(0.1, 0.5), (0.01, 5.0), (0.0005, 300.0), (0.0, 5000.0)])
def test_it_never_waits_at_low_load_or_without_a_fixed_cost(fixed_s: float, rate: float, seed: int) -> None:
    ruled_s, never_s, waits = compare(fixed_s, 0.0001, rate, seed)
    assert waits <= 3000 * 0.002  # a gap's average may by chance be short
    assert ruled_s <= never_s * 1.001


def test_the_first_request_is_not_kept() -> None:
    policy = WaitPolicy(learned(0.1, 0.0))
    assert policy.wait_s(rows=1, waited_s=0.0) == 0.0
    policy.arrived(0.0)
    assert policy.wait_s(rows=1, waited_s=0.0) == 0.0  # the gap is not known yet


def test_the_rule() -> None:
    """(k+1)·g + a·k < b, with g the mean gap but at least what was waited already."""
    policy = WaitPolicy(learned(0.1, 0.001))
    for arrival in range(20):
        policy.arrived(0.01 * arrival)
    for rows in range(1, 12):
        waits = policy.wait_s(rows=rows, waited_s=0.0) > 0
        assert waits == ((rows + 1) * 0.01 + 0.001 * rows < 0.1)
    assert policy.wait_s(rows=1, waited_s=0.0) == pytest.approx(0.01)
    assert policy.wait_s(rows=1, waited_s=0.06) == 0.0


def test_arrivals_that_are_told_out_of_order_are_no_rush() -> None:
    """What waited before a load balancer came earlier than what is known already."""
    rng = random.Random(1)
    policy = WaitPolicy(learned(0.0, 0.001))
    coming = []
    for told_s in poisson(1000.0, 5000, seed=1):
        policy.arrived(told_s - rng.uniform(0.0, 0.05))
        coming.append(policy.coming(0.01))
    assert sum(each > 100 for each in coming) < 0.01 * len(coming), "ten come in that time"
