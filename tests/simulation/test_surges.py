"""Seeded surges in virtual time: a few as tests, thousands by `make surges`, as many as `SURGES` says."""

import os

import pytest
from surges import Model, Outcome, Phase, simulate

SEEDS = range(int(os.environ.get("SURGES", "2")))
MODELS = [Model(per_row_s=0.0003), Model(per_row_s=0.001), Model(per_row_s=0.003), Model(per_row_s=0.01)]
BATCHING = Model(per_row_s=0.0001, fixed_s=0.005)
SECONDS = 4.0

models = pytest.mark.parametrize("model", [*MODELS, BATCHING], ids=lambda model: f"{model.per_row_s * 1e3:g}ms")
seeds = pytest.mark.parametrize("seed", SEEDS)


def share(outcome: Outcome, criticality: int) -> float:
    return outcome.good[criticality] / outcome.offered[criticality]


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


@models
@seeds
@pytest.mark.parametrize("times", [2, 5, 10])
def test_goodput_stays_at_capacity_and_answers_are_in_time(model: Model, times: int, seed: int) -> None:
    outcome = simulate(model, [Phase(seconds=SECONDS, rate=times * model.rows_per_s)], seed=seed)
    assert sum(outcome.good.values()) >= 0.95 * model.rows_per_s * SECONDS
    assert quantile(outcome.latencies_s, 0.94) <= 0.1


@seeds
@pytest.mark.parametrize("turnaround_s", [0.002, 0.004])
def test_where_it_takes_long_between_two_runs_they_get_longer(turnaround_s: float, seed: int) -> None:
    """An event loop that refuses ten thousand requests a second comes round to its model in milliseconds."""
    model = Model(per_row_s=0.001, turnaround_s=turnaround_s)
    outcome = simulate(model, [Phase(seconds=SECONDS, rate=10 * model.rows_per_s)], seed=seed)
    assert sum(outcome.good.values()) >= 0.9 * model.rows_per_s_within(0.033) * SECONDS


@seeds
@pytest.mark.parametrize("times", [2, 10])
def test_where_it_takes_long_to_write_answers_those_taken_on_are_in_time(times: int, seed: int) -> None:
    model = Model(per_row_s=0.001, delivery_s=0.03)
    outcome = simulate(model, [Phase(seconds=SECONDS, rate=times * model.rows_per_s)], seed=seed)
    assert quantile(outcome.latencies_s, 0.99) <= 0.1
    assert sum(outcome.good.values()) >= 0.95 * model.rows_per_s * SECONDS


@models
@seeds
@pytest.mark.parametrize("times", [2, 5])
def test_who_cannot_be_answered_is_told_at_once(model: Model, times: int, seed: int) -> None:
    """Those who are less important do not wait for what will not come."""
    rate = times * model.rows_per_s
    classes = {1: 0.08, 2: 0.42, 3: 0.25, 4: 0.25}
    outcome = simulate(model, [Phase(seconds=SECONDS, rate=rate, classes=classes)], seed=seed)
    capacity = model.rows_per_s * SECONDS
    assert outcome.ends["expired"] + outcome.ends["late"] <= 0.15 * capacity
    assert sum(outcome.good.values()) >= 0.95 * capacity


@models
@seeds
def test_nothing_is_refused_at_half_of_the_capacity(model: Model, seed: int) -> None:
    outcome = simulate(model, [Phase(seconds=SECONDS, rate=0.5 * model.rows_per_s)], seed=seed)
    assert sum(outcome.good.values()) >= 0.998 * sum(outcome.offered.values())


@models
@seeds
def test_the_most_important_class_is_served_whole_at_five_times_the_load(model: Model, seed: int) -> None:
    rate = 5 * model.rows_per_s
    classes = {1: 0.1, 2: 0.3, 3: 0.3, 4: 0.3}  # half of the capacity, and nine times as much besides
    outcome = simulate(model, [Phase(seconds=SECONDS, rate=rate, classes=classes)], seed=seed)
    assert share(outcome, 1) >= 0.985
    assert share(outcome, 1) > share(outcome, 2) > share(outcome, 4)


@models
@seeds
def test_it_is_back_to_normal_within_a_second(model: Model, seed: int) -> None:
    calm = 0.5 * model.rows_per_s
    phases = [Phase(seconds=2.0, rate=10 * model.rows_per_s), Phase(seconds=3.0, rate=calm)]
    outcome = simulate(model, phases, seed=seed)
    assert outcome.share_good(3.0, 5.0) >= 0.96


@models
@seeds
def test_clients_that_come_back_at_once_do_not_leave_it_stuck(model: Model, seed: int) -> None:
    calm = 0.5 * model.rows_per_s
    phases = [Phase(seconds=3.0, rate=4 * model.rows_per_s), Phase(seconds=3.0, rate=calm)]
    outcome = simulate(model, phases, seed=seed, retries=3)
    assert outcome.share_good(4.0, 6.0) >= 0.96


@models
@seeds
def test_callers_without_a_deadline_of_their_own_do_not_pile_up(model: Model, seed: int) -> None:
    rate = 10 * model.rows_per_s
    outcome = simulate(model, [Phase(seconds=SECONDS, rate=rate)], seed=seed, patience_s=30.0)
    assert sum(outcome.good.values()) >= 0.95 * model.rows_per_s * SECONDS
    # All that can be answered by when it is due, and what came before the first run had told how long that is.
    assert outcome.waiting_max <= 0.1 * 2 * model.rows_per_s + 2 + 0.03 * rate


@models
@seeds
def test_requests_of_many_rows_do_not_keep_the_most_important_waiting(model: Model, seed: int) -> None:
    """One request of a second's work after the other, of the least important class, beside half of a load."""
    rows = int(model.rows_per_s)
    single, many = 0.5 * model.rows_per_s, 3.0
    classes = {1: single, 4: many}
    phase = Phase(seconds=10.0, rate=single + many, classes=classes, rows={4: rows})
    outcome = simulate(model, [phase], seed=seed, patience_s=30.0)
    assert share(outcome, 1) >= 0.995
    assert outcome.busy_s >= 0.7 * phase.seconds, "what is left over goes to who brings many rows"


@models
@seeds
def test_deadlines_of_all_lengths_together_leave_goodput_at_capacity(model: Model, seed: int) -> None:
    rate = 5 * model.rows_per_s
    phase = Phase(seconds=SECONDS, rate=rate, deadlines_s=(0.05, 0.1, 1.0, 10.0))
    outcome = simulate(model, [phase], seed=seed)
    assert sum(outcome.good.values()) >= 0.95 * model.rows_per_s * SECONDS


@models
@seeds
def test_requests_of_many_rows_do_not_keep_their_own_class_waiting(model: Model, seed: int) -> None:
    """A few seconds' work at once, beside a tenth of a load of the same class."""
    rows, single = int(model.rows_per_s), 0.1 * model.rows_per_s
    phases = [
        Phase(seconds=2.0, rate=single),
        Phase(seconds=0.001, rate=3000.0, classes={4: 1}, rows={4: rows}),
    ]
    outcome = simulate(
        model, [*phases, Phase(seconds=2.0, rate=single, classes={4: 1})], seed=seed, patience_s=30.0
    )
    assert share(outcome, 2) >= 0.99
    # For a while the large ones are due sooner, and go first.
    assert outcome.share_good(2.1, 4.0) >= 0.6
    assert not outcome.ends["overload"], "one request is no queue"
