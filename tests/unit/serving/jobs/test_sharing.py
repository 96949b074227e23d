from penstock.serving.jobs.sharing import Waiting, choose, share_of


def waiting(*lines: tuple[str, int], since: int = 0) -> list[Waiting]:
    """Of each model so many, by turns."""
    found = []
    for model, count in lines:
        found += [Waiting(since + place, 100 * since + place, model) for place in range(count)]
    return found


def test_who_is_alone_leaves_a_quarter() -> None:
    assert [share_of(free, 0) for free in (0, 1, 2, 4, 64)] == [0, 1, 2, 3, 48]
    # As many as it may have: nothing more of it is begun, and whoever comes has three quarters of the rest.
    assert share_of(16, 48) == 0
    assert share_of(16, 0) == 12
    assert share_of(1, 62) == 0


def test_there_is_always_room_for_who_has_none() -> None:
    free, running = 64, []
    for _ in range(12):
        taken = share_of(free, 0)
        if free:
            assert taken > 0
        running.append(taken)
        free -= taken
    assert sum(running) == 64


def test_each_tenant_before_any_has_two() -> None:
    lines = {"a": waiting(("m", 9)), "b": waiting(("m", 2), since=1), "c": waiting(("m", 1), since=2)}
    assert choose(lines, 5, {}, {}, 9) == [0, 100, 200, 1, 101]
    assert choose(lines, 2, {}, {}, 9) == [0, 100]


def test_who_has_no_room_is_passed_over() -> None:
    lines = {"a": [Waiting(0, 0, "full"), Waiting(1, 1, "full"), Waiting(2, 2, "free")]}
    assert choose(lines, 9, {}, {"full": 0}, 9) == [2]
    assert choose(lines, 9, {}, {"full": 1}, 9) == [0, 2]
    assert choose(lines, 9, {"a": 1}, {}, 9) == [0]
    assert choose(lines, 9, {}, {}, 2) == [0, 1]
