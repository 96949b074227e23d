import os

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from penstock.observe.metrics import MetricSet
from penstock.observe.process import add_process_metrics, resident_bytes


def test_measures_agree_with_psutil() -> None:
    metrics = MetricSet()
    add_process_metrics(metrics)
    values = {
        sample.name: sample.value
        for family in text_string_to_metric_families(metrics.render())
        for sample in family.samples
    }
    process = psutil.Process()
    times = process.cpu_times()
    assert values["process_resident_memory_bytes"] == pytest.approx(process.memory_info().rss, rel=0.2)
    assert values["process_cpu_seconds_total"] == pytest.approx(times.user + times.system, abs=0.5)
    assert values["process_open_fds"] == pytest.approx(process.num_fds(), abs=3)
    assert resident_bytes() > 2**20


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a list of descriptors the rest is still shown."""

    def refuse(path: str) -> list[str]:
        raise PermissionError(path)

    monkeypatch.setattr(os, "listdir", refuse)
    metrics = MetricSet()
    add_process_metrics(metrics)
    assert "process_open_fds NaN" in metrics.render()
