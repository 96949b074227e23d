"""Keeping the lease of a worker while a batch takes its time.

A function may take up to `function_timeout_s`, and a million windows that close at once take seconds: longer
than a lease, which polls renew. Whoever is stopped, or hangs with the interpreter's lock, renews nothing.
"""

import logging
from collections.abc import Callable
from threading import Event, Thread

from penstock.log.port import Consumer

__all__ = ["LeaseKeeper"]

log = logging.getLogger(__name__)

EVERY_S = 0.5
"""A consumer does not write each time, but a few times a lease."""


class LeaseKeeper:
    """Renews the lease of the consumer that there is, if there is one, from a thread of its own."""

    def __init__(self, consumer: Callable[[], Consumer | None], every_s: float = EVERY_S) -> None:
        self._consumer = consumer
        self._every_s = every_s
        self._stopped = Event()
        self._thread = Thread(target=self._keep, name="lease", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._stopped.wait(self._every_s):
            consumer = self._consumer()
            if consumer is None:
                continue
            try:
                consumer.renew()
            except Exception:  # the one who works finds out what is wrong
                log.exception("a lease was not renewed")
