"""Asks for liveness on a fresh connection every 20 ms: does the port answer, and how fast?"""

import http.client
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

from benchmarks.harness.penstock import ask

__all__ = ["Prober", "Probes"]

EVERY_S = 0.02
FAILURES_MAX = 1000
JOIN_S = 15.0


@dataclass(kw_only=True)
class Probes:
    """Counts by outcome (`200`, another status, or the name of what was raised); times of what was not 200; and
    the slowest, with when it was asked.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[float, str]] = field(default_factory=list)
    slowest_s: float = 0.0
    slowest_at_s: float = 0.0

    @property
    def failures(self) -> int:
        """Those not answered with 200."""
        return self.outcomes.total() - self.outcomes["200"]

    def add(self, outcome: str, asked_s: float, took_s: float) -> None:
        self.outcomes[outcome] += 1
        if outcome != "200" and len(self.failed) < FAILURES_MAX:
            self.failed.append((asked_s, outcome))
        if took_s > self.slowest_s:
            self.slowest_s, self.slowest_at_s = took_s, asked_s


class Prober:
    """A thread, as a context. A probe that takes longer than its turn delays the next and is seen as slow."""

    def __init__(self, port: int, path: str = "/v2/health/live") -> None:
        self._port = port
        self._path = path
        self._probes = Probes()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prober")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def finish(self) -> Probes:
        self._stop.set()
        self._thread.join(JOIN_S)
        return self._probes

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            asked_s = time.monotonic()
            try:
                outcome = str(ask(self._port, self._path).status)
            except (OSError, http.client.HTTPException) as error:
                outcome = type(error).__name__
            self._probes.add(outcome, asked_s, time.monotonic() - asked_s)
