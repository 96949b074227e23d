"""Token buckets against an oracle that counts what passed, in exact fractions, and knows no bucket."""

import asyncio
import math
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.clock import ManualClock
from penstock.serving.admission.rates.buckets import TOLERANCE_S, WAYS, BucketTable
from penstock.serving.admission.rates.rule import RateLimit
from penstock.serving.admission.rates.store import LocalRateLimitStore

SET_BYTES = WAYS * 16
RATES = st.sampled_from([0.01, 0.3, 1.0, 3.0, 7.0, 100.0, 12_345.6])
BURSTS = st.sampled_from([1.0, 1.5, 2.0, 10.0, 200.0])
GAPS = st.one_of(st.just(0.0), st.floats(0, 0.01), st.floats(0, 5), st.floats(0, 1000))


def limits() -> st.SearchStrategy[RateLimit]:
    return st.builds(RateLimit, per_second=RATES, burst=BURSTS)


def asks() -> st.SearchStrategy[list[tuple[float, float]]]:
    return st.lists(st.tuples(GAPS, st.sampled_from([1.0, 1.0, 2.0, 5.0])), max_size=60)


@given(limit=limits(), asked=asks(), start_s=st.sampled_from([0.0, 1.0, 3.7e6]))
def test_over_any_interval_no_more_than_the_burst_and_the_rate_pass(
    limit: RateLimit, asked: list[tuple[float, float]], start_s: float
) -> None:
    table = BucketTable(bytearray(SET_BYTES))
    now_s, passed = start_s, []
    for gap_s, cost in asked:
        now_s += gap_s
        if table.take(7, cost, limit, now_s) == 0.0:
            passed.append((Fraction(now_s), Fraction(cost)))
    rate, burst = Fraction(limit.per_second), Fraction(limit.burst)
    for first in range(len(passed)):
        taken = Fraction(0)
        for at_s, cost in passed[first:]:
            taken += cost
            allowed = burst + rate * (at_s - passed[first][0] + Fraction(2 * TOLERANCE_S))
            assert taken <= allowed


@given(limit=limits(), gaps=st.lists(st.floats(1.0, 10.0), max_size=80), start_s=st.sampled_from([0.0, 3.7e6]))
def test_who_keeps_to_the_rate_is_never_refused(limit: RateLimit, gaps: list[float], start_s: float) -> None:
    table = BucketTable(bytearray(SET_BYTES))
    now_s = start_s
    for gap in gaps:
        assert table.take(7, 1.0, limit, now_s) == 0.0
        now_s += gap / limit.per_second


@given(limit=limits(), asked=asks())
def test_the_wait_is_the_time_until_it_passes_and_no_longer(
    limit: RateLimit, asked: list[tuple[float, float]]
) -> None:
    table = BucketTable(bytearray(SET_BYTES))
    now_s = 0.0
    for gap_s, cost in asked:
        now_s += gap_s
        foretold_s = table.wait_s(7, cost, limit, now_s)
        wait_s = table.take(7, cost, limit, now_s)
        assert math.isclose(foretold_s, wait_s, abs_tol=1e-9) or foretold_s == wait_s
        if cost > limit.burst:
            assert wait_s == math.inf
        elif wait_s > 0.0:
            assert wait_s <= limit.fill_s * (1 + 1e-9)
            if wait_s > 0.01:
                assert table.wait_s(7, cost, limit, now_s + wait_s * 0.99) > 0.0
            assert table.wait_s(7, cost, limit, now_s + wait_s) == 0.0


@given(
    limit=limits(),
    steps=st.lists(st.tuples(st.one_of(GAPS, st.floats(-1e7, 1e7)), st.sampled_from([1.0, 2.0])), max_size=60),
)
def test_clock_jumps_bring_no_more_than_the_time_that_the_clock_went_forward(
    limit: RateLimit, steps: list[tuple[float, float]]
) -> None:
    table = BucketTable(bytearray(SET_BYTES))
    now_s, forward_s, taken = 0.0, Fraction(0), Fraction(0)
    for step_s, cost in steps:
        before_s, now_s = now_s, now_s + step_s
        forward_s += max(Fraction(0), Fraction(now_s) - Fraction(before_s))
        wait_s = table.take(7, cost, limit, now_s)
        if wait_s == 0.0:
            taken += Fraction(cost)
        elif cost <= limit.burst:
            assert wait_s <= limit.fill_s + 1e-6  # never less than nothing in it
        slack = len(steps) * Fraction(2 * TOLERANCE_S)
        assert taken <= Fraction(limit.burst) + Fraction(limit.per_second) * (forward_s + slack)


class Unbounded:
    """As many buckets as there are keys: tokens are counted up and down, in fractions."""

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self.tokens: dict[int, tuple[Fraction, Fraction]] = {}

    def level(self, key: int, now_s: float) -> Fraction:
        burst = Fraction(self.limit.burst)
        level, then_s = self.tokens.get(key, (burst, Fraction(now_s)))
        return min(burst, level + Fraction(self.limit.per_second) * (Fraction(now_s) - then_s))

    def take(self, key: int, now_s: float) -> None:
        self.tokens[key] = (self.level(key, now_s) - 1, Fraction(now_s))


@given(
    asked=st.lists(st.tuples(st.integers(1, 40), st.sampled_from([0.0, 0.125, 0.5, 1.0])), max_size=200),
    limit=st.sampled_from([RateLimit(per_second=4, burst=2), RateLimit(per_second=8, burst=1)]),
)
def test_what_is_forgotten_is_full_so_nothing_is_lost(asked: list[tuple[int, float]], limit: RateLimit) -> None:
    """Forty keys in eight places: as long as it says that it lost none, it answers as if it had kept all."""
    table, oracle = BucketTable(bytearray(SET_BYTES)), Unbounded(limit)
    now_s = 0.0
    for key, gap_s in asked:
        now_s += gap_s
        passes = table.take(key, 1.0, limit, now_s) == 0.0
        if table.statistics(now_s).lost:
            return
        assert passes == (oracle.level(key, now_s) >= 1)
        if passes:
            oracle.take(key, now_s)


def test_places_are_lost_only_when_all_of_them_are_filling() -> None:
    limit = RateLimit(per_second=1, burst=10)
    table = BucketTable(bytearray(SET_BYTES))
    for key in range(1, WAYS + 1):
        for _ in range(key):
            assert table.take(key, 1.0, limit, 0.0) == 0.0
    assert table.statistics(0.0).lost == 0
    assert table.statistics(0.0).filling == WAYS
    # After two seconds the first two are full again: they give way, and nobody notices.
    for key in (101, 102):
        assert table.take(key, 9.0, limit, 2.0) == 0.0
    assert table.statistics(2.0).lost == 0
    # Now none is full: the one that is nearest to it gives way. Who took most stays known.
    assert table.take(103, 1.0, limit, 2.0) == 0.0
    assert table.statistics(2.0).lost == 1
    assert table.take(WAYS, 5.0, limit, 2.0) > 0.0


def test_a_million_keys_take_no_more_memory() -> None:
    limit = RateLimit(per_second=0.001, burst=1)
    memory = bytearray(64 * SET_BYTES)
    table = BucketTable(memory)
    for key in range(1, 100_001):
        table.take(key, 1.0, limit, 1.0)
    assert len(memory) == 64 * SET_BYTES
    assert table.statistics(1.0).filling == 64 * WAYS


def test_two_tables_over_the_same_memory_share_their_buckets() -> None:
    memory = bytearray(SET_BYTES)
    one, other = BucketTable(memory), BucketTable(memory)
    limit = RateLimit(per_second=1, burst=2)
    assert [table.take(9, 1.0, limit, 5.0) == 0.0 for table in (one, other, one)] == [True, True, False]


def test_another_limit_finds_a_bucket_that_holds_neither_less_than_nothing_nor_more_than_its_burst() -> None:
    table = BucketTable(bytearray(SET_BYTES))
    assert table.take(1, 100.0, RateLimit(per_second=0.01, burst=100), 0.0) == 0.0
    lower = RateLimit(per_second=10, burst=5)
    assert math.isclose(table.take(1, 1.0, lower, 0.0), 0.1)
    assert table.take(1, 5.0, lower, 0.5) == 0.0
    assert table.take(1, 1.0, lower, 0.5) > 0.0


def test_the_store_answers_with_the_time_of_its_clock() -> None:
    clock = ManualClock()
    store = LocalRateLimitStore(BucketTable(bytearray(SET_BYTES)), clock)
    limit = RateLimit(per_second=2, burst=1)
    assert asyncio.run(store.take(3, 1.0, limit)) == (True, 0.0)
    assert asyncio.run(store.take(3, 1.0, limit)) == (False, 0.5)
    clock.advance(0.5)
    assert asyncio.run(store.take(3, 1.0, limit)) == (True, 0.0)
    assert asyncio.run(store.take(3, 2.0, limit)) == (False, math.inf)
