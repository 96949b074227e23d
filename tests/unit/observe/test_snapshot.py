"""Sums over processes, against sums of exact fractions."""

from fractions import Fraction

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from penstock.observe.metrics import MetricSet
from penstock.observe.snapshot import MetricFamily, MetricTotals

increments = st.floats(0, 1e6, allow_subnormal=False)
events = st.lists(st.tuples(st.sampled_from(["count", "die"]), st.integers(0, 2), increments), max_size=40)


class Process:
    def __init__(self) -> None:
        self.metrics = MetricSet()
        self.counter = self.metrics.counter("c_total", "Counter.", model="m")
        self.histogram = self.metrics.histogram("h_seconds", "Histogram.", (1.0, 1000.0))
        self.metrics.gauge("g", "Gauge.", lambda: 2.0, model="m")
        self.metrics.gauge("process_resident_memory_bytes", "Memory.", lambda: 5.0)


def shown(
    totals: MetricTotals, living: dict[str, Process]
) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = totals.render((name, process.metrics.snapshot()) for name, process in living.items())
    samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in samples
            samples[key] = sample.value
    return samples


@example([("count", 0, 0.1), ("count", 1, 0.2), ("count", 2, 0.3), ("die", 1, 0.0), ("die", 0, 0.0)])
@given(events)
def test_what_is_counted_never_runs_backwards(happened: list[tuple[str, int, float]]) -> None:
    totals = MetricTotals()
    living = {str(place): Process() for place in range(3)}
    ever = list(living.values())
    born = 3
    before: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    observed = 0
    for what, place, value in happened:
        name = sorted(living, key=int)[place]
        if what == "count":
            living[name].counter.value += value
            living[name].histogram.observe(value)
            observed += 1
        else:
            totals.retire(living.pop(name).metrics.snapshot())
            living[str(born)] = Process()
            ever.append(living[str(born)])
            born += 1
        now = shown(totals, living)
        for key, amount in before.items():
            if key[0].startswith(("c_", "h_")):
                assert now[key] >= amount
        before = now
        exact = sum(Fraction(process.counter.value) for process in ever)
        assert now["c_total", (("model", "m"),)] == float(exact)
        assert now["h_seconds_count", ()] == now["h_seconds_bucket", (("le", "+Inf"),)] == observed
        assert now["g", (("model", "m"),)] == 6.0, "gauges are of the living alone"
        workers = {dict(labels)["worker"] for key, labels in now if key == "process_resident_memory_bytes"}
        assert workers == set(living)


def test_a_snapshot_crosses_processes_as_it_is() -> None:
    process = Process()
    process.counter.value = 0.1
    process.histogram.observe(3.0)
    snapshot = process.metrics.snapshot()
    content = msgspec.msgpack.encode(snapshot)
    assert msgspec.msgpack.decode(content, type=tuple[MetricFamily, ...]) == snapshot


@given(st.lists(st.sampled_from([0.1, 0.5, 1.0, 7.5, 2000.0]), max_size=20))
def test_one_process_alone_is_shown_as_it_shows_itself(observed: list[float]) -> None:
    process = Process()
    metrics = MetricSet()
    histogram = metrics.histogram("h", 'A "help"\nof two lines.', (1.0, 1000.0), model="a\nb")
    for value in observed:
        histogram.observe(value)
        process.counter.value += value
    assert MetricTotals().render([("1", metrics.snapshot())]) == metrics.render()


def test_values_that_are_no_numbers_do_not_break_a_sum() -> None:
    metrics = MetricSet()
    metrics.gauge("g", "Gauge.", lambda: float("inf"))
    other = MetricSet()
    other.gauge("g", "Gauge.", lambda: float("-inf"))
    assert "g NaN" in MetricTotals().render([("1", metrics.snapshot()), ("2", other.snapshot())])
