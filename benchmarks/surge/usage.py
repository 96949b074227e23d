"""What a server takes while it is under load: processor time and memory, sampled from outside."""

import threading
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import psutil

from benchmarks.harness.processes import Service, anonymous_bytes

__all__ = ["Sample", "Usage", "cpu_between_s", "growth_bytes"]

PERIOD_S = 0.05
JOIN_S_MAX = 5.0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """All processes together: `cpu_s` used so far in user and kernel, memory allocated and resident."""

    at_s: float
    cpu_s: float
    anonymous_bytes: int


class Usage:
    """Samples a service's processes in the background, as a context; those it has at the start."""

    def __init__(self, service: Service) -> None:
        self.samples: list[Sample] = []
        self._processes = service.processes()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="usage", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(JOIN_S_MAX)

    def cpu_s(self, from_s: float, to_s: float) -> float:
        return cpu_between_s(self.samples, from_s, to_s)

    def growth_bytes(self, from_s: float, to_s: float) -> int:
        return growth_bytes(self.samples, from_s, to_s)

    def _sample(self) -> None:
        while not self._over.wait(PERIOD_S):
            sample = _sample(self._processes)
            if sample is not None:
                self.samples.append(sample)


def _sample(processes: Sequence[psutil.Process]) -> Sample | None:
    """None where one of them has ended meanwhile: a sum without it would say that time went backwards."""
    at_s, cpu_s, memory_bytes = time.monotonic(), 0.0, 0
    try:
        for process in processes:
            times = process.cpu_times()
            cpu_s += times.user + times.system
            memory_bytes += anonymous_bytes(process)
    except (psutil.Error, OSError, LookupError):
        return None
    return Sample(at_s=at_s, cpu_s=cpu_s, anonymous_bytes=memory_bytes)


def cpu_between_s(samples: Sequence[Sample], from_s: float, to_s: float) -> float:
    """Processor time used between two times, on the lines between samples; 0 where there are no two."""
    return _cpu_at_s(samples, to_s) - _cpu_at_s(samples, from_s)


def _cpu_at_s(samples: Sequence[Sample], at_s: float) -> float:
    if not samples:
        return 0.0
    place = bisect_left(samples, at_s, key=lambda sample: sample.at_s)
    if place in (0, len(samples)):
        return samples[min(place, len(samples) - 1)].cpu_s
    before, after = samples[place - 1], samples[place]
    share = (at_s - before.at_s) / (after.at_s - before.at_s)
    return before.cpu_s + share * (after.cpu_s - before.cpu_s)


def growth_bytes(samples: Sequence[Sample], from_s: float, to_s: float) -> int:
    """By how much the most memory between two times exceeds what it was just before; 0 where it does not."""
    before = [sample.anonymous_bytes for sample in samples if sample.at_s < from_s][-1:]
    during = [sample.anonymous_bytes for sample in samples if from_s <= sample.at_s < to_s]
    return max(0, max(during) - before[0]) if before and during else 0
