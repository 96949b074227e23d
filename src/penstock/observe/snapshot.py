"""Measures of several processes added up: what a process had counted stays counted when it is gone."""

import math
from collections.abc import Callable, Iterable, Sequence

import msgspec

from penstock.observe.exposition import Labels, render_families

__all__ = ["MetricFamily", "MetricSample", "MetricTotals"]


class MetricSample(msgspec.Struct, frozen=True, array_like=True):
    """One value. `suffix` follows the family's name, `further` the member's labels (a bucket's bound)."""

    labels: Labels
    suffix: str
    further: Labels
    value: float


class MetricFamily(msgspec.Struct, frozen=True, array_like=True):
    """The measures of one name."""

    name: str
    kind: str
    text: str
    samples: tuple[MetricSample, ...]


class MetricTotals:
    """The sum over processes that live, and over those that have lived.

    Counters and histograms are added over all of them, so a sum never runs backwards when a process ends: what
    its last snapshot said stays in. They are added exactly and rounded once: where the order of additions
    showed in its last digit, a sum could run backwards by it, and Prometheus would take that for a restart.
    Gauges are added over those that live; a gauge of a process itself (by its name, `process_…`) is shown with
    the label `worker`.
    """

    def __init__(self) -> None:
        self._retired: dict[str, MetricFamily] = {}
        """With as many samples a series as it takes to be exact."""

    def retire(self, families: Iterable[MetricFamily]) -> None:
        """Keeps what a process that has ended had counted."""
        cumulative = [family for family in families if family.kind != "gauge"]
        self._retired = {
            family.name: family for family in _add([*self._retired.values(), *cumulative], _exact_sum)
        }

    def families(self, living: Iterable[tuple[str, Sequence[MetricFamily]]]) -> list[MetricFamily]:
        """All families; `living` are the workers' names and snapshots."""
        parts = list(self._retired.values())
        for worker, families in living:
            parts += [_labelled(family, worker) if _of_process(family) else family for family in families]
        return _add(parts, _rounded_sum)

    def render(self, living: Iterable[tuple[str, Sequence[MetricFamily]]]) -> str:
        """Everything, in the text format that Prometheus reads."""
        return render_families(
            (family.name, family.kind, family.text, _rows(family)) for family in self.families(living)
        )


def _rows(family: MetricFamily) -> Iterable[tuple[str, Labels, float]]:
    return [(sample.suffix, sample.labels + sample.further, sample.value) for sample in family.samples]


def _of_process(family: MetricFamily) -> bool:
    return family.kind == "gauge" and family.name.startswith("process_")


def _labelled(family: MetricFamily, worker: str) -> MetricFamily:
    samples = tuple(
        MetricSample((*sample.labels, ("worker", worker)), sample.suffix, sample.further, sample.value)
        for sample in family.samples
    )
    return MetricFamily(family.name, family.kind, family.text, samples)


def _exact_sum(values: Sequence[float]) -> list[float]:
    """A few numbers whose sum is, without any rounding, that of `values`."""
    if not all(map(math.isfinite, values)):
        return [sum(values)]
    total = [math.fsum(values)]
    while rest := math.fsum([*values, *(-part for part in total)]):
        total.append(rest)
    return total


def _rounded_sum(values: Sequence[float]) -> list[float]:
    return [math.fsum(values) if all(map(math.isfinite, values)) else sum(values)]


def _add(parts: Iterable[MetricFamily], total: Callable[[Sequence[float]], list[float]]) -> list[MetricFamily]:
    """One family a name, each series summed up by `total`, in the order in which they first appear."""
    added: dict[str, tuple[MetricFamily, dict[Labels, dict[tuple[str, Labels], list[float]]]]] = {}
    for family in parts:
        _, members = added.setdefault(family.name, (family, {}))
        for sample in family.samples:
            member = members.setdefault(sample.labels, {})
            series = (sample.suffix, sample.further)
            member.setdefault(series, []).append(sample.value)
    return [
        MetricFamily(
            family.name,
            family.kind,
            family.text,
            tuple(
                MetricSample(labels, suffix, further, value)
                for labels, member in members.items()
                for (suffix, further), values in member.items()
                for value in total(values)
            ),
        )
        for family, members in added.values()
    ]
