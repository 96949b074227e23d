"""Processor time and memory between two times, from samples."""

import pytest
from benchmarks.surge.usage import Sample, cpu_between_s, growth_bytes

SAMPLES = [
    Sample(at_s=1.0, cpu_s=10.0, anonymous_bytes=100),
    Sample(at_s=2.0, cpu_s=10.5, anonymous_bytes=150),
    Sample(at_s=3.0, cpu_s=12.5, anonymous_bytes=400),
    Sample(at_s=4.0, cpu_s=12.5, anonymous_bytes=120),
]


def test_time_is_taken_from_the_lines_between_samples():
    assert cpu_between_s(SAMPLES, 1.5, 2.5) == pytest.approx(0.25 + 1.0)


def test_outside_of_the_samples_nothing_is_known_to_be_used():
    assert cpu_between_s(SAMPLES, 0.0, 9.0) == pytest.approx(2.5)
    assert cpu_between_s([], 0.0, 1.0) == 0.0


def test_growth_is_the_most_during_over_the_last_before():
    assert growth_bytes(SAMPLES, 1.5, 3.5) == 300
    assert growth_bytes(SAMPLES, 3.5, 5.0) == 0
    assert growth_bytes(SAMPLES, 0.5, 5.0) == 0  # nothing is known of before
