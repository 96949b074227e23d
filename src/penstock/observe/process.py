"""Measures of this process, under the names that Prometheus' own clients give them."""

import os
import resource

from penstock.core.memory import resident_bytes
from penstock.observe.metrics import MetricSet

__all__ = ["add_process_metrics", "processor_s"]


def add_process_metrics(metrics: MetricSet) -> None:
    metrics.gauge("process_resident_memory_bytes", "Resident memory.", resident_bytes)
    metrics.counter_read("process_cpu_seconds_total", "Processor time, user and system.", processor_s)
    metrics.gauge("process_open_fds", "Open file descriptors.", _open_descriptors)


def processor_s() -> float:
    """Processor time of this process so far, user and system, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _open_descriptors() -> float:
    try:
        return len(os.listdir("/dev/fd"))
    except OSError:
        return float("nan")
