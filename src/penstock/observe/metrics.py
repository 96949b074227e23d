"""Counters, gauges and histograms, shown in the Prometheus text format (version 0.0.4).

Measures are updated by one thread, the event loop's, in tens of nanoseconds; there is nothing to lock.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from penstock.observe.exposition import Labels, format_number, render_families
from penstock.observe.snapshot import MetricFamily, MetricSample

__all__ = ["LATENCY_BUCKETS_S", "ROWS_BUCKETS", "Counter", "Gauge", "Histogram", "MetricSet"]

LATENCY_BUCKETS_S = (
    *(float(f"{mantissa}e{exponent}") for exponent in range(-4, 1) for mantissa in (1.0, 1.5, 2.5, 4.0, 6.5)),
    10.0,
)
"""0.1 ms to 10 s, five steps a decade: a quantile read from them is off by at most about a quarter."""

ROWS_BUCKETS = tuple(float(2**power) for power in range(13))


class _Measure(Protocol):
    def samples(self) -> list[tuple[str, Labels, float]]:
        """(suffix of the name, further labels, value)."""
        ...


M = TypeVar("M", bound=_Measure)


class Counter:
    """Only goes up. Add to `value` in place; it is read as it is."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def samples(self) -> list[tuple[str, Labels, float]]:
        return [("", (), self.value)]


class Gauge:
    """A value read when it is asked for."""

    __slots__ = ("_read",)

    def __init__(self, read: Callable[[], float]) -> None:
        self._read = read

    def samples(self) -> list[tuple[str, Labels, float]]:
        return [("", (), float(self._read()))]


class Histogram:
    """Counts observations by bucket; `bounds` are the buckets' inclusive upper ends, ascending."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def samples(self) -> list[tuple[str, Labels, float]]:
        cumulative = 0
        found: list[tuple[str, Labels, float]] = []
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            cumulative += count
            found.append(("_bucket", (("le", format_number(bound)),), cumulative))
        return [*found, ("_sum", (), self._sum), ("_count", (), cumulative)]


class MetricSet:
    """All measures of a process, in families of one name, kind and help text."""

    def __init__(self) -> None:
        self._families: dict[str, tuple[str, str, dict[Labels, _Measure]]] = {}

    def counter(self, name: str, text: str, **labels: str) -> Counter:
        """The counter with these labels: the one that there is already, which counts on, or a new one."""
        return self._add(name, "counter", text, labels, Counter())

    def gauge(self, name: str, text: str, read: Callable[[], float], **labels: str) -> Gauge:
        return self._add(name, "gauge", text, labels, Gauge(read))

    def counter_read(self, name: str, text: str, read: Callable[[], float], **labels: str) -> None:
        """A counter that somebody else keeps, and that is read when it is asked for."""
        self._add(name, "counter", text, labels, Gauge(read))

    def histogram(self, name: str, text: str, bounds: Sequence[float], **labels: str) -> Histogram:
        """The histogram with these labels, likewise."""
        return self._add(name, "histogram", text, labels, Histogram(bounds))

    def _add(self, name: str, kind: str, text: str, labels: dict[str, str], measure: M) -> M:
        _, _, members = self._families.setdefault(name, (kind, text, {}))
        key = tuple(sorted(labels.items()))
        standing = members.get(key)
        if standing is not None:
            assert kind != "gauge", f"{name} with labels {labels} is measured twice"
            assert isinstance(standing, type(measure)), f"{name} is measured as another kind"
            return standing
        members[key] = measure
        return measure

    def remove(self, name: str, **labels: str) -> None:
        """Forgets a gauge whose subject is gone. Counters stay: they must not run backwards."""
        _, _, members = self._families[name]
        del members[tuple(sorted(labels.items()))]

    def render(self) -> str:
        """Everything, in the text format that Prometheus reads."""
        return render_families(
            (name, kind, text, [row for labels, measure in members.items() for row in _rows(labels, measure)])
            for name, (kind, text, members) in self._families.items()
        )

    def snapshot(self) -> tuple[MetricFamily, ...]:
        """Everything, as it is now, to be sent to another process."""
        return tuple(
            MetricFamily(
                name,
                kind,
                text,
                tuple(
                    MetricSample(labels, suffix, further, float(value))
                    for labels, measure in members.items()
                    for suffix, further, value in measure.samples()
                ),
            )
            for name, (kind, text, members) in self._families.items()
        )


def _rows(labels: Labels, measure: _Measure) -> list[tuple[str, Labels, float]]:
    return [(suffix, labels + further, value) for suffix, further, value in measure.samples()]
