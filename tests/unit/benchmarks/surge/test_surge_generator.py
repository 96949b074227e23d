"""What the generator is asked, and how its report is read: one that does not add up is not believed."""

import json

import msgspec
import pytest
from benchmarks.harness.load import LoadFailed
from benchmarks.surge.generator import CLASSES, Class, Clients, Phase, parse
from surge_reports import seen, seen_class, seen_phase

COUNTS = {
    "arrivals": 90,
    "retries": 10,
    "sent": 95,
    "unsent": 5,
    "good": 50,
    "late": 10,
    "rungs": 4,
    "given_up": 3,
    "broken": 2,
    "statuses": {200: 60, 503: 20, 504: 10},
}


def report(**changes: object) -> str:
    phase = seen_phase("surge", seen_class(**{**COUNTS, **changes}))
    return msgspec.json.encode(seen([(10, 9)], phase)).decode()


def test_a_report_is_read_whole():
    read = parse(report())

    total = read.phase("surge").total
    assert total.statuses == {200: 60, 503: 20, 504: 10}
    assert (total.attempts, total.answered, total.refused) == (100, 60, 30)
    assert total.good_share == 0.5
    assert read.phase("surge").good_rps == 50
    assert (read.windows[0].attempts, read.windows[0].good) == (10, 9)


@pytest.mark.parametrize(
    "count", ["arrivals", "retries", "sent", "unsent", "good", "late", "given_up", "broken"]
)
def test_counts_that_do_not_add_up_are_refused(count):
    with pytest.raises(LoadFailed, match="lost count"):
        parse(report(**{count: COUNTS[count] + 1}))


def test_more_rungs_than_answers_are_refused():
    with pytest.raises(LoadFailed, match="lost count"):
        parse(report(rungs=61))


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"start_s": 1.0})])
def test_a_report_that_cannot_be_read_says_so(text):
    with pytest.raises(LoadFailed, match="cannot be read"):
        parse(text)


def test_no_attempts_have_no_good_share():
    assert seen_class().good_share is None


@pytest.mark.parametrize(("late", "limited"), [(10, False), (11, True)])
def test_more_than_one_late_send_in_a_hundred_is_the_generators_limit(late, limited):
    phase = seen_phase("surge", seen_class(arrivals=1000, sent=1000, good=1000), lag_late=late)

    assert phase.limited is limited


def test_a_phase_is_open_or_closed():
    assert Phase(name="surge", seconds=2.5, rate=1234.5678).argument() == "surge:1234.568:2.5"
    assert Phase(name="level", seconds=1.0, in_flight=8).argument() == "level:c8:1.0"


def test_clients_say_what_they_send():
    clients = Clients(connections=7, retries=3, classes=(Class(name="A", weight=0.5, header="x-a: 1"),))

    command = " ".join(clients.arguments())

    assert command == "-c 7 -D 100.0 -T 1000.0 -r 3 -H x-request-timeout-ms: 100 -k A:0.5:x-a: 1"


def test_the_timeout_need_not_be_sent():
    assert not any("timeout" in part for part in Clients(timeout_header_ms=None).arguments())


def test_the_most_important_class_stays_below_capacity_at_ten_times_load():
    assert sum(each.weight for each in CLASSES) == pytest.approx(1.0)
    assert 10 * next(each.weight for each in CLASSES if each.name == "CRITICAL_PLUS") < 1
