"""What a stream worker counts, as metrics."""

import polars as pl

import penstock as ps
from penstock.app.stream_metrics import StreamMetrics
from penstock.observe.metrics import MetricSet
from penstock.observe.snapshot import MetricTotals
from penstock.streams.topology import topology
from penstock.streams.worker_config import PartitionStatus


def test_partitions_are_added_up_by_stage() -> None:
    app = ps.App("app")
    app.stream("clicks", schema={"key": pl.String}, partitions=2).into("out")
    metrics = MetricSet()
    told = StreamMetrics(metrics, topology(app.streams.graph, {}))
    stuck = PartitionStatus(
        stage="clicks", topic="clicks", partition=0, state="stuck", problem="damaged", lag=5, rows=3
    )
    runs = PartitionStatus(
        stage="clicks", topic="clicks", partition=1, state="running", lag=2, rows=10, dead=1, crashes=3
    )
    told.tell([stuck, runs])
    told.tell([stuck])
    told.tell([stuck, PartitionStatus(stage="clicks", topic="clicks", partition=1, state="running", rows=4)])
    text = MetricTotals().render([("one", metrics.snapshot())])
    for line in (
        'penstock_stream_events_total{stage="clicks"} 17',
        'penstock_stream_dead_letters_total{stage="clicks"} 1',
        'penstock_stream_crashes_total{stage="clicks"} 3',
        'penstock_stream_stuck_partitions{stage="clicks"} 1',
        'penstock_stream_lag_records{stage="clicks"} 5',
    ):
        assert line in text, text
