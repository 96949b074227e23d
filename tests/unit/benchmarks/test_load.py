"""The load generator's JSON is read as what was answered well and what was not."""

import json

from benchmarks.harness.load import parse

SEEN = {
    "requests": 1000,
    "seconds": 2.0,
    "rps": 500.0,
    "p50_us": 120,
    "p90_us": 300,
    "p99_us": 900,
    "p999_us": 1500,
    "max_us": 2000,
    "status": {"200": 990, "503": 10},
    "errors": 3,
    "idle": 4936,
    "idle_served": 4930,
    "idle_dropped": 6,
}


def test_only_good_answers_count_as_throughput():
    load = parse(json.dumps(SEEN))

    assert load.rps == 495.0
    assert load.answered == 990


def test_other_statuses_and_broken_connections_count_as_failed():
    assert parse(json.dumps(SEEN)).failed == 13


def test_quantiles_and_idle_connections_are_kept():
    load = parse(json.dumps(SEEN))

    assert (load.p50_us, load.p99_us) == (120, 900)
    assert (load.idle, load.idle_served) == (4936, 4930)


def test_every_kind_of_failure_is_counted_and_named():
    seen = SEEN | {"reset": 2, "closed": 1, "refused": 0, "hung": 4, "early": 1, "mixed": 5, "unread": 6}
    load = parse(json.dumps(seen | {"versions": {"3": [7, 1.5, 2.5]}}))

    assert load.failed == 10 + 3 + 4 + 5 + 6
    assert load.failures == {
        "status 503": 10,
        "reset": 2,
        "closed": 1,
        "hung": 4,
        "early": 1,
        "mixed": 5,
        "unread": 6,
    }
    assert load.versions[3].answers == 7
    assert (load.versions[3].first_s, load.versions[3].last_s) == (1.5, 2.5)
