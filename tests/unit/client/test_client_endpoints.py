"""Which server is asked, which is ejected, and when it is asked whether it is ready again."""

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.client.endpoints import FAILURES_MAX, PROBE_FIRST_S, PROBE_LONGEST_S, Endpoints
from penstock.core.errors import InvalidInput

URLS = ["http://a:1", "http://b:1", "http://c:1"]


def eject(endpoints: Endpoints, number: int, now_s: float = 0.0) -> None:
    endpoint = list(endpoints)[number]
    for _ in range(FAILURES_MAX):
        endpoints.failed(endpoint, "connection refused", now_s)
    assert not endpoint.up


def test_the_less_busy_of_two_is_asked() -> None:
    """With the busiest among three, two random ones never choose it: the other of the two is less busy."""
    endpoints = Endpoints(URLS, random.Random(1).random)
    busiest, *_ = endpoints
    busiest.begun()
    chosen = Counter(endpoints.pick().url for _ in range(300))
    assert set(chosen) == {"http://b:1", "http://c:1"}
    assert min(chosen.values()) > 100


def test_load_spreads_as_two_choices_promise() -> None:
    endpoints = Endpoints([f"http://h{number}" for number in range(50)], random.Random(2).random)
    for _ in range(5000):
        endpoints.pick().begun()
    # One random choice would be off by about 30 at the most loaded; two stay within a few.
    assert max(each.outstanding for each in endpoints) <= 100 + 5


def test_failures_in_a_row_eject_and_an_answer_between_them_does_not() -> None:
    endpoints = Endpoints(URLS, lambda: 0.5)
    first, *_ = endpoints
    for _ in range(10):
        for _ in range(FAILURES_MAX - 1):
            endpoints.failed(first, "reset", 1.0)
        endpoints.answered(first)
    assert first.up
    eject(endpoints, 0)
    assert all(endpoints.pick() is not first for _ in range(50))
    assert first.statistics().why == "connection refused"
    assert first.statistics().ejections == 1
    endpoints.answered(first)
    assert first.up
    assert endpoints.next_probe_s() is None


def test_where_all_are_ejected_one_is_asked_all_the_same() -> None:
    endpoints = Endpoints(URLS[:2], lambda: 0.5)
    eject(endpoints, 0)
    eject(endpoints, 1)
    first, second = endpoints
    assert endpoints.pick({first}) is second
    assert endpoints.pick_other(set()) is None
    assert endpoints.pick({first, second}) in (first, second)


def test_one_that_is_up_is_asked_again_rather_than_one_that_is_ejected() -> None:
    endpoints = Endpoints(URLS[:2], lambda: 0.5)
    eject(endpoints, 1)
    first, _ = endpoints
    assert endpoints.pick({first}) is first
    assert endpoints.pick_other({first}) is None


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=30, max_size=30))
def test_probes_come_later_and_later_within_their_bounds(draws: list[float]) -> None:
    endpoints = Endpoints(URLS[:1], itertools.cycle(draws).__next__)
    eject(endpoints, 0)
    (endpoint,) = endpoints
    now_s = 0.0
    for failed in range(20):
        due_s = endpoints.next_probe_s()
        assert due_s is not None
        pause_s = min(PROBE_LONGEST_S, PROBE_FIRST_S * 2**failed)
        assert pause_s / 2 - 1e-9 <= due_s - now_s <= pause_s + 1e-9
        assert endpoints.due(due_s) == [endpoint]
        now_s = due_s
        endpoints.probe_failed(endpoint, "503 at /v2/health/ready", now_s)
        assert endpoints.due(now_s) == []


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "localhost:8000",
            "ftp://a",
            "http://",
            "http://a:0",
            "http://a:99999",
            "http://a?x=1",
            "http://ü",
        ),
        *("http://a/\r\nx: y", "http://a/b c", "http://me:secret@a"),
    ],
)
def test_what_is_no_base_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        Endpoints([url], lambda: 0.5)


@pytest.mark.parametrize("urls", [[], ["http://a", "http://a/"], [f"http://h{n}" for n in range(257)]])
def test_no_url_or_one_twice_is_refused(urls: list[str]) -> None:
    with pytest.raises(InvalidInput):
        Endpoints(urls, lambda: 0.5)
