"""Versions of a table's keys: what holds where two tiers meet, and what compaction may let go of."""

import numpy as np
import polars as pl

from penstock.streams.joins.versions import COMPACT_ROWS_MIN, Versions

FAR_MS = 2**40


def made(*, by_time: bool = True, ttl_ms: int = FAR_MS, keys_max: int = 1_000_000) -> Versions:
    return Versions(by_time=by_time, ttl_ms=ttl_ms, keys_max=keys_max)


def add(versions: Versions, *records: tuple[int, int, str | None]) -> None:
    """Records of a code, a time and a value, None where they say that the key is gone."""
    codes, times, values = (list(column) for column in zip(*records, strict=True))
    versions.insert(
        pl.DataFrame({"value": values}, schema={"value": pl.String()}),
        np.array(codes, np.int64),
        np.array(times, np.int64),
        np.array([value is None for value in values]),
    )


def held(versions: Versions, *places: tuple[int, int]) -> list[str | None]:
    """The value that holds for each code at its time."""
    codes, times = np.array(places, np.int64).T
    found = versions.find(codes, times)
    if found is None:
        return [None] * len(places)
    rows, numbers = found
    values = rows["value"].to_list()
    return [None if number < 0 else values[number] for number in numbers.tolist()]


def tiers_of(versions: Versions) -> list[int]:
    return [len(codes) for codes in versions.codes()]


def test_of_equal_times_in_two_tiers_the_later_holds() -> None:
    versions = made()
    add(versions, *[(code, 10, f"old {code}") for code in range(8)])
    add(versions, (3, 10, "new"))
    assert tiers_of(versions) == [8, 1], "the case is that of two tiers"
    assert held(versions, (2, 10), (3, 9), (3, 10), (3, 11)) == ["old 2", None, "new", "new"]


def test_an_older_time_in_a_later_tier_does_not_hold() -> None:
    versions = made()
    add(versions, *[(code, 10, f"old {code}") for code in range(8)])
    add(versions, (3, 9, "before"))
    assert tiers_of(versions) == [8, 1]
    assert held(versions, (3, 9), (3, 10)) == ["before", "old 3"]


def test_a_key_that_is_gone_in_a_later_tier_at_an_equal_time_is_gone() -> None:
    versions = made()
    add(versions, *[(code, 10, f"old {code}") for code in range(8)])
    add(versions, (3, 10, None))
    assert tiers_of(versions) == [8, 1]
    assert held(versions, (3, 10), (4, 10)) == [None, "old 4"]


def test_by_arrival_the_last_tier_holds_whatever_its_times() -> None:
    versions = made(by_time=False)
    add(versions, *[(code, 10, f"old {code}") for code in range(8)])
    add(versions, (3, 5, "new"))
    assert tiers_of(versions) == [8, 1]
    assert held(versions, (3, 0), (4, 100)) == ["new", "old 4"]


def test_compaction_keeps_what_a_place_from_the_bound_on_can_see() -> None:
    versions = made(ttl_ms=50)
    add(versions, (0, 10, "a"), (0, 20, "b"), (0, 21, "c"))
    versions.advance(20, 0)
    assert tiers_of(versions) == [2], "that of 20 holds at the bound, so nobody sees that of 10"
    assert held(versions, (0, 20), (0, 21)) == ["b", "c"]
    add(versions, (1, 30, "d"), (1, 40, "e"))
    versions.advance(71, 0)
    assert held(versions, (0, 71), (0, 72), (1, 71)) == ["c", None, "e"]
    assert len(versions) == 2, "that of 20 is too old by now, and that of 30 is hidden"


def test_a_version_as_old_as_the_time_to_live_still_holds() -> None:
    versions = made(ttl_ms=50)
    add(versions, (0, 10, "a"), (1, 9, "b"))
    versions.advance(60, 60)
    assert len(versions) == 1
    assert held(versions, (0, 60), (0, 61), (1, 60)) == ["a", None, None]


def test_what_says_that_a_key_is_gone_stays_while_older_versions_may_come() -> None:
    versions = made(ttl_ms=50)
    add(versions, (0, 30, None), (1, 20, None))
    versions.advance(40, 20)
    assert len(versions) == 1, "nothing older than that of 20 will come"
    add(versions, (0, 25, "older"))
    assert held(versions, (0, 40)) == [None]
    versions.advance(91, 91)
    assert len(versions) == 0


def test_what_can_still_be_asked_for_keeps_a_key_that_is_gone() -> None:
    versions = made(ttl_ms=50)
    add(versions, (0, 30, "a"), (0, 40, None))
    versions.advance(35, 100)
    assert held(versions, (0, 35), (0, 40)) == ["a", None]


def test_versions_are_looked_through_when_there_are_more_than_the_bound() -> None:
    versions = made(by_time=False)
    add(versions, *[(0, time, "a") for time in range(COMPACT_ROWS_MIN)])
    assert len(versions) == COMPACT_ROWS_MIN, "not more than the bound"
    add(versions, (1, 0, "b"))
    assert len(versions) == 2
    assert held(versions, (0, COMPACT_ROWS_MIN), (1, 0)) == ["a", "b"]
    assert versions.compact_at == COMPACT_ROWS_MIN


def test_the_bound_is_twice_what_was_left() -> None:
    versions = made(by_time=False)
    add(versions, *[(code, 0, "a") for code in range(3 * COMPACT_ROWS_MIN)])
    assert versions.compact_at == 6 * COMPACT_ROWS_MIN
    add(versions, *[(0, 0, "b") for _ in range(3 * COMPACT_ROWS_MIN)])
    assert len(versions) == 6 * COMPACT_ROWS_MIN
    add(versions, (0, 0, "c"))
    assert len(versions) == 3 * COMPACT_ROWS_MIN
    assert held(versions, (0, 0), (1, 0)) == ["c", "a"]


def test_keys_are_counted_once_in_whichever_frames_they_come() -> None:
    versions = made(keys_max=10)
    add(versions, (5, 0, "a"), (5, 1, "a"), (0, 0, "a"), (0, 0, "a"))
    assert versions.keys == 2
    add(versions, (5, 2, "a"), (COMPACT_ROWS_MIN, 0, "a"))
    assert versions.keys == 3
    add(versions, *[(code, 0, "b") for code in range(100, 107)])
    assert (versions.keys, versions.keys_evicted) == (10, 0)
    add(versions, (200, 0, "c"))
    assert (versions.keys, versions.keys_evicted) == (9, 2)
    assert held(versions, (0, 9), (5, 9), (COMPACT_ROWS_MIN, 9)) == [None, None, "a"]
