"""Rendered metrics are read back with Prometheus' own parser."""

import itertools
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from penstock.observe.metrics import LATENCY_BUCKETS_S, ROWS_BUCKETS, MetricSet

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

texts = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.floats(allow_nan=True, allow_infinity=True) | st.integers(-(2**70), 2**70).map(float)


def read(metrics: MetricSet) -> Samples:
    samples: Samples = {}
    for family in text_string_to_metric_families(metrics.render()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples
            samples[key] = sample.value
    return samples


def test_families() -> None:
    metrics = MetricSet()
    metrics.counter("requests_total", "Requests.", model="a").value += 2
    metrics.counter("requests_total", "Requests.", model="b").value += 0.5
    metrics.gauge("rows", "Rows that wait.", lambda: 7)
    families = {family.name: family for family in text_string_to_metric_families(metrics.render())}
    assert families["requests"].type == "counter"
    assert families["requests"].documentation == "Requests."
    assert {sample.labels["model"]: sample.value for sample in families["requests"].samples} == {
        "a": 2,
        "b": 0.5,
    }
    assert families["rows"].type == "gauge"
    assert [sample.value for sample in families["rows"].samples] == [7]
    assert list(text_string_to_metric_families(MetricSet().render())) == []


def test_a_measure_that_stands_counts_on() -> None:
    metrics = MetricSet()
    first = metrics.counter("requests_total", "Requests.", model="a", version="1")
    assert metrics.counter("requests_total", "Requests.", version="1", model="a") is first
    assert metrics.counter("requests_total", "Requests.", model="a", version="2") is not first
    times = metrics.histogram("seconds", "Time.", (1.0,))
    assert metrics.histogram("seconds", "Time.", (1.0,)) is times


def test_a_gauge_has_one_reader_at_a_time() -> None:
    metrics = MetricSet()
    metrics.gauge("rows", "Rows.", lambda: 1, model="a")
    with pytest.raises(AssertionError):
        metrics.gauge("rows", "Rows.", lambda: 2, model="a")
    metrics.remove("rows", model="a")
    metrics.gauge("rows", "Rows.", lambda: 2, model="a")
    assert 'rows{model="a"} 2' in metrics.render()


@example(one='"', other="\n")
@example(one="\\n", other="\\")
@given(texts, texts)
def test_label_values_are_escaped(one: str, other: str) -> None:
    metrics = MetricSet()
    metrics.counter("c_total", "Help.", one=one, other=other).value = 3
    assert read(metrics) == {("c_total", frozenset({("one", one), ("other", other)})): 3}


@example("\n")
@example("\\n")
@given(texts)
def test_help_is_escaped(text: str) -> None:
    metrics = MetricSet()
    metrics.counter("c_total", f"Help {text}.").value = 3
    (family,) = text_string_to_metric_families(metrics.render())
    assert family.documentation == f"Help {text}."


@given(numbers)
def test_values_keep_their_precision(value: float) -> None:
    metrics = MetricSet()
    metrics.gauge("g", "Gauge.", lambda: value)
    (given_back,) = read(metrics).values()
    assert given_back == value or (math.isnan(given_back) and math.isnan(value))


@given(st.lists(st.floats(0, 20) | st.sampled_from(LATENCY_BUCKETS_S)))
def test_histogram_counts_what_is_at_or_under_each_bound(observed: list[float]) -> None:
    metrics = MetricSet()
    histogram = metrics.histogram("h_seconds", "Seconds.", LATENCY_BUCKETS_S, model="m")
    for value in observed:
        histogram.observe(value)
    samples = read(metrics)
    model = ("model", "m")
    for bound in (*LATENCY_BUCKETS_S, math.inf):
        shown = [
            value
            for (name, labels), value in samples.items()
            if name == "h_seconds_bucket" and float(dict(labels)["le"]) == bound
        ]
        assert shown == [sum(value <= bound for value in observed)]
    assert samples["h_seconds_count", frozenset({model})] == len(observed)
    assert samples["h_seconds_sum", frozenset({model})] == pytest.approx(sum(observed))


def test_buckets_ascend() -> None:
    for bounds in (LATENCY_BUCKETS_S, ROWS_BUCKETS):
        assert list(bounds) == sorted(set(bounds))
    assert (LATENCY_BUCKETS_S[0], LATENCY_BUCKETS_S[-1]) == (0.0001, 10.0)
    assert max(b / a for a, b in itertools.pairwise(LATENCY_BUCKETS_S)) < 1.7
