"""Measures of this process, under the names that Prometheus' own clients give them."""

import os
import resource
import sys
from pathlib import Path

from penstock.observe.metrics import MetricSet

__all__ = ["add_process_metrics", "resident_bytes"]


def add_process_metrics(metrics: MetricSet) -> None:
    metrics.gauge("process_resident_memory_bytes", "Resident memory.", resident_bytes)
    metrics.gauge("process_cpu_seconds_total", "Processor time, user and system.", _cpu_s)
    metrics.gauge("process_open_fds", "Open file descriptors.", _open_descriptors)


def resident_bytes() -> float:
    """Resident memory in bytes; where the system does not tell, the most there ever was."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return pages * os.sysconf("SC_PAGE_SIZE")


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _open_descriptors() -> float:
    try:
        return len(os.listdir("/dev/fd"))
    except OSError:
        return float("nan")
