"""Throughput, silence and recovery as read from the load generator's record."""

import json

import pytest
from benchmarks.protocols.record import Record, read_record, recovered_s

WINDOW_S = 0.01
START_S = 100.0


def record(good: list[int]) -> Record:
    return Record(start_s=START_S, window_s=WINDOW_S, good=good, slowest_us=[0] * len(good), failures=[])


def test_throughput_counts_whole_windows():
    seen = record([10] * 100 + [20] * 100)

    assert seen.rps(START_S, START_S + 1) == pytest.approx(1000)
    assert seen.rps(START_S + 0.5, START_S + 1.5) == pytest.approx(1500)
    assert seen.rps(START_S + 5, START_S + 6) == 0


def test_silence_is_the_longest_run_without_an_answer():
    assert record([1, 0, 0, 1, 0, 0, 0, 1]).silence_s(START_S, START_S + 1) == pytest.approx(0.03)


def test_recovery_is_when_throughput_is_back_and_stays():
    seen = record([10] * 100 + [1] * 80 + [10] * 200)
    broken_s = START_S + 1

    back_s = recovered_s(seen, broken_s=broken_s, until_s=START_S + 3.8, wanted_rps=900)

    # The first window of 100 ms that is full again begins when the dip ends, or one step beside it.
    assert back_s == pytest.approx(0.8, abs=0.02)


def test_a_moment_of_full_throughput_is_not_recovery():
    seen = record([10] * 100 + [1] * 40 + [10] * 12 + [1] * 40 + [10] * 200)

    back_s = recovered_s(seen, broken_s=START_S + 1, until_s=START_S + 3.9, wanted_rps=900)

    assert back_s is not None
    assert back_s > 0.9


def test_single_short_windows_do_not_hide_recovery():
    good = [10] * 100 + [1] * 50 + ([10] * 45 + [0] * 5) * 5

    assert recovered_s(
        record(good), broken_s=START_S + 1, until_s=START_S + 4, wanted_rps=900
    ) == pytest.approx(0.5, abs=0.02)


def test_what_never_comes_back_is_none():
    seen = record([10] * 100 + [5] * 300)

    assert recovered_s(seen, broken_s=START_S + 1, until_s=START_S + 4, wanted_rps=900) is None


def test_no_dip_is_recovered_at_once():
    seen = record([10] * 400)

    assert recovered_s(seen, broken_s=START_S + 1, until_s=START_S + 4, wanted_rps=900) == 0


def test_the_file_is_read(tmp_path):
    file = tmp_path / "record.json"
    failure = [100.5, 100.4, 100.1, "reset", 0, 40001]
    content = {"start_s": 100.0, "window_s": 0.01, "windows": [[3, 0, 1, 800]], "failures": [failure]}
    file.write_text(json.dumps(content))

    seen = read_record(file)

    assert (seen.good, seen.slowest_us) == ([3], [800])
    assert seen.failures_between(100.0, 101.0)[0].port == 40001
    assert seen.failures_between(101.0, 102.0) == []
