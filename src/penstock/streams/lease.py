"""Keeping the lease of a worker while a batch takes its time.

A function may take up to `function_timeout_s`, and a million windows that close at once take seconds: longer
than a lease, which polls renew. Whoever is stopped, or has a function that holds the interpreter's lock, renews
nothing: a lease is longer than such a function may take. Nor is anything renewed for who has given no sign of
life for longer than that.
"""

import logging
from collections.abc import Callable
from threading import Event, Thread

from penstock.core.clock import Clock
from penstock.log.port import Consumer

__all__ = ["LeaseKeeper", "lease_for"]

log = logging.getLogger(__name__)

EVERY_S = 0.5
"""A consumer does not write each time, but a few times a lease."""
RENEWED_SHARE = 0.25
"""A consumer writes once so much of its lease has passed: the rest is what a function is sure of."""
MARGIN_S = 3.0
"""Beyond what a function may take: until its process has ended, or somebody has renewed its lease."""


def lease_for(lease_s: float, timeout_s: float) -> float:
    """A worker's lease where its functions may take `timeout_s`, and hold the interpreter's lock all the while.

    Were it shorter, two workers would take the partition from each other for ever, each at the same record.
    """
    return max(lease_s, (timeout_s + MARGIN_S) / (1 - RENEWED_SHARE))


class LeaseKeeper:
    """Renews the lease of the consumer that there is, if there is one, from a thread of its own, until
    `silent_s` after the last sign of life.
    """

    def __init__(
        self,
        consumer: Callable[[], Consumer | None],
        clock: Clock,
        silent_s: float,
        every_s: float = EVERY_S,
    ) -> None:
        self._consumer = consumer
        self._clock = clock
        self._silent_s = silent_s
        self._every_s = every_s
        self._alive_s = clock.monotonic()
        self._stopped = Event()
        self._thread = Thread(target=self._keep, name="lease", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def alive(self) -> None:
        """The one who works has come somewhere."""
        self._alive_s = self._clock.monotonic()

    def _keep(self) -> None:
        while not self._stopped.wait(self._every_s):
            consumer = self._consumer()
            if consumer is None or self._clock.monotonic() - self._alive_s > self._silent_s:
                continue
            try:
                consumer.renew()
            except Exception:  # the one who works finds out what is wrong
                log.exception("a lease was not renewed")
