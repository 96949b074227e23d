from penstock.serving.jobs.in_flight import PAUSE_S, InFlight


def test_as_many_as_may_until_one_is_refused() -> None:
    limit = InFlight(8)
    assert limit.room(0, 0.0) == 8
    assert limit.room(8, 0.0) == limit.room(9, 0.0) == 0
    for _ in range(5):
        limit.refused(0.0)  # together: they count once
    assert limit.room(0, 0.0) == 0
    assert limit.room(0, PAUSE_S) == 4


def test_it_never_stops_for_good_and_comes_back() -> None:
    limit = InFlight(8)
    for turn in range(20):
        limit.refused(turn * PAUSE_S)
    assert limit.room(0, 20 * PAUSE_S) == 1
    limit.answered()
    assert limit.limit == 2
    for _ in range(100):
        limit.answered()
    assert limit.limit == 8
