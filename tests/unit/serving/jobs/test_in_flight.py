from penstock.serving.jobs.in_flight import PAUSE_S, InFlight, Places


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


def test_a_model_that_refuses_holds_up_no_other() -> None:
    places = Places(8)
    for _ in range(2):
        places.began("full", "a")
    places.refused("full", 0.0)
    assert places.of_models(0.0) == {"full": 0}
    assert places.of_models(PAUSE_S) == {"full": 2}
    assert places.free == 6
    for _ in range(100):
        places.answered("full")
    places.ended("full", "a")
    places.ended("full", "a")
    assert places.of_models(PAUSE_S) == places.of_tenants() == {}
    assert places.free == 8


def test_nobody_has_all_places() -> None:
    places = Places(8)
    for _ in range(6):
        places.began("slow", "a")
    assert places.of_models(0.0) == {"slow": 0}
    assert places.of_tenants() == {"a": 0}
    assert places.free == 2
