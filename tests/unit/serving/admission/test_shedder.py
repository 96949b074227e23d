from hypothesis import given
from hypothesis import strategies as st

from penstock.serving.admission.shedder import HOUR_S, IDLE_S, RATIO_MAX, TICK_S, Shedder, rank_of

OBJECTIVE_S = 0.1


def pressed(shedder: Shedder, ticks: int, sojourn_s: float = 0.2, now_s: float = 0.0) -> float:
    for _ in range(ticks):
        now_s += TICK_S
        shedder.dequeued(sojourn_s)
        shedder.tick(now_s, oldest_s=sojourn_s, service_s=0.01, lag_s=0.0)
    return now_s


def test_a_standing_queue_sheds_and_its_end_stops_that() -> None:
    shedder = Shedder(OBJECTIVE_S)
    now_s = pressed(shedder, 30)
    assert shedder.ratio == RATIO_MAX
    pressed(shedder, 30, sojourn_s=0.0, now_s=now_s)
    assert shedder.ratio == 0.0


def test_the_controller_by_hand() -> None:
    """As written: r ← clip(r + 0.2(e - e₋₁) + 0.1e, 0, 0.95), where e = clip((d - d*)/d*, -1, 1)."""
    shedder = Shedder(OBJECTIVE_S)
    wanted, before = 0.0, 0.0
    for number, sojourn_s in enumerate((0.02, 0.015, 0.012, 0.01, 0.001, 0.03)):
        error = max(-1.0, min((sojourn_s - 0.01) / 0.01, 1.0))
        wanted = max(0.0, min(wanted + 0.2 * (error - before) + 0.1 * error, 0.95))
        before = error
        shedder.dequeued(sojourn_s + 1.0)  # the least counts
        shedder.dequeued(sojourn_s)
        shedder.tick(number * TICK_S, oldest_s=sojourn_s, service_s=0.01, lag_s=0.0)
        assert abs(shedder.ratio - wanted) < 1e-12


def test_with_nothing_dequeued_the_oldest_counts() -> None:
    shedder = Shedder(OBJECTIVE_S)
    shedder.tick(0.1, oldest_s=0.5, service_s=0.01, lag_s=0.0)
    assert shedder.ratio > 0


def test_a_loop_that_lags_counts_as_the_largest_error() -> None:
    shedder = Shedder(OBJECTIVE_S)
    for number in range(20):
        shedder.tick(number * TICK_S, oldest_s=0.0, service_s=0.01, lag_s=0.06)
    assert shedder.ratio == RATIO_MAX


def test_after_a_second_without_a_queue_nothing_is_shed() -> None:
    shedder = Shedder(OBJECTIVE_S)
    now_s = pressed(shedder, 30)
    shedder.tick(now_s + IDLE_S + 0.01, oldest_s=0.0, service_s=0.01, lag_s=0.0)
    assert shedder.ratio == 0.0


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 30)), min_size=50, max_size=900),
    st.integers(1, 40),
)
def test_as_many_are_shed_as_wanted_and_the_least_important(came: list[tuple[int, int]], ticks: int) -> None:
    shedder = Shedder(OBJECTIVE_S)
    ranks = [rank_of(criticality, b"%d" % caller, 0.0) for criticality, caller in came]
    for rank in ranks:
        shedder.seen(rank)
    pressed(shedder, ticks)
    shed = [rank for rank in ranks if shedder.sheds(rank)]
    assert abs(len(shed) - shedder.ratio * len(ranks)) <= 2
    kept = [rank for rank in ranks if rank not in set(shed)]
    assert not shed or not kept or max(shed) <= min(kept)


def test_one_caller_alone_is_shed_in_part_and_evenly() -> None:
    shedder = Shedder(OBJECTIVE_S)
    for _ in range(1000):
        shedder.seen(2.5)
    pressed(shedder, 3)
    decisions = [shedder.sheds(2.5) for _ in range(1000)]
    assert abs(sum(decisions) / 1000 - shedder.ratio) < 0.01
    longest = max(len(run) for run in "".join("x" if each else " " for each in decisions).split("x"))
    assert longest <= 1 / shedder.ratio + 1


@given(st.binary(max_size=20), st.floats(0, 1e9))
def test_ranks_order_classes_and_stay_for_an_hour(caller: bytes, now_s: float) -> None:
    ranks = [rank_of(criticality, caller, now_s) for criticality in (4, 3, 2, 1)]
    assert ranks == sorted(ranks)
    assert len({int(rank) for rank in ranks}) == 4
    begun_s = now_s // HOUR_S * HOUR_S
    assert rank_of(2, caller, begun_s) == rank_of(2, caller, now_s)


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10), st.floats(0, 1)), max_size=60))
def test_the_ratio_stays_within_its_bounds(windows: list[tuple[float, float, float]]) -> None:
    shedder = Shedder(OBJECTIVE_S)
    for number, (sojourn_s, service_s, lag_s) in enumerate(windows):
        shedder.seen(2.0 + number % 2)
        shedder.dequeued(sojourn_s)
        shedder.tick(number * TICK_S, oldest_s=sojourn_s, service_s=service_s, lag_s=lag_s)
        assert 0.0 <= shedder.ratio <= RATIO_MAX
        assert 0.005 <= shedder.target_s <= max(0.005, 0.2 * OBJECTIVE_S)
