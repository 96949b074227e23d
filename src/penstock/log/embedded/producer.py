"""Appends on their own."""

import threading
from concurrent.futures import Future, wait

from penstock.core.errors import TooLarge
from penstock.log.embedded.consumer import LogParts
from penstock.log.embedded.pending import Append
from penstock.log.records import Records, TopicPartition

__all__ = ["EmbeddedProducer"]


class EmbeddedProducer:
    """Thread-safe. Waits, within `append`, while the log's queue is at its bounds."""

    def __init__(self, parts: LogParts) -> None:
        self._parts = parts
        self._lock = threading.Lock()
        self._open: set[Future[int]] = set()
        self._closed = False

    def append(self, target: TopicPartition, records: Records) -> "Future[int]":
        assert not self._closed, "the producer is closed"
        try:
            append = Append.of(target, records, self._parts.limits)
        except TooLarge as error:
            refused: Future[int] = Future()
            refused.set_exception(error)
            return refused
        with self._lock:
            self._open.add(append.future)
        append.future.add_done_callback(self._open.discard)
        self._parts.writer.append(append)
        return append.future

    def close(self) -> None:
        self._closed = True
        with self._lock:
            left = list(self._open)
        wait(left)
