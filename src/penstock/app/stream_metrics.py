"""What a stream worker counts, as metrics: added up by stage."""

from collections.abc import Sequence

from penstock.observe.metrics import Counter, MetricSet
from penstock.streams.topology import Topology
from penstock.streams.worker_config import PartitionStatus

__all__ = ["StreamMetrics"]

_COUNTED = {
    "rows": ("penstock_stream_events_total", "Events that a stage has taken in."),
    "late": ("penstock_stream_late_events_total", "Events that came later than their stream allows."),
    "dead": ("penstock_stream_dead_letters_total", "Events that became dead letters."),
    "crashes": (
        "penstock_stream_crashes_total",
        "Ends of a worker in a stage's functions, once what it ended of is found or has got through.",
    ),
    "expired": (
        "penstock_stream_expired_records_total",
        "Records that retention let go of before they were read.",
    ),
}
_MEASURED = {
    "lag": ("penstock_stream_lag_records", "Records that wait in a stage's partitions."),
    "keys": ("penstock_stream_state_keys", "Keys that a stage's operators hold."),
    "stuck": ("penstock_stream_stuck_partitions", "Partitions of a stage that stand still."),
}


class StreamMetrics:
    """Of one worker. Counters go on where a partition comes and goes."""

    def __init__(self, metrics: MetricSet, planned: Topology) -> None:
        self._status: tuple[PartitionStatus, ...] = ()
        self._seen: dict[tuple[str, int, str], int] = {}
        self._counters: dict[tuple[str, str], Counter] = {}
        for stage in planned.stages:
            for field, (name, text) in _COUNTED.items():
                self._counters[stage.name, field] = metrics.counter(name, text, stage=stage.name)
            for field, (name, text) in _MEASURED.items():
                self._measure(metrics, name, text, stage.name, field)

    def tell(self, status: Sequence[PartitionStatus]) -> None:
        """How the worker's partitions stand now."""
        held = {(each.topic, each.partition) for each in status}
        self._seen = {key: value for key, value in self._seen.items() if key[:2] in held}
        stages = {stage for stage, _ in self._counters}
        for each in status:
            for field in _COUNTED if each.stage in stages else ():
                key = (each.topic, each.partition, field)
                now = getattr(each, field)
                # Fewer than before: it was lost and is held anew.
                before = self._seen.get(key, 0)
                self._counters[each.stage, field].value += now - before if now >= before else now
                self._seen[key] = now
        self._status = tuple(status)

    def _measure(self, metrics: MetricSet, name: str, text: str, stage: str, field: str) -> None:
        def read() -> float:
            return float(sum(getattr(each, field) for each in self._status if each.stage == stage))

        metrics.gauge(name, text, read, stage=stage)
