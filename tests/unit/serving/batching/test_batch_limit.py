import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.serving.batching.batch_limit import BatchLimit
from penstock.serving.batching.service_model import ServiceModel
from penstock.serving.batching.turnaround import Turnaround


def learned(fixed_s: float, per_row_s: float) -> ServiceModel:
    service = ServiceModel()
    for rows in (1, 2, 4, 8, 16, 32):
        service.observe(rows, fixed_s + per_row_s * rows)
    return service


def test_a_third_of_the_objective_bounds_a_run() -> None:
    limit = BatchLimit(objective_s=0.15, rows_max=1000, service=learned(0.01, 0.001), turnaround=Turnaround())
    assert limit.rows() in (39, 40)  # 10 ms + n · 1 ms ≤ 50 ms
    assert (
        BatchLimit(objective_s=0.15, rows_max=7, service=learned(0.01, 0.001), turnaround=Turnaround()).rows()
        == 7
    )


def test_at_least_one_row() -> None:
    assert (
        BatchLimit(objective_s=0.01, rows_max=1000, service=learned(1.0, 0.001), turnaround=Turnaround()).rows()
        == 1
    )
    assert (
        BatchLimit(objective_s=0.01, rows_max=1000, service=learned(0.0, 1.0), turnaround=Turnaround()).rows()
        == 1
    )
    limit = BatchLimit(objective_s=1.0, rows_max=10, service=ServiceModel(), turnaround=Turnaround())
    for _ in range(100):
        limit.observe(2.0)
    assert limit.rows() == 1


def test_nothing_known_allows_all() -> None:
    assert (
        BatchLimit(objective_s=0.1, rows_max=1000, service=ServiceModel(), turnaround=Turnaround()).rows()
        == 1000
    )


@given(st.integers(1, 2000), st.lists(st.floats(0, 2)))
def test_additive_increase_multiplicative_decrease(rows_max: int, slowest: list[float]) -> None:
    limit = BatchLimit(objective_s=1.0, rows_max=rows_max, service=ServiceModel(), turnaround=Turnaround())
    cap = float(rows_max)
    for slowest_s in slowest:
        limit.observe(slowest_s)
        cap = max(1.0, 0.9 * cap) if slowest_s > 1.0 else min(rows_max, cap + 1)
        assert limit.rows() == max(1, int(cap))
    statistics = limit.statistics()
    assert statistics.cap_rows == pytest.approx(cap)
    assert statistics.missed == sum(slowest_s > 1.0 for slowest_s in slowest)
    assert statistics.rows == limit.rows()


def test_rows_that_gain_nothing_stay_apart() -> None:
    """Where a row costs 10 ms and a run 1 ms, batches of more than two would only make everybody wait."""
    limit = BatchLimit(objective_s=1.0, rows_max=1000, service=learned(0.001, 0.01), turnaround=Turnaround())
    assert limit.rows() == 3  # the least n for which 1.2 ms are at most 5 % of 1.2 ms + n · 10 ms


def test_a_size_that_was_never_tried_is_tried() -> None:
    service = ServiceModel()
    for _ in range(100):
        service.observe(1, 0.01)
    limit = BatchLimit(objective_s=1.0, rows_max=1000, service=service, turnaround=Turnaround())
    assert limit.rows() == 2
    service.observe(2, 0.01)  # the second row cost nothing
    for _ in range(9):
        service.observe(1, 0.01)
    assert limit.rows() > 10


def test_the_longer_the_way_between_two_runs_the_longer_they_are() -> None:
    turnaround = Turnaround()
    limit = BatchLimit(objective_s=1.0, rows_max=1000, service=learned(0.0, 0.001), turnaround=turnaround)
    assert limit.rows() == 4  # 0.2 ms are 5 % of 4 ms
    for _ in range(200):
        turnaround.observe(0.003)
    assert limit.rows() == 57  # 3 ms of 60 ms


def test_a_turnaround_is_never_less_than_nothing_nor_without_bound() -> None:
    turnaround = Turnaround()
    for idle_s in (-1.0, 1e9, float("inf")):
        for _ in range(200):
            turnaround.observe(idle_s)
            turnaround.delivered(idle_s)
        assert 0.0 <= turnaround.seconds <= 0.02
        assert 0.0 <= turnaround.delivery_s <= 0.02
